"""The null of an evaluation: a network of a bundle's own shape that has learned nothing."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from world_model.bundle import BundleError, Manifest
from world_model.checkpoint import save_checkpoint
from world_model.config import ConfigError, TrainConfig, parse_config
from world_model.export import export_bundle
from world_model.jepa import Jepa
from world_model.protocol import F32, Context
from world_model.training import Learned, build

_BATCH = 128


class TorchModel:
    """A ``WorldModel`` that runs in torch."""

    def __init__(self, jepa: Jepa, latent_dim: int, action_dim: int) -> None:
        self._jepa = jepa.eval()
        self.history = jepa.predictor.history
        self.latent_dim = latent_dim
        self.action_dim = action_dim

    @torch.inference_mode()
    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """Latents ``(B, D)`` of frames ``(B, h, w, 3) uint8`` and, where the model wants them, ``joints (B, J) rad``."""
        latents: F32 = self._jepa.encode(torch.from_numpy(frames), None if joints is None else torch.from_numpy(joints)).numpy()
        return latents

    @torch.inference_mode()
    def rollout(self, context: Context, actions: F32) -> F32:
        """Imagined latents ``(N, H, D)`` after each of ``actions (N, H, A)``."""
        arrays = (np.ascontiguousarray(array) for array in (context.latents, context.actions, actions))
        imagined: F32 = self._jepa.rollout(*(torch.from_numpy(array) for array in arrays)).numpy()
        return imagined


def recipe(manifest: Manifest) -> TrainConfig:
    """How the bundle's networks were built.

    Raises:
        BundleError: the manifest does not say so, or not in the words of today.
    """
    try:
        return parse_config(manifest.provenance.get("config"), f"the configuration in the manifest of {manifest.name}")
    except ConfigError as error:
        raise BundleError(f"no untrained network of this shape can be built, --no-null does without: {error}") from error


def untrained(manifest: Manifest, frames: NDArray[np.uint8]) -> TorchModel:
    """The bundle's networks with random weights; a pretrained backbone, too, as it was before anybody trained it.

    Their batch normalisations get the statistics of ``frames (N, h, w, 3)``: without them all latents are nearly the same: too easy a null.

    Raises:
        BundleError: the manifest does not say how the model was built.
    """
    return TorchModel(_networks(recipe(manifest), manifest, frames).jepa, manifest.latent_dim, manifest.action_dim)


def export_untrained(config: TrainConfig, manifest: Manifest, frames: NDArray[np.uint8], out: Path) -> dict[str, float]:
    """World model, critic and actor of ``config`` with random weights as a bundle ``out``, by the export that trained ones take.

    Pictures, actions and arm are those of the bundle with ``manifest``; normalisations have seen ``frames (N, h, w, 3)``, as in ``untrained``.
    Returns the largest difference of each graph from torch.

    Raises:
        BundleError: the manifest does not say what data its model was trained on.
        ExportError: see ``world_model.export.export_bundle``.
    """
    if not manifest.provenance.get("data"):
        raise BundleError(
            f"the manifest of {manifest.name} does not say what its pictures and actions are, so no untrained bundle can take its place"
        )
    learned = _networks(config, manifest, frames)
    meta = {"config": asdict(config), "data": manifest.provenance["data"], "episodes": 0, "probes": {}, "witness": False}
    meta["model"] = learned.jepa.shape()
    with tempfile.TemporaryDirectory() as run:
        save_checkpoint(Path(run) / "learned.safetensors", learned.modules(), None, {}, meta)
        return export_bundle(Path(run), out, manifest.joints)


def _networks(config: TrainConfig, manifest: Manifest, frames: NDArray[np.uint8]) -> Learned:
    backbone = manifest.provenance.get("model", {}).get("backbone")
    learned = build(config, manifest.frame, manifest.action_dim, manifest.proprioception, backbone)
    jepa = learned.jepa
    for module in jepa.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # a plain average
    jepa.train()
    with torch.no_grad():
        for i in range(0, len(frames), _BATCH):
            jepa.encode(torch.from_numpy(np.ascontiguousarray(frames[i : i + _BATCH])))
    return learned
