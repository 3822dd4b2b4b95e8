"""Episodes read from disk: what is small from memory, frames from memory-mapped shards."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_model.data.description import DatasetError, action_components, check_same_kind, read_description
from world_model.data.shards import Shard, open_shard

# Every mapped file is an open one, and a process may have 1,024 of them.
_MAPPED_SHARDS = 256


class EpisodeReader:
    """Episodes of one length from any number of shards, in their order.

    Attributes: ``episodes`` (E), ``steps`` (T), ``action_dim`` (A), ``frame`` ``(h, w, 3)``.
    """

    def __init__(self, name: str, shards: Sequence[Shard]) -> None:
        kinds = {(shard.shape[1:], shard.actions.shape[2]) for shard in shards}
        if len(kinds) != 1:
            raise DatasetError(f"{name}: shards differ in shape: frames and action dimensions {sorted(map(str, kinds))}")
        self.shards = tuple(shards)
        _, self.steps, self.action_dim = shards[0].actions.shape
        self.frame = (shards[0].shape[2], shards[0].shape[3], 3)
        self._begins = np.cumsum([0, *(shard.shape[0] for shard in shards)])
        self.episodes = int(self._begins[-1])
        self._mapped = lru_cache(_MAPPED_SHARDS)(lambda index: self.shards[index].map_frames())

    def windows(self, episodes: NDArray[np.integer], begins: NDArray[np.integer], length: int) -> NDArray[np.uint8]:
        """``length`` frames from frame ``begins (B,)`` of ``episodes (B,)`` on: ``(B, length, h, w, 3)``, copied, one stretch of memory each.

        Raises:
            IndexError: an episode does not exist, or a window leaves its episode.
        """
        episodes, begins = np.asarray(episodes), np.asarray(begins)
        if len(episodes) and not (episodes.min() >= 0 and episodes.max() < self.episodes):
            raise IndexError(f"episodes 0 to {self.episodes - 1} exist, not {episodes.min()} to {episodes.max()}")
        if len(begins) and not (begins.min() >= 0 and begins.max() + length <= self.steps + 1):
            raise IndexError(f"an episode has {self.steps + 1} frames; windows of {length} cannot begin at {begins.min()} to {begins.max()}")
        shards = np.searchsorted(self._begins, episodes, side="right") - 1
        rows = episodes - self._begins[shards]
        out = np.empty((len(episodes), length, *self.frame), np.uint8)
        for target, shard, row, begin in zip(out, shards.tolist(), rows.tolist(), begins.tolist(), strict=True):
            target[...] = self._mapped(shard)[row, begin : begin + length]
        return out

    def frames(self) -> NDArray[np.uint8]:
        """All frames ``(E, T+1, h, w, 3) uint8``, read into memory."""
        return np.concatenate([shard.map_frames() for shard in self.shards])

    def actions(self) -> NDArray[np.float32]:
        """All actions ``(E, T, A) float32`` in [-1, 1]."""
        return np.concatenate([shard.actions for shard in self.shards])

    def state(self) -> NDArray[np.float32] | None:
        """Ground truth ``(E, T+1, S) float32``, for probes and evaluation; None unless every shard has it."""
        return _all([shard.state for shard in self.shards])

    def joints(self) -> NDArray[np.float32] | None:
        """Joint positions ``(E, T+1, J) float32, rad``; None unless every shard has them."""
        return _all([shard.joints for shard in self.shards])


class EpisodeDataset(EpisodeReader):
    """A data set opened for reading. Attributes besides: ``directory``, and ``description``, the content of ``dataset.json``.

    Raises:
        DatasetError: it is missing, damaged, of an unknown version, or its arrays are not what its description says; the message names the file.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.description: dict[str, Any] = read_description(self.directory)
        paths = sorted(self.directory.glob("shard-*"))
        if not paths:
            raise DatasetError(f"{self.directory} holds no shards")
        super().__init__(str(self.directory), [open_shard(path) for path in paths])
        self._check_description()

    def _check_description(self) -> None:
        said = self.description
        if "frame" in said and list(said["frame"]) != list(self.frame):
            raise DatasetError(f"{self.directory}: dataset.json says frames of {said['frame']}, the shards hold {list(self.frame)}")
        if "steps" in said and said["steps"] != self.steps:
            raise DatasetError(f"{self.directory}: dataset.json says episodes of {said['steps']} steps, the shards hold {self.steps}")
        if said.get("action_space") and action_components(said) != self.action_dim:
            raise DatasetError(f"{self.directory}: dataset.json says {action_components(said)} action components, the shards hold {self.action_dim}")


def join(sets: Sequence[EpisodeDataset]) -> EpisodeReader:
    """Data sets of one kind, one after another.

    Raises:
        DatasetError: two of them differ in the meaning of an action, in picture size or in length.
    """
    first = sets[0]
    for other in sets[1:]:
        check_same_kind(str(other.directory), other.description, str(first.directory), first.description)
        if other.steps != first.steps:
            raise DatasetError(f"{other.directory} and {first.directory} differ in steps: they cannot be trained on together")
    return EpisodeReader(", ".join(str(s.directory) for s in sets), [shard for s in sets for shard in s.shards])


def _all(arrays: list[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    present = [array for array in arrays if array is not None]
    widths = {array.shape[-1] for array in present}
    return np.concatenate(present) if len(present) == len(arrays) and len(widths) == 1 else None
