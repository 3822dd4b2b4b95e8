"""One shard: a folder of arrays about E episodes of T actions, written whole or not at all, and read memory-mapped."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_model.data.description import DatasetError

REQUIRED = ("frames", "actions")
OPTIONAL = ("state", "joints")
# What each array must be: dtype, number of axes.
_KINDS: dict[str, tuple[type, int]] = {"frames": (np.uint8, 5), "actions": (np.float32, 3), "state": (np.float32, 3), "joints": (np.float32, 3)}
_ROUNDING = 1e-6


def check_actions(where: str, actions: NDArray[np.float32]) -> None:
    """Refuse actions that are not finite or leave [-1, 1].

    Raises:
        DatasetError: one does; the message names the episode and the step.
    """
    good = np.abs(actions) <= 1 + _ROUNDING  # false for NaN, too
    if good.all():
        return
    episode, step = (int(i) for i in np.argwhere(~good.all(-1))[0])
    what = "lies outside [-1, 1]" if np.isfinite(actions[episode, step]).all() else "is not finite"
    raise DatasetError(f"{where}: an action {what} (episode {episode}, step {step}); delete this shard and collect it again")


def check_arrays(where: str, kinds: dict[str, tuple[tuple[int, ...], Any]]) -> None:
    """Refuse arrays of another dtype than the format's, or that do not belong together; ``kinds`` holds the shape and dtype of each.

    Raises:
        DatasetError: with the reason in one line.
    """
    for name, (shape, dtype) in kinds.items():
        expected, axes = _KINDS[name]
        if dtype != expected or len(shape) != axes or (name == "frames" and shape[4] != 3):
            raise DatasetError(f"{where}: {name} is {shape} {dtype}; the format has {axes} axes of {np.dtype(expected)}, see docs/data.md")
    episodes, steps = kinds["actions"][0][:2]
    fits = all(shape[:2] == (episodes, steps if name == "actions" else steps + 1) for name, (shape, _) in kinds.items())
    if not fits or episodes == 0 or steps == 0:
        *most, last = [f"{name} {shape}" for name, (shape, _) in kinds.items()]
        raise DatasetError(f"{where}: {', '.join(most)} and {last} disagree; delete this shard and collect it again")


class ShardWriter:
    """Writes one shard, whole or not at all."""

    def __init__(self, directory: Path, index: int) -> None:
        self.path = directory / f"shard-{index:05d}"

    def write(
        self,
        frames: NDArray[np.uint8],
        actions: NDArray[np.float32],
        state: NDArray[np.float32] | None = None,
        joints: NDArray[np.float32] | None = None,
    ) -> None:
        """Write ``frames (E, T+1, h, w, 3)``, ``actions (E, T, A)`` and, where there are any, ``state (E, T+1, S)`` and ``joints (E, T+1, J) rad``.

        Raises:
            DatasetError: an array has another dtype, shapes disagree, or an action is not finite or out of range.
        """
        given: dict[str, NDArray[Any] | None] = {"frames": frames, "actions": actions, "state": state, "joints": joints}
        arrays = {name: array for name, array in given.items() if array is not None}
        check_arrays(self.path.name, {name: (tuple(array.shape), array.dtype) for name, array in arrays.items()})
        check_actions(self.path.name, actions)
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        # A writer that was killed may have had this process id: in containers they repeat.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            for name, array in arrays.items():
                np.save(partial / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
            partial.rename(self.path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class Shard:
    """One shard that was found whole: where its frames lie, and everything else that is in it, which is small.

    ``actions (E, T, A)``, ``state (E, T+1, S)`` and ``joints (E, T+1, J)`` float32.
    """

    path: Path
    shape: tuple[int, ...]
    offset: int
    actions: NDArray[np.float32]
    state: NDArray[np.float32] | None
    joints: NDArray[np.float32] | None

    def map_frames(self) -> NDArray[np.uint8]:
        """Frames ``(E, T+1, h, w, 3)``, mapped: one open file as long as the array lives."""
        return np.memmap(self.path / "frames.npy", np.uint8, "r", self.offset, self.shape)


def open_shard(path: Path) -> Shard:
    """Look at a shard and read what is small.

    Raises:
        DatasetError: an array is missing, cut short, of another kind, or disagrees with the others, or an action is not finite or out of range.
    """
    present = [*REQUIRED, *(name for name in OPTIONAL if (path / f"{name}.npy").is_file())]
    arrays = {name: _open(path / f"{name}.npy") for name in present}
    check_arrays(str(path), {name: (array.shape, array.dtype) for name, array in arrays.items()})
    frames = arrays["frames"]
    if not isinstance(frames, np.memmap) or not frames.flags.c_contiguous:
        raise DatasetError(f"{path}: frames must be stored in C order")
    small = {name: np.array(array) for name, array in arrays.items() if name != "frames"}
    check_actions(str(path), small["actions"])
    return Shard(path, frames.shape, frames.offset, small["actions"], small.get("state"), small.get("joints"))


def _open(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        return array
    except (OSError, EOFError, ValueError) as error:
        raise DatasetError(f"{file}: cannot be read ({error}); delete this shard and collect it again") from error
