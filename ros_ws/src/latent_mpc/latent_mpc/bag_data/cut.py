"""From a log to episodes: runs of frames a step apart, cut where nothing can be learned, in windows of one length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.bag_data.log import BagLog
from latent_mpc.bag_data.meaning import Meaning, Values
from latent_mpc.bag_data.timeline import at, nearest, stretches

_NS = 1_000_000_000
# An action of less asks for nothing; joints that turn less in a step (rad) stand.
_IDLE, _STANDING_RAD = 0.01, 2e-3


@dataclass(frozen=True)
class Cutting:
    """``steps`` actions an episode; standing still for ``idle_s`` ends one.

    A frame may come ``late`` steps too early or too late, and the nearest joint state must be no further from it than ``joints_s``.
    """

    steps: int
    late: float = 1 / 6
    idle_s: float = 2.0
    joints_s: float = 0.05


@dataclass(frozen=True)
class Run:
    """Frames ``chosen (N,)`` of ``log`` a step apart, the time since which commands hold, and what was done between them ``raw (N-1, A)``."""

    log: BagLog
    chosen: NDArray[np.int64]
    since_ns: int
    raw: Values


@dataclass(frozen=True)
class Episode:
    """``pictures (T+1,)`` of the bag, ``actions (T, A)`` in [-1, 1], ``joints (T+1, J) rad``, ``state (T+1, 6)`` where known, when it began."""

    pictures: NDArray[np.int64]
    actions: NDArray[np.float32]
    joints: NDArray[np.float32]
    state: NDArray[np.float32] | None
    stamp_ns: int


@dataclass
class Cut:
    """Episodes, and what became of the rest.

    ``dropped`` steps and ``dropped_frames`` by the reason, ``ends`` of runs by what ended them, ``longest`` stretch that could be used.
    """

    episodes: list[Episode] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_frames: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    longest: int = 0

    def counts(self) -> dict[str, Any]:
        """For ``dataset.json``."""
        return {"dropped_steps": dict(+self.dropped), "dropped_frames": dict(+self.dropped_frames), "cut_at": dict(+self.ends)}


def find_runs(log: BagLog, meaning: Meaning, cutting: Cutting, found: Cut) -> list[Run]:
    """Every run of ``log``, with what was done in it."""
    return [
        Run(log, chosen, begins, meaning.raw(log, log.times_ns[chosen], begins))
        for begins, chosen in _runs(log, round(meaning.period_s * _NS), cutting, found)
    ]


def cut(run: Run, meaning: Meaning, cutting: Cutting, found: Cut) -> None:
    """Add the episodes of ``run`` to ``found``."""
    log, steps, stamps = run.log, cutting.steps, run.log.times_ns[run.chosen]
    good = np.ones(len(run.raw), bool)
    for reason, bad in meaning.refused(log, stamps, run.since_ns, run.raw).items():
        found.dropped[reason] += int((good & bad).sum())
        good &= ~bad
    with np.errstate(invalid="ignore"):
        actions = np.clip(meaning.actions(run.raw), -1, 1)
    joints = at(log.measured, stamps, run.since_ns)
    idle = (np.abs(np.diff(joints, axis=0)).max(1) < _STANDING_RAD) & (meaning.still(np.nan_to_num(actions)) < _IDLE)
    for first, last in stretches(idle & good):
        if last - first >= cutting.idle_s / meaning.period_s:
            good[first:last] = False
            found.dropped["idle"] += last - first
            found.ends["standstills"] += 1
    for first, last in stretches(good):
        found.longest = max(found.longest, last - first)
        whole = (last - first) // steps
        found.dropped["in a stretch shorter than an episode"] += last - first - whole * steps
        for begin in range(first, first + whole * steps, steps):
            if idle[begin : begin + steps].all():
                found.dropped["without motion"] += steps
                continue
            window = slice(begin, begin + steps + 1)
            state = None if log.truth is None else at(log.truth, stamps[window], run.since_ns).astype(np.float32)
            found.episodes.append(
                Episode(
                    log.pictures[run.chosen[window]],
                    actions[begin : begin + steps].astype(np.float32),
                    joints[window].astype(np.float32),
                    state,
                    int(stamps[begin]),
                )
            )


def _runs(log: BagLog, period_ns: int, cutting: Cutting, found: Cut) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Indices of frames a step apart, without a marker or a gap in between, each with the time since which commands hold."""
    stamps = log.times_ns
    known = log.measured.times_ns
    fresh = np.abs(known[nearest(known, stamps)] - stamps) <= cutting.joints_s * _NS
    found.dropped_frames["without a joint state"] += int((~fresh).sum())
    segment = np.searchsorted(log.markers_ns, stamps, side="right")
    late_ns = round(period_ns * cutting.late)
    numbers = np.unique(segment)
    found.ends["markers"] += len(numbers) - 1
    for number in numbers:
        usable = np.flatnonzero((segment == number) & fresh)
        begins = int(log.markers_ns[number - 1]) if number else int(stamps[0])
        if not len(usable):
            continue
        # The frame that follows each frame, a step later, if there is one.
        times = stamps[usable]
        following = nearest(times, times + period_ns)
        there = np.abs(times[following] - times - period_ns) <= late_ns
        position = 0
        while position < len(usable):
            run = [position]
            while there[run[-1]]:
                run.append(int(following[run[-1]]))
            if len(run) > 1:
                found.ends["gaps"] += int(times[-1] - times[run[-1]] > period_ns + late_ns)
                yield begins, usable[run]
            position = run[-1] + 1
