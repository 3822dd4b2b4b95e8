"""What is trained on: data sets put together, windows drawn from them, and their latents."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from world_model.data import DatasetError, EpisodeDataset, EpisodeReader, join
from world_model.jepa import Jepa
from world_model.training.draws import generator_for

_ENCODE_BATCH = 512


@dataclass(frozen=True)
class Episodes:
    """Data sets put together, and what they are.

    ``reader`` gives frames, which stay on disk; ``actions (E, T, A) float32``; ``state (E, T+1, 6)`` for probes and ``joints (E, T+1, J) rad`` for
    models with proprioception, None where there is none.
    """

    reader: EpisodeReader
    actions: NDArray[np.float32]
    state: NDArray[np.float32] | None
    descriptions: tuple[dict[str, Any], ...]
    joints: NDArray[np.float32] | None = None

    @property
    def frames(self) -> NDArray[np.uint8]:
        """All frames ``(E, T+1, h, w, 3)``, read into memory: for small sets."""
        return self.reader.frames()


def open_episodes(directories: list[Path], held_out: int) -> Episodes:
    """Open data sets of one kind; the first one's last ``held_out`` episodes come last.

    Raises:
        DatasetError: a set is damaged, or two sets differ in the meaning of an action, in picture size or in length.
    """
    sets = [EpisodeDataset(directory) for directory in directories]
    if sets[0].episodes <= held_out:
        raise DatasetError(f"{sets[0].directory} holds {sets[0].episodes} episodes; {held_out} are held out, so more are needed")
    everything = join([*sets[1:], sets[0]])  # held-out episodes come from the first set, at the end
    return Episodes(everything, everything.actions(), everything.state(), tuple(s.description for s in sets), everything.joints())


@dataclass(frozen=True)
class WindowBatch:
    """``frames (b, T, h, w, 3) uint8``, ``actions (b, T-1, A)``, ``joints (b, T, J)`` where there are any.

    They are windows ``first`` to ``first + b`` of all that step ``step`` draws.
    """

    step: int
    first: int
    frames: Tensor
    actions: Tensor
    joints: Tensor | None


@dataclass(frozen=True)
class Windows:
    """Windows of ``length`` frames from the first ``episodes`` episodes, ``batch`` of them a step, shared out among ``processes``.

    What a step draws depends on ``seed`` and the step alone; process ``rank`` gets its share of it.
    """

    data: Episodes
    episodes: int
    batch: int
    length: int
    seed: int
    rank: int = 0
    processes: int = 1

    def draw(self, step: int) -> WindowBatch:
        """Windows of step ``step`` that belong to this process."""
        generator = generator_for(self.seed, step, "windows")
        episodes = torch.randint(self.episodes, (self.batch,), generator=generator)
        begins = torch.randint(self.data.reader.steps + 2 - self.length, (self.batch,), generator=generator)
        share = self.batch // self.processes
        mine = slice(self.rank * share, (self.rank + 1) * share)
        rows, starts = episodes[mine].numpy(), begins[mine].numpy()
        frames = self.data.reader.windows(rows, starts, self.length)
        actions = self.data.actions[rows[:, None], starts[:, None] + np.arange(self.length - 1)]
        places = rows[:, None], starts[:, None] + np.arange(self.length)
        joints = None if self.data.joints is None else torch.from_numpy(self.data.joints[places])
        return WindowBatch(step, self.rank * share, torch.from_numpy(frames), torch.from_numpy(actions), joints)

    def steps(self, first: int, end: int, device: torch.device) -> Iterator[WindowBatch]:
        """The windows of steps ``first`` to ``end`` on ``device``, each read while the step before it is computed."""

        def ready(step: int) -> WindowBatch:
            drawn = self.draw(step)
            if device.type == "cpu":
                return drawn

            def moved(tensor: Tensor) -> Tensor:
                return tensor.pin_memory().to(device, non_blocking=True)

            joints = None if drawn.joints is None else moved(drawn.joints)
            return WindowBatch(step, drawn.first, moved(drawn.frames), moved(drawn.actions), joints)

        with ThreadPoolExecutor(1, "windows") as reading:
            following = reading.submit(ready, first)
            for step in range(first, end):
                batch = following.result()
                if step + 1 < end:
                    following = reading.submit(ready, step + 1)
                yield batch


@torch.inference_mode()
def encode_all(jepa: Jepa, frames: NDArray[np.uint8], joints: NDArray[np.float32] | None = None) -> Tensor:
    """Latents ``(E, T+1, D)`` of ``frames (E, T+1, h, w, 3)`` and ``joints (E, T+1, J)``, on the CPU."""
    jepa.eval()
    device = next(jepa.parameters()).device
    flat = torch.from_numpy(frames.reshape(-1, *frames.shape[2:]))
    measured = None if joints is None else torch.from_numpy(joints.reshape(-1, joints.shape[-1]))
    chunks = []
    for begin in range(0, len(flat), _ENCODE_BATCH):
        some = slice(begin, begin + _ENCODE_BATCH)
        chunks.append(jepa.encode(flat[some].to(device), None if measured is None else measured[some].to(device)).cpu())
    return torch.cat(chunks).view(*frames.shape[:2], -1)


def encode_episodes(jepa: Jepa, data: Episodes) -> Tensor:
    """Latents ``(E, T+1, D)`` of all frames, which never lie in memory together."""
    length = data.reader.steps + 1
    some = max(1, _ENCODE_BATCH // length)
    ranges = (np.arange(begin, min(begin + some, data.reader.episodes)) for begin in range(0, data.reader.episodes, some))

    def encoded(rows: NDArray[np.int_]) -> Tensor:
        joints = None if data.joints is None else data.joints[rows]
        return encode_all(jepa, data.reader.windows(rows, np.zeros_like(rows), length), joints)

    return torch.cat([encoded(rows) for rows in ranges])
