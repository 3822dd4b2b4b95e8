"""``latent-mpc head compare-distances``: temporal distances side by side, by rank correlation and by what a planner does with them."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from arm_model import load_arm
from latent_mpc.evaluate import Evaluation, evaluate
from world_model.bundle import BundleError, read_manifest, write_manifest
from world_model.config import DistanceConfig
from world_model.data import EpisodeDataset
from world_model.export import export_bundle
from world_model.graphs import distance_graph
from world_model.heads.distance import build_distance, fit_distance
from world_model.heads.distance_figures import distance_figures
from world_model.heads.latents import encode_episodes, open_latent_model
from world_model.heads.report import Report

_HELD_OUT_SHARE = 0.1
# Every search ends by itself: what is compared does not depend on how busy the machine is.
_UNHURRIED_S = 600.0


@dataclass(frozen=True)
class Comparison:
    """Distances ``kinds`` on the latents of ``model`` (a bundle or a run) from ``data``; their bundles go to ``out``.

    Each plays ``episodes`` of ``task`` for each of ``seeds`` with each of ``policies``; with no episodes, only rank correlations are measured.
    """

    model: Path
    data: Path
    out: Path
    kinds: tuple[str, ...]
    task: str
    episodes: int
    seeds: tuple[int, ...]
    policies: tuple[str, ...]
    manifest: Path | None = None
    most_episodes: int = 2000
    workers: int = 1
    seed: int = 0
    settings: DistanceConfig = dataclasses.field(default_factory=DistanceConfig)


def compare_distances(comparison: Comparison, report: Report) -> dict[str, Any]:
    """Fit every distance on nine tenths of the episodes, judge it on the last tenth and in closed loop.

    Raises:
        BundleError, DatasetError: the model or the data cannot be used.
        EvaluationError: the closed loop cannot be played as asked.
    """
    comparison.out.mkdir(parents=True, exist_ok=True)
    bundle = _bundle(comparison)
    model = open_latent_model(bundle)
    data = EpisodeDataset(comparison.data)
    chosen = np.random.default_rng([comparison.seed, 0]).permutation(data.episodes)[: comparison.most_episodes]
    latents = torch.from_numpy(encode_episodes(model, data, chosen, report))
    state = data.state()
    held_out = max(1, round(_HELD_OUT_SHARE * len(chosen)))
    rows: dict[str, Any] = {}
    for kind in comparison.kinds:
        settings = dataclasses.replace(comparison.settings, kind=kind)
        torch.manual_seed(comparison.seed)
        head = build_distance(settings, model.latent_dim)
        begun = time.process_time()
        fit_distance(settings, head, latents[:-held_out], torch.Generator().manual_seed(comparison.seed + 1), _named(report, kind))
        seconds = time.process_time() - begun
        true = None if state is None else state[chosen[-held_out:]]
        ranks = distance_figures(head, latents[-held_out:], true, np.random.default_rng([comparison.seed, 1]))
        variant = comparison.out / kind
        write_variant(bundle, variant, head, settings)
        rows[kind] = {"rank_correlation": ranks, "cpu_seconds": seconds, "bundle": str(variant), "success": _success(comparison, variant, report)}
    return {
        "model": {"name": comparison.model.name, "sha256": model.sha256},
        "data": str(comparison.data),
        "episodes": {"fit": len(chosen) - held_out, "held_out": held_out},
        "task": comparison.task,
        "played": comparison.episodes * len(comparison.seeds),
        "distances": rows,
    }


def _bundle(comparison: Comparison) -> Path:
    if (comparison.model / "manifest.json").is_file() or not (comparison.model / "learned.safetensors").is_file():
        return comparison.model
    exported = comparison.out / "model"
    export_bundle(comparison.model, exported, load_arm().joints)
    return exported


def _named(report: Report, kind: str) -> Report:
    return lambda _, done, of, numbers: report(kind, done, of, numbers)


def write_variant(bundle: Path, out: Path, head: nn.Module, settings: DistanceConfig) -> None:
    """A copy of ``bundle`` with another distance in it, whole or not at all; an earlier one in ``out`` is replaced.

    Raises:
        BundleError: ``out`` holds something else, or the bundle is damaged.
    """
    if out.exists() and not (out / "manifest.json").is_file():
        raise BundleError(f"{out} is not a model bundle and would be overwritten; choose another folder")
    manifest = read_manifest(bundle)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name in manifest.sha256:
            shutil.copy(bundle / name, staging / name)
        onnx.save(distance_graph(head, manifest.latent_dim), staging / "heads.onnx")
        others = {key: value for key, value in load_file(bundle / "weights.safetensors").items() if not key.startswith("distance/")}
        own = {f"distance/{key}": value.contiguous() for key, value in head.state_dict().items()}
        save_file(others | own, staging / "weights.safetensors")
        provenance = {**manifest.provenance, "distance": dataclasses.asdict(settings)}
        write_manifest(staging, dataclasses.replace(manifest, evaluation=[], provenance=provenance))
        staging.chmod(0o755)
        shutil.rmtree(out, ignore_errors=True)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _success(comparison: Comparison, bundle: Path, report: Report) -> dict[str, Any]:
    if not comparison.episodes:
        return {}
    asked = Evaluation(
        bundle, comparison.task, comparison.episodes, comparison.seeds, comparison.policies, comparison.manifest, comparison.workers, _UNHURRIED_S
    )
    result = evaluate(asked, bundle.with_name(f"{bundle.name}-outcomes.jsonl"), _played(report, bundle.name))
    return {name: {key: row[key] for key in ("success_rate", "ci95", "final_distance_m")} for name, row in result["policies"].items()}


def _played(report: Report, kind: str) -> Any:
    return lambda done, of: report(f"{kind}: episodes", done, of, {})


def distances_table(result: dict[str, Any]) -> str:
    """The result as text for a terminal or a page."""
    rows = result["distances"]
    first = next(iter(rows.values()))
    measures, policies = list(first["rank_correlation"]), list(first["success"])
    lines = [f"| distance | {' | '.join([*measures, *(f'success, {name}' for name in policies)])} | CPU s |"]
    lines.append("|---" * (2 + len(measures) + len(policies)) + "|")
    for kind, row in rows.items():
        cells = [f"{row['rank_correlation'][name]:.3f}" for name in measures]
        for name in policies:
            low, high = row["success"][name]["ci95"]
            cells.append(f"{100 * row['success'][name]['success_rate']:.0f} % [{100 * low:.0f}, {100 * high:.0f}]")
        lines.append(f"| {kind} | {' | '.join(cells)} | {row['cpu_seconds']:.0f} |")
    return "\n".join(lines)
