"""The on-disk episode format.

``DIR/dataset.json`` describes the set (task, meaning of an action, picture size, policy, seed). Each ``DIR/shard-00000/`` holds E episodes of
T actions:

- ``frames.npy (E, T+1, h, w, 3) uint8`` RGB, what the camera saw before each action and after the last,
- ``actions.npy (E, T, A) float32`` in [-1, 1],
- ``state.npy (E, T+1, 6) float32`` true tool x y z and block x y yaw: for probes and evaluation, never for training the model.

A shard is written beside its place and renamed into it, so that a killed collector leaves whole shards only.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1
_ARRAYS = ("frames", "actions", "state")


class DatasetError(ValueError):
    """A data set that is missing, incomplete or of another kind than asked for."""


def write_description(directory: Path, description: dict[str, Any]) -> None:
    """Write ``dataset.json`` with the schema version."""
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f".dataset.json.{os.getpid()}"
    partial.write_text(json.dumps({"schema_version": SCHEMA_VERSION, **description}, indent=2) + "\n")
    partial.replace(directory / "dataset.json")


class ShardWriter:
    """Writes one shard, whole or not at all."""

    def __init__(self, directory: Path, index: int) -> None:
        self.path = directory / f"shard-{index:05d}"

    def write(self, frames: NDArray[np.uint8], actions: NDArray[np.float32], state: NDArray[np.float32]) -> None:
        """Write the three arrays of the format.

        Raises:
            DatasetError: shapes disagree or an action is not finite.
        """
        if not (len(frames) == len(actions) == len(state) and frames.shape[1] == state.shape[1] == actions.shape[1] + 1):
            raise DatasetError(f"{self.path.name}: frames {frames.shape}, actions {actions.shape} and state {state.shape} disagree")
        if not np.all(np.isfinite(actions)):
            raise DatasetError(f"{self.path.name}: an action is not finite")
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        # A writer that was killed may have had this process id: in containers they repeat.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            for name, array in {"frames": frames, "actions": actions, "state": state}.items():
                np.save(partial / f"{name}.npy", np.asarray(array), allow_pickle=False)
            partial.rename(self.path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


class EpisodeDataset:
    """A data set opened for reading, memory-mapped.

    Attributes: ``description`` (the content of ``dataset.json``), ``episodes``, ``steps`` (T), ``action_dim`` (A).
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        file = self.directory / "dataset.json"
        if not file.is_file():
            raise DatasetError(f"{self.directory} holds no dataset.json; `latent-mpc collect` writes one")
        try:
            self.description: dict[str, Any] = dict(json.loads(file.read_text()))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{file} is not a JSON object: {error}") from error
        if self.description.get("schema_version") != SCHEMA_VERSION:
            raise DatasetError(f"{file}: schema version {self.description.get('schema_version')}, this software reads {SCHEMA_VERSION}")
        shards = sorted(self.directory.glob("shard-*"))
        if not shards:
            raise DatasetError(f"{self.directory} holds no shards")
        self._shards = [{name: self._open(shard / f"{name}.npy") for name in _ARRAYS} for shard in shards]
        for shard, content in zip(shards, self._shards, strict=True):
            frames, actions, state = (content[name].shape for name in _ARRAYS)
            if not (frames[0] == actions[0] == state[0] and frames[1] == state[1] == actions[1] + 1):
                raise DatasetError(f"{shard}: frames {frames}, actions {actions} and state {state} disagree; delete this shard and collect it again")
        shapes = {tuple(array.shape[1:] for array in shard.values()) for shard in self._shards}
        if len(shapes) != 1:
            raise DatasetError(f"{self.directory}: shards differ in shape: {sorted(map(str, shapes))}")
        self.episodes = sum(len(shard["actions"]) for shard in self._shards)
        self.steps, self.action_dim = self._shards[0]["actions"].shape[1:]

    @staticmethod
    def _open(file: Path) -> NDArray[Any]:
        try:
            array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
            return array
        except (OSError, EOFError, ValueError) as error:
            raise DatasetError(f"{file}: cannot be read ({error}); delete this shard and collect it again") from error

    def frames(self) -> NDArray[np.uint8]:
        """All frames ``(E, T+1, h, w, 3) uint8``, read into memory."""
        return np.concatenate([shard["frames"] for shard in self._shards])

    def actions(self) -> NDArray[np.float32]:
        """All actions ``(E, T, A) float32``."""
        return np.concatenate([shard["actions"] for shard in self._shards])

    def state(self) -> NDArray[np.float32]:
        """Ground truth ``(E, T+1, 6) float32``, for probes and evaluation."""
        return np.concatenate([shard["state"] for shard in self._shards])
