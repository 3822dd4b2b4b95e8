"""A whole run: the world model end to end from frames and actions, then the critic and the actor on its frozen latents."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from world_model.checkpoint import read_meta, save_checkpoint
from world_model.config import TrainConfig
from world_model.data import DatasetError, EpisodeDataset
from world_model.probes import probe_errors
from world_model.training.actor import train_actor
from world_model.training.compute import open_fabric
from world_model.training.distance import train_distance
from world_model.training.episodes import encode_episodes, open_episodes
from world_model.training.first_encoder import keep_first, save_first
from world_model.training.identity import take_world_model
from world_model.training.invariance import PairedLooks, look_error, train_invariance
from world_model.training.learned import build
from world_model.training.log import Report
from world_model.training.world_model import train_world_model

_PROBED = 400


def train(
    config: TrainConfig, directories: list[Path], out: Path, report: Report, world_model: Path | None = None, looks: Path | None = None
) -> dict[str, Any]:
    """Train everything; writes ``out/jepa.safetensors`` and ``out/learned.safetensors`` and returns the probes of the latent.

    The world model goes on where it was interrupted; critic and actor, minutes at most, are trained anew. With ``world_model``, the folder of an
    earlier run, its encoder and predictor are taken as they are and only critic and actor are trained, on all the data: the way to use take-over
    episodes.
    With ``looks``, the first data set's episodes collected again in other looks, the encoder then learns to see the same in both, and critic and
    actor are trained on both.
    Where several processes train, the first one reports and goes on with critic and actor; the others return nothing.

    Raises:
        DatasetError: the data cannot be used.
        ConfigError: the machine does not have what the configuration asks for.
        CheckpointError: ``out`` holds a run of another configuration, or ``world_model`` none of this one.
        TrainingDivergedError: the loss is no number any more.
    """
    data = open_episodes(directories, config.held_out)
    for description in data.descriptions:
        if description.get("task") not in config.tasks:
            raise DatasetError(f"'{config.name}' is for {', '.join(config.tasks)}, but data of task '{description.get('task')}' was given")
    fabric = open_fabric(config.compute, config.threads)
    joints = 0 if data.joints is None else data.joints.shape[-1]
    # The backbone of a finished model needs no folder but that of its run.
    backbone = None if world_model is None else read_meta(world_model / "learned.safetensors").get("model", {}).get("backbone")
    learned = build(config, data.reader.frame, data.reader.action_dim, joints, backbone)
    out.mkdir(parents=True, exist_ok=True)
    witness = False
    if world_model is None:
        train_world_model(fabric, config, learned.jepa, data, out, report if fabric.is_global_zero else lambda *_: None)
    else:
        take_world_model(world_model, config, data, learned.jepa)
        witness = fabric.is_global_zero and keep_first(world_model, learned.jepa, out, looks is not None)
    if not fabric.is_global_zero:
        return {}
    for module in learned.modules().values():
        module.to(fabric.device)
    pairs = None if looks is None else PairedLooks(EpisodeDataset(directories[0]), EpisodeDataset(looks), config.held_out)
    if pairs is not None:
        witness = witness or save_first(learned.jepa, out)
        train_invariance(fabric, config, learned.jepa, data, pairs, out, report)
    report("encoding", 0, 1, {})
    latents = encode_episodes(learned.jepa, data).clone()
    held_out = slice(-config.held_out, None)
    fitted = slice(0, min(_PROBED, len(latents) - config.held_out))
    probes: dict[str, float] = {}
    if data.state is not None:
        probes = probe_errors(latents[held_out].numpy(), data.state[held_out], latents[fitted].numpy(), data.state[fitted])
    actions = data.actions
    if pairs is not None:
        probes["looks_mse"] = look_error(learned.jepa, latents[held_out], pairs)
        latents = torch.cat([encode_episodes(learned.jepa, pairs.changed_episodes())[: -config.held_out], latents])
        actions = np.concatenate([pairs.changed.actions()[: -config.held_out], actions])
    report("encoding", 1, 1, probes)
    latents = latents.to(fabric.device)
    train_distance(config, learned.distance, latents[: -config.held_out], report)
    train_actor(config, learned.actor, latents, torch.from_numpy(actions).to(fabric.device), report)
    meta = {
        "config": dataclasses.asdict(config),
        "model": learned.jepa.shape(),
        "data": [*data.descriptions, *([] if pairs is None else [pairs.changed.description])],
        "episodes": len(latents),
        "probes": probes,
        "witness": witness,
    }
    save_checkpoint(out / "learned.safetensors", learned.modules(), None, {}, meta)
    return probes
