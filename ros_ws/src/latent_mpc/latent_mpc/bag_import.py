"""Recorded bags as a data set: what the camera saw a model step apart, and how the commanded tool moved in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm_model import Kinematics, load_arm
from latent_mpc.arm_log import ArmLog, at, read_arm_log
from latent_mpc.bag import BagError
from latent_mpc.shard_collection import claim
from sim.tasks import task_named
from sim.tasks.task import Task
from world_model.data import ShardWriter

_NS = 1_000_000_000
# A frame may come this share of a step too early or too late.
_LATE = 1 / 6
# A joint state must have been measured this near to a frame.
_JOINTS_NS = 50_000_000
# The commanded tool may stand this far outside the workspace of the task, and move this many times further than an action can.
_OUTSIDE_M = 0.01
_FURTHER = 1.25
_IDLE = 0.01


@dataclass(frozen=True)
class BagImport:
    """Which ``bags`` become episodes of ``steps`` actions of ``task`` in ``out``."""

    bags: tuple[Path, ...]
    task: str
    out: Path
    steps: int = 40
    episodes_per_shard: int = 25


@dataclass(frozen=True)
class Imported:
    """What came of it: ``dropped`` counts steps by the reason why they are in no episode."""

    episodes: int
    steps: int
    dropped: dict[str, int]

    def text(self) -> str:
        """For people."""
        lost = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        return f"{self.episodes} episodes of {self.steps} steps" + (f"; steps not used: {lost}" if lost else "")


@dataclass
class _Episodes:
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    joints: list[NDArray[np.float32]] = field(default_factory=list)
    state: list[NDArray[np.float32] | None] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    longest: int = 0


def import_bags(asked: BagImport, report: Callable[[int, int], None]) -> Imported:
    """Write the episodes of all bags; ``report(done, all)`` after each bag.

    Raises:
        UnknownTaskError: there is no such task.
        BagError: a bag cannot be used, or no episode of that length is in any.
        DatasetError: the folder holds another data set.
    """
    task = task_named(asked.task)
    kinematics = Kinematics(load_arm())
    found = _Episodes()
    report(0, len(asked.bags))
    for number, bag in enumerate(asked.bags):
        log = read_arm_log(bag, kinematics, (task.camera.height, task.camera.width))
        _cut(log, task, kinematics, asked.steps, f"{bag.resolve().parent.name}/{bag.name}", found)
        report(number + 1, len(asked.bags))
    if not found.actions:
        raise BagError(f"no unbroken motion of {asked.steps} steps in these bags, the longest has {found.longest}: give fewer --episode-steps")
    description = {
        "task": task.name,
        "tool_step": asdict(task.tool_step),
        "frame": [task.camera.height, task.camera.width, 3],
        "policy": "bags",
        "steps": asked.steps,
        "episodes_per_shard": asked.episodes_per_shard,
        "sources": found.sources,
        "dropped_steps": dict(found.dropped),
    }
    claim(asked.out, description)
    state = [row for row in found.state if row is not None]
    for index, first in enumerate(range(0, len(found.actions), asked.episodes_per_shard)):
        part = slice(first, first + asked.episodes_per_shard)
        writer = ShardWriter(asked.out, index)
        if not writer.path.is_dir():
            truth = np.stack(state[part]) if len(state) == len(found.state) else None
            writer.write(np.stack(found.frames[part]), np.stack(found.actions[part]), truth, np.stack(found.joints[part]))
    return Imported(len(found.actions), asked.steps, dict(found.dropped))


def _cut(log: ArmLog, task: Task, kinematics: Kinematics, steps: int, source: str, found: _Episodes) -> None:
    step = task.tool_step
    for begins, chosen in _runs(log, round(step.period_s * _NS)):
        stamps = log.camera.times_ns[chosen]
        tools = kinematics.tool_points(log.commanded_at(stamps, begins))
        displacement = np.diff(tools, axis=0)[:, : step.action_dim] / step.length_m
        inside = np.abs(tools - step.clamp(tools)).max(1) <= _OUTSIDE_M
        slow = np.abs(displacement).max(1) <= _FURTHER
        good = inside[:-1] & inside[1:] & slow
        found.dropped["outside the workspace or too fast"] += int((~good).sum())
        for first, last in _stretches(good):
            found.longest = max(found.longest, last - first)
            whole = (last - first) // steps
            found.dropped["in a stretch shorter than an episode"] += last - first - whole * steps
            for begin in range(first, first + whole * steps, steps):
                window = slice(begin, begin + steps + 1)
                actions = step.between(tools[window][:-1], tools[window][1:])
                if np.abs(actions).max() < _IDLE:
                    found.dropped["without motion"] += steps
                    continue
                times = stamps[window]
                found.frames.append(np.stack([log.camera.pictures[i] for i in chosen[window]]))
                found.actions.append(actions)
                found.joints.append(at(log.measured, times, begins).astype(np.float32))
                found.state.append(None if log.truth is None else at(log.truth, times, begins).astype(np.float32))
                found.sources.append({"bag": source, "stamp_ns": int(times[0])})
    found.dropped += Counter()  # forget reasons that never held


def _runs(log: ArmLog, period_ns: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Indices of frames a step apart, without a reset or a gap in between, each with the time since which commands hold."""
    stamps = log.camera.times_ns
    known = log.measured.times_ns
    fresh = np.abs(known[_nearest(known, stamps)] - stamps) <= _JOINTS_NS
    segment = np.searchsorted(log.resets_ns, stamps, side="right")
    late_ns = round(period_ns * _LATE)
    for number in np.unique(segment):
        usable = np.flatnonzero((segment == number) & fresh)
        begins = int(log.resets_ns[number - 1]) if number else int(stamps[0])
        if not len(usable):
            continue
        # The frame that follows each frame, a step later, if there is one.
        times = stamps[usable]
        following = _nearest(times, times + period_ns)
        there = np.abs(times[following] - times - period_ns) <= late_ns
        position = 0
        while position < len(usable):
            run = [position]
            while there[run[-1]]:
                run.append(int(following[run[-1]]))
            if len(run) > 1:
                yield begins, usable[run]
            position = run[-1] + 1


def _nearest(known: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the nearest of the sorted times ``known (N,)`` to each of ``wanted (M,)``."""
    after = np.searchsorted(known, wanted).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    return np.where(np.abs(known[before] - wanted) <= np.abs(known[after] - wanted), before, after)


def _stretches(good: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Begin and end of every unbroken run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    for first, last in edges.reshape(-1, 2):
        yield int(first), int(last)
