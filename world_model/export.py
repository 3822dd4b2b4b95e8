"""From trained networks to a bundle: ONNX graphs with normalisation inside, checked against torch before anything is kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from world_model.bundle import WITNESS, Manifest, file_sha256, replacing, write_manifest
from world_model.checkpoint import CheckpointError, load_checkpoint
from world_model.config import TrainConfig, parse_config
from world_model.data import action_components
from world_model.graphs import actor_graph, distance_graph, encoder_graph
from world_model.jepa import Jepa
from world_model.lean.rollout import lean_rollout_graph
from world_model.predictors.action_prefix import ActionPrefixPredictor
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.training import Learned, build
from world_model.training.first_encoder import load_first

_PARITY = 1e-4


class ExportError(ValueError):
    """Exported graphs that do not compute what torch computes."""


def load_run(run: Path) -> tuple[TrainConfig, Learned, dict[str, Any]]:
    """The configuration, networks and metadata of a finished training run.

    Raises:
        ExportError: the run is not finished.
        CheckpointError: the run is damaged.
    """
    file = run / "learned.safetensors"
    if not file.is_file():
        raise ExportError(f"{run} holds no finished training run (learned.safetensors); run `latent-mpc train` first")
    try:
        with safe_open(file, framework="pt") as opened:
            meta = json.loads((opened.metadata() or {})["meta"])
        data = meta["data"][0]
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{file} is not a training run: {' '.join(str(error).split())}") from error
    config = parse_config(meta["config"], str(file))
    frame = (int(data["frame"][0]), int(data["frame"][1]), int(data["frame"][2]))
    shape = meta.get("model", {})  # older runs say nothing: they have no joints, and find a pretrained backbone where they found it before
    learned = build(config, frame, action_components(data), shape.get("joints", 0), shape.get("backbone"))
    load_checkpoint(file, learned.modules(), None)
    for module in learned.modules().values():
        module.eval()
    return config, learned, meta


def export_bundle(run: Path, out: Path, joints: tuple[str, ...]) -> dict[str, float]:
    """Write the bundle of a training run to ``out`` and return the largest difference of each graph from torch.

    Raises:
        ExportError: a graph differs from torch by more than 1e-4, or the arm has other joints than the model was trained with; nothing is written.
        BundleError: ``out`` is a folder of something else.
        CheckpointError: the run is damaged, or lacks the encoder that it began its invariance with.
    """
    config, learned, meta = load_run(run)
    data = meta["data"][0]
    height, width, channels = (int(v) for v in data["frame"])
    jepa, history, action_dim = learned.jepa, config.model.history, learned.jepa.predictor.action_dim
    measured = 0 if jepa.proprioception is None else jepa.proprioception.joints
    if measured not in (0, len(joints)):
        raise ExportError(f"{run} was trained with {measured} joints, the arm has {len(joints)}: {', '.join(joints)}")
    with replacing(out) as staging:
        onnx.save(encoder_graph(jepa, (height, width, channels)), staging / "encoder.onnx")
        onnx.save(lean_rollout_graph(jepa), staging / "rollout.onnx")
        onnx.save(distance_graph(learned.distance, jepa.latent_dim), staging / "heads.onnx")
        onnx.save(actor_graph(learned.actor, jepa.latent_dim), staging / "actor.onnx")
        first = load_first(run, jepa, meta)
        if first is not None:
            onnx.save(encoder_graph(first, (height, width, channels)), staging / WITNESS)
        witness = first is not None or _take_witness(run, meta, staging)
        weights = {f"{name}/{key}": value.contiguous() for name, module in learned.modules().items() for key, value in module.state_dict().items()}
        save_file(weights, staging / "weights.safetensors")
        write_manifest(
            staging,
            Manifest(
                name=config.name,
                tasks=config.tasks,
                tool_step=data.get("tool_step") or {},
                action_space=data.get("action_space") or {},
                frame=(height, width, channels),
                latent_dim=jepa.latent_dim,
                tokens=jepa.tokens,
                proprioception=measured,
                horizon=jepa.predictor.horizon if isinstance(jepa.predictor, ActionPrefixPredictor) else 0,
                action_dim=action_dim,
                history=history,
                actor_steps=(config.actor.least_steps, config.actor.most_steps),
                joints=joints if data.get("tool_step") else (),
                encoder=config.model.encoder.kind,
                normalisation="inside the graph: uint8 RGB in",
                witness=witness,
                provenance={
                    "config": dataclasses.asdict(config),
                    "data": meta["data"],
                    "run_sha256": file_sha256(run / "learned.safetensors"),
                    "episodes": meta["episodes"],
                    "probes": meta["probes"],
                    "model": jepa.shape(),
                    "torch": torch.__version__,
                    **({"fine_tuned": meta["fine_tuned"]} if "fine_tuned" in meta else {}),
                },
            ),
        )
        report = parity(learned, OnnxModel(staging), history, action_dim, first)
        worst = max(report, key=lambda name: report[name])
        if report[worst] > _PARITY:
            raise ExportError(f"{worst}.onnx differs from torch by {report[worst]:.2g}, more than {_PARITY:.0e}; no bundle was written")
    return report


def _take_witness(run: Path, meta: dict[str, Any], staging: Path) -> bool:
    """The witness of the bundle that a run was fine-tuned from, unless its encoder moved; returns whether there is one.

    Raises:
        CheckpointError: it was kept, but is not the same any more.
    """
    wanted = meta.get("fine_tuned", {}).get("witness_sha256")
    if wanted is None:
        return False
    if not (run / WITNESS).is_file() or file_sha256(run / WITNESS) != wanted:
        raise CheckpointError(f"{run} lacks the {WITNESS} of the bundle that it was fine-tuned from; run `latent-mpc train --from` again")
    shutil.copyfile(run / WITNESS, staging / WITNESS)
    return True


@torch.inference_mode()
def parity(learned: Learned, model: OnnxModel, history: int, action_dim: int, first: Jepa | None = None) -> dict[str, float]:
    """Largest absolute difference between torch and ONNX Runtime on random inputs, for each graph."""
    rng = np.random.default_rng(0)
    count, horizon, dim = 5, 7, model.latent_dim
    frames = rng.integers(0, 256, (count, *model.manifest.frame), dtype=np.uint8)
    joints = rng.uniform(-2, 2, (count, model.manifest.proprioception)).astype(np.float32)
    joints[::2] = np.nan  # as with goal pictures
    latents = rng.standard_normal((count, history, dim)).astype(np.float32)
    past = rng.uniform(-1, 1, (count, history - 1, action_dim)).astype(np.float32)
    actions = rng.uniform(-1, 1, (count, horizon, action_dim)).astype(np.float32)
    goal = rng.standard_normal(dim).astype(np.float32)
    least, most = model.manifest.actor_steps
    steps = rng.uniform(least, most, count).astype(np.float32)
    last, goals = torch.from_numpy(latents[:, -1]), torch.from_numpy(np.repeat(goal[None], count, 0))
    mixture = model.propose(latents[:, -1], goal, steps)

    def gap(torch_value: Tensor, onnx_value: np.ndarray[Any, Any]) -> float:
        return float(np.abs(torch_value.numpy() - onnx_value).max())

    proposed = learned.actor(last, goals, torch.from_numpy(steps))
    both = torch.from_numpy(frames), torch.from_numpy(joints)
    return {
        "encoder": gap(learned.jepa.encode(*both), model.encode(frames, joints)),
        "rollout": gap(
            learned.jepa.rollout(*(torch.from_numpy(a) for a in (latents, past, actions))), model.rollout(Context(latents, past), actions)
        ),
        "heads": gap(learned.distance(last, goals), model.distance(latents[:, -1], goal)),
        "actor": max(gap(value, other) for value, other in zip(proposed, (mixture.logits, mixture.mean, mixture.std), strict=True)),
        **({} if first is None else {"witness": gap(first.encode(*both), model.witness(frames, joints))}),
    }
