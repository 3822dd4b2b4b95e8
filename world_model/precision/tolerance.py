"""Whether what was calibrated in fp32, surprise and guardrail heads, holds in another precision: measured at export, asked by nodes at their start.

A threshold is worth what its verdicts are worth. So verdicts are compared, on recorded episodes that calibrated nothing: surprise tolerates as large
a share of changed verdicts as it is calibrated by default to raise false alarms among ordinary frames, a head as large a share of forbidden frames
let pass as its miss rate. Beyond that the bundle is written all the same, for plans do not depend on it: it is said in ``parity.json``, and on
``/diagnostics``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from world_model.bundle import FP32, PARITY, Manifest
from world_model.heads.onnx_head import OnnxHead
from world_model.protocol import F32
from world_model.runtime import OnnxModel
from world_model.runtimes.choice import RuntimeChoice
from world_model.surprise import SurpriseCalibration, SurpriseMonitor, carried_calibration

TOLERATED = 0.005
"""Share of ordinary frames that surprise's threshold may flag (``latent-mpc surprise --frame-rate``)."""


@dataclass(frozen=True)
class Episodes:
    """Recorded ones: ``frames (E, T+1, h, w, 3) uint8``, ``joints (E, T+1, J)`` rad, J = 0 without proprioception, and ``actions (E, T, A)``."""

    frames: NDArray[np.uint8]
    joints: F32
    actions: F32


def measure(reference: OnnxModel, other: OnnxModel, episodes: Episodes, heads: Sequence[OnnxHead]) -> dict[str, Any]:
    """``surprise``, where the bundle is calibrated, and ``heads`` by the hash of their graph: verdicts of ``other`` beside those of ``reference``."""
    found: dict[str, Any] = {}
    manifest = reference.manifest
    calibration, why_not = carried_calibration(manifest.surprise, manifest.sha256, manifest.latent_dim)
    if not why_not and calibration.threshold is not None:
        right, changed = _scores(reference, episodes, calibration), _scores(other, episodes, calibration)
        if np.isfinite(right).any():  # else the episodes are shorter than what is looked back on
            found["surprise"] = _surprise(right, changed, calibration.threshold)
    if heads:
        real, seen = (_latents(model, "encode", episodes).reshape(-1, model.latent_dim) for model in (reference, other))
        found["heads"] = {head.card.graph_sha256: _head(head.margins(real), head.margins(seen), head) for head in heads}
    return found


def _surprise(right: NDArray[np.float64], found: NDArray[np.float64], threshold: float) -> dict[str, float]:
    known = np.isfinite(right)
    right, found = right[known], np.where(np.isfinite(found[known]), found[known], np.inf)
    # Recordings may be quieter than what was calibrated on, and no frame near the threshold: so it is put where it would have been for them, too.
    own = float(np.quantile(right, 1.0 - TOLERATED, method="higher"))
    return {
        "frames": len(right),
        "threshold": threshold,
        "flagged_fp32": float((right > threshold).mean()),
        "flagged": float((found > threshold).mean()),
        "changed": float(((right > threshold) != (found > threshold)).mean()),
        "own_threshold": own,
        "changed_at_own": float(((right > own) != (found > own)).mean()),
        "mean": float(np.abs(found - right).mean()),
        "worst": float(np.abs(found - right).max()),
    }


def _head(right: NDArray[np.float32], found: NDArray[np.float32], head: OnnxHead) -> dict[str, Any]:
    forbidden = right < 0
    return {
        "name": head.name,
        "threshold": head.card.threshold,
        "frames": len(right),
        "forbidden": int(forbidden.sum()),
        "overlooked": float((found[forbidden] >= 0).mean()) if forbidden.any() else 0.0,
        "mean": float(np.abs(found - right).mean()),
        "worst": float(np.abs(found - right).max()),
    }


def _scores(model: OnnxModel, episodes: Episodes, calibration: SurpriseCalibration) -> NDArray[np.float64]:
    """Scores ``(E, T+1)`` as a node makes them; NaN where there is none yet."""
    latents = _latents(model, "witness", episodes)
    scores = np.full(latents.shape[:2], np.nan)
    for row, (seen, actions) in enumerate(zip(latents, episodes.actions, strict=True)):
        monitor = SurpriseMonitor(model, calibration, 1.0)
        places = np.concatenate([np.zeros((1, model.action_dim)), np.cumsum(actions, axis=0, dtype=np.float64)])
        for step, (latent, place) in enumerate(zip(seen, places, strict=True)):
            reading = monitor.see(float(step), latent, place)
            if reading is not None and step >= calibration.window:
                scores[row, step] = reading.score
    return scores


def _latents(model: OnnxModel, eye: Literal["encode", "witness"], episodes: Episodes) -> F32:
    """``(E, T+1, D)`` as encoder or witness see them: one by one, as a camera shows them.

    Several at once would share their scales in ``int8_dynamic``, and be other latents than a node's.
    """
    count, length = episodes.frames.shape[:2]
    frames = episodes.frames.reshape(count * length, 1, *episodes.frames.shape[2:])
    joints = episodes.joints.reshape(count * length, 1, -1)
    told = bool(joints.shape[-1])
    see = model.encode if eye == "encode" else model.witness
    seen = [see(frame, known if told else None) for frame, known in zip(frames, joints, strict=True)]
    return np.concatenate(seen).reshape(count, length, -1)


def doubts(bundle: str | Path, manifest: Manifest, choice: RuntimeChoice, heads: Sequence[OnnxHead] = ()) -> list[str]:
    """What is to be said, a line each, of the calibrations of ``manifest`` and ``heads`` in the precisions that ``choice`` runs; empty in fp32."""
    judging = {"rollout", "witness" if manifest.witness else "encoder"}
    running = sorted({graph.precision for graph in choice.graphs if graph.graph in judging} - {FP32})
    calibration, why_not = carried_calibration(manifest.surprise, manifest.sha256, manifest.latent_dim)
    measured = _measured(Path(bundle), manifest) if running else {}
    said = []
    for precision in running:
        row = measured.get(precision, {})
        if not why_not:
            said.append(_surprise_doubt(precision, row.get("surprise"), calibration.threshold))
        said += [_head_doubt(precision, row.get("heads", {}).get(head.card.graph_sha256), head) for head in heads]
    return [doubt for doubt in said if doubt]


def _measured(bundle: Path, manifest: Manifest) -> Mapping[str, Any]:
    if not manifest.parity:
        return {}
    found: Mapping[str, Any] = json.loads((bundle / PARITY).read_text()).get("calibrations", {})
    return found


def _surprise_doubt(precision: str, row: Mapping[str, Any] | None, threshold: float | None) -> str:
    if row is None or row["threshold"] != threshold:
        return f"surprise is calibrated in fp32, what {precision} does to it was not measured: `latent-mpc export --calibrate DATA` does"
    changed = max(row["changed"], row["changed_at_own"])
    if changed <= TOLERATED:
        return ""
    share = f"{100 * changed:.1f} % of recorded frames are judged otherwise"
    return f"surprise is calibrated in fp32; in {precision} {share}, more than {100 * TOLERATED:g} %: do not rely on it, or run in fp32"


def _head_doubt(precision: str, row: Mapping[str, Any] | None, head: OnnxHead) -> str:
    if row is None or row["threshold"] != head.card.threshold:
        how = "`latent-mpc export --score --guardrail-head` does"
        return f"head '{head.name}' is calibrated in fp32, what {precision} does to it was not measured: {how}"
    allowed = head.card.miss_rate or 0.0
    if row["overlooked"] <= allowed:
        return ""
    share = f"{100 * row['overlooked']:.1f} % of the recorded frames that it forbids pass"
    return f"head '{head.name}' is calibrated in fp32; in {precision} {share}, more than its miss rate of {100 * allowed:g} %: run in fp32"
