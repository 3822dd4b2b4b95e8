"""What a pre-training leaves: a folder that transformers loads, and how much of the scene its features hold."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Dinov2Model

from world_model.data import EpisodeReader
from world_model.encoders.dinov2 import DinoV2
from world_model.encoders.patch_encoder import PatchEncoder
from world_model.probes import probe_errors

_FITTED = 300
_BATCH = 256
_EVERY = 4
_GRID = 2
_STATE = 6


def save_backbone(backbone: Dinov2Model, folder: Path) -> None:
    """Write ``folder`` as safetensors and JSON, whole or not at all; an earlier one is replaced."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        backbone.save_pretrained(partial, safe_serialization=True)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@torch.inference_mode()
def features_of(backbone: Dinov2Model, frames: Tensor) -> dict[str, Tensor]:
    """``class (N, F)`` and ``grid (N, 4 F)``, patches pooled to 2 x 2, of ``frames (N, h, w, 3) uint8``, as our encoder sees them."""
    width = int(backbone.config.hidden_size)
    tokens = PatchEncoder(DinoV2(), backbone, int(backbone.config.image_size), "global", _GRID, frozen=True)(frames)[:, 0]
    return {"class": tokens[:, :width], "grid": tokens[:, width:]}


def probe_features(backbone: Dinov2Model, data: EpisodeReader, held_out: int) -> dict[str, dict[str, float]]:
    """Linear-probe R2 of tool, block and yaw on the ``held_out`` last episodes, for the class token and for patches pooled to 2 x 2.

    Empty where there are no labels, which are for evaluation only.
    """
    state = data.state()
    if state is None or state.shape[-1] != _STATE:
        return {}
    backbone.eval()
    fitted = np.unique(np.linspace(0, data.episodes - held_out - 1, _FITTED).astype(int))
    judged = np.arange(data.episodes - held_out, data.episodes)
    places = np.arange(0, data.steps + 1, _EVERY)

    def collect(episodes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[dict[str, np.ndarray[tuple[int, int], np.dtype[np.float32]]], Tensor]:
        which, when = (axis.ravel() for axis in np.meshgrid(episodes, places, indexing="ij"))
        chunks = []
        for begin in range(0, len(which), _BATCH):
            part = slice(begin, begin + _BATCH)
            chunks.append(features_of(backbone, torch.from_numpy(data.windows(which[part], when[part], 1)[:, 0])))
        return {name: torch.cat([chunk[name] for chunk in chunks]).numpy() for name in chunks[0]}, torch.from_numpy(state[which, when])

    train, train_state = collect(fitted)
    test, test_state = collect(judged)
    found = {}
    for name, features in train.items():
        mean, spread = features.mean(0), features.std(0) + 1e-6
        errors = probe_errors((test[name] - mean) / spread, test_state.numpy(), (features - mean) / spread, train_state.numpy())
        found[name] = {part.removesuffix("_r2"): value for part, value in errors.items() if part.endswith("_r2")}
    return found
