"""Things that are timed, all taking turns, so that a busy moment hits them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Stage:
    """One thing that is timed: ``work`` does it once, and is done ``repeats`` times in each turn.

    The least that it must cost is known in one of two ways, or not at all: ``flop`` counts its multiplications and additions in matrix products and
    convolutions, ``limit`` names another stage of the same run that does no more than what cannot be left out.
    """

    name: str
    work: Callable[[], object]
    flop: float = 0.0
    limit: str = ""
    repeats: int = 1


@dataclass(frozen=True)
class Times:
    """Seconds of a stage, one for each round: ``wall (R,)`` by the clock, ``cpu (R,)`` of the process's processors."""

    wall: F64
    cpu: F64

    @property
    def cpu_s(self) -> float:
        """The median of ``cpu``: other processes that share the cores do not show in it, but for the caches that they take."""
        return float(np.median(self.cpu))

    @property
    def least_s(self) -> float:
        """The least of ``cpu``: the turn that was disturbed least, for sizes of one thing that are divided by each other."""
        return float(self.cpu.min())


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a stage: wall ``p50`` and ``p99``, median processor time ``cpu_ms``.

    ``limit_ms`` is this machine's processor time for what the stage must do at least; ``ratio_to_limit`` is ``cpu_ms`` over that.
    """

    name: str
    ms: dict[str, float]
    cpu_ms: float
    limit_ms: float | None
    ratio_to_limit: float | None
    mflop: float | None


def time_stages(stages: Sequence[Stage], rounds: int, report: Callable[[int, int], None]) -> dict[str, Times]:
    """Time each stage once in each of ``rounds``, after one turn that does not count. Two stages must not have one name."""
    for stage in stages:
        stage.work()
    wall: dict[str, list[float]] = {stage.name: [] for stage in stages}
    cpu: dict[str, list[float]] = {stage.name: [] for stage in stages}
    assert len(wall) == len(stages), "two stages have one name"
    for done in range(rounds):
        for stage in stages:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            for _ in range(stage.repeats):
                stage.work()
            cpu[stage.name].append((time.process_time() - begun_cpu) / stage.repeats)
            wall[stage.name].append((time.perf_counter() - begun) / stage.repeats)
        report(done + 1, rounds)
    return {name: Times(np.array(wall[name]), np.array(cpu[name])) for name in wall}


def timing(stage: Stage, times: dict[str, Times], gflops: float) -> Timing:
    """What the times of a stage say, beside a machine of ``gflops`` fp32 GFLOP/s."""
    found = times[stage.name]
    limit_s = times[stage.limit].cpu_s if stage.limit else stage.flop / gflops / 1e9 if stage.flop else None
    p50, p99 = (float(1e3 * np.quantile(found.wall, q)) for q in (0.5, 0.99))
    return Timing(
        stage.name,
        {"p50": p50, "p99": p99},
        1e3 * found.cpu_s,
        None if limit_s is None else 1e3 * limit_s,
        found.cpu_s / limit_s if limit_s else None,
        stage.flop / 1e6 if stage.flop else None,
    )
