"""Latents of recorded episodes, from a bundle or from a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from world_model.bundle import bundle_sha256, file_sha256
from world_model.data import DatasetError, EpisodeDataset
from world_model.heads.report import Report
from world_model.protocol import F32
from world_model.runtime import OnnxModel


class LatentModel(Protocol):
    """What gives frames their latents."""

    @property
    def sha256(self) -> str:
        """Which model it is: of a bundle its own hash, of a run that of its weights."""
        ...

    @property
    def frame(self) -> tuple[int, int, int]:
        """The picture ``(h, w, 3)`` that it takes."""
        ...

    @property
    def latent_dim(self) -> int:
        """D."""
        ...

    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """Latents ``(B, D)`` of ``frames (B, h, w, 3) uint8`` and, for a model that is told them, ``joints (B, J) rad``."""
        ...


class _BundleLatents:
    def __init__(self, folder: Path) -> None:
        self._model = OnnxModel(folder)
        self.sha256 = bundle_sha256(self._model.manifest)
        self.frame = self._model.manifest.frame
        self.latent_dim = self._model.latent_dim

    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        return self._model.encode(frames, joints)


class _RunLatents:
    def __init__(self, folder: Path) -> None:
        from world_model.export import load_run  # torch takes seconds to import, and a bundle does without it

        _, learned, meta = load_run(folder)
        self._jepa = learned.jepa
        self.sha256 = file_sha256(folder / "learned.safetensors")
        height, width, channels = (int(v) for v in meta["data"][0]["frame"])
        self.frame = (height, width, channels)
        self.latent_dim = self._jepa.latent_dim

    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        import torch

        with torch.inference_mode():
            latents: F32 = self._jepa.encode(torch.from_numpy(frames), None if joints is None else torch.from_numpy(joints)).numpy()
        return latents


def open_latent_model(folder: Path) -> LatentModel:
    """The model in ``folder``: a bundle if it holds a manifest, else a finished training run.

    Raises:
        BundleError, ExportError, CheckpointError: it is neither, or it is damaged.
    """
    if (folder / "manifest.json").is_file() or not (folder / "learned.safetensors").is_file():
        return _BundleLatents(folder)
    return _RunLatents(folder)


def encode_episodes(model: LatentModel, data: EpisodeDataset, episodes: NDArray[np.intp], report: Report) -> F32:
    """Latents ``(len(episodes), T+1, D)`` of whole episodes, read one at a time; ``report(stage, done, all, numbers)``.

    Raises:
        DatasetError: the pictures are not of the model's size.
    """
    if data.frame != model.frame:
        raise DatasetError(f"{data.directory} holds pictures of {data.frame}, the model takes {model.frame}")
    latents = np.empty((len(episodes), data.steps + 1, model.latent_dim), np.float32)
    first = np.zeros(1, np.intp)
    joints = data.joints()
    for done, episode in enumerate(episodes, start=1):
        frames = data.windows(np.array([episode]), first, data.steps + 1)[0]
        latents[done - 1] = model.encode(frames, None if joints is None else joints[episode])
        if done % 50 == 0 or done == len(episodes):
            report("encoding", done, len(episodes), {})
    return latents
