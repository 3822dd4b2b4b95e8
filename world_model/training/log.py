"""What a run says while it goes on: a table, TensorBoard, a report to whoever watches, and a warning when the latents collapse."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from world_model.objectives import collapse_warning

# (stage, steps done, steps in all, numbers by name)
Report = Callable[[str, int, int, dict[str, float]], None]

COLUMNS = ("step", "loss", "next", "rollout", "penalty", "rank", "gradient", "rate", "collapsed")


class CollapseWarning(UserWarning):
    """The latents are collapsing: what is trained will be worthless unless it stops."""


class Log:
    """``out/log.csv`` and ``out/tensorboard`` of the world model; rows and points from after step ``start`` are written again."""

    def __init__(self, out: Path, start: int) -> None:
        self._file = out / "log.csv"
        lines = self._file.read_text().splitlines()[1:] if start and self._file.is_file() else []
        kept = [line for line in lines if int(line.split(",")[0]) <= start]
        self._file.write_text("\n".join([",".join(COLUMNS), *kept]) + "\n")
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=start + 1 if start else None)

    def write(self, step: int, numbers: dict[str, float], dim: int) -> None:
        """Log the numbers of a step, ``rank`` of latents of width ``dim`` among them; warn where they collapse."""
        danger = collapse_warning(numbers["rank"], dim)
        if danger is not None:
            warnings.warn(f"step {step}: {danger}", CollapseWarning, stacklevel=2)
        row = numbers | {"collapsed": float(danger is not None)}
        with self._file.open("a") as lines:
            csv.writer(lines, lineterminator="\n").writerow([step, *(f"{row[key]:.6g}" for key in COLUMNS[1:])])
        for name, value in row.items():
            self._board.add_scalar(f"world model/{name}", value, step)

    def speed(self, step: int, frames_per_second: float) -> None:
        """A point of the throughput, which is in no table: it differs from run to run."""
        self._board.add_scalar("world model/frames per second", frames_per_second, step)

    def close(self) -> None:
        """Write what is still held back."""
        self._board.close()
