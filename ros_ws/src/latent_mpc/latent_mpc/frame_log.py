"""When each camera frame became what: picture, latent, plan and command, by the stamps that DDS and the journals carry.

A message brings the time at which its publisher wrote it, so that nothing depends on how soon somebody who only looks on gets round to reading it.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner_node.grid import stamp_of_slot
from planner_node.journal import Kind, read_rows

HOPS = ("picture", "latent", "planner", "plan", "guardrail", "command")
"""What a frame becomes, in order. ``planner`` and ``guardrail``: when these nodes took a message in; the others: when it was published."""

_MS = 1e-6


@dataclass
class FrameLog:
    """All that was heard: ROS time in ns by the stamp of the frame, ``commands`` by their own stamp, and the rows of both journals ``(N, 4)``."""

    pictures: dict[int, int] = field(default_factory=dict)
    latents: dict[int, int] = field(default_factory=dict)
    plans: dict[int, int] = field(default_factory=dict)
    commands: dict[int, int] = field(default_factory=dict)
    planner_journal: list[NDArray[np.int64]] = field(default_factory=list)
    guardrail_journal: list[NDArray[np.int64]] = field(default_factory=list)


@dataclass(frozen=True)
class Frame:
    """One frame while a goal was pursued: ms from its stamp to each of ``HOPS``, None for what it never became."""

    stamp_ns: int
    ms: Mapping[str, float | None]

    @property
    def to_command_ms(self) -> float | None:
        """Ms from the frame's stamp until the first command that carries its plan was published; None where there is none."""
        return self.ms["command"]


@dataclass(frozen=True)
class Pursuit:
    """The frames from the moment that the planner took a goal in until the last one that it planned from."""

    begun_ns: int
    frames: tuple[Frame, ...]

    def seconds(self, period_s: float) -> float:
        """How long that was, for a camera of ``period_s``: from the first frame until the next one after the last would have come."""
        return (self.frames[-1].stamp_ns - self.frames[0].stamp_ns) * 1e-9 + period_s

    @property
    def plans(self) -> int:
        """Frames that a plan was published for."""
        return sum(frame.ms["plan"] is not None for frame in self.frames)


def pursuits(log: FrameLog) -> list[Pursuit]:
    """The goals of a run, each with its frames. A frame that was published and led to nothing is among them."""
    goals, taken = _planner_events(log.planner_journal)
    arrived, issued = _guardrail_events(log.guardrail_journal, log.commands)
    stamps = sorted(log.pictures.keys() | log.latents.keys())
    found = []
    for begin, until in itertools.pairwise([*goals, _END]):
        planned = [stamp for stamp in log.plans if begin <= stamp < until]
        if not planned:
            continue
        last = max(planned)
        frames = tuple(
            Frame(stamp, {hop: None if at is None else (at - stamp) * _MS for hop, at in zip(HOPS, times, strict=True)})
            for stamp in stamps[bisect.bisect_left(stamps, begin) : bisect.bisect_right(stamps, last)]
            for times in [
                (log.pictures.get(stamp), log.latents.get(stamp), taken.get(stamp), log.plans.get(stamp), arrived.get(stamp), issued.get(stamp))
            ]
        )
        found.append(Pursuit(begin, frames))
    return found


_END = 2**63 - 1


def _planner_events(rows: Sequence[NDArray[np.int64]]) -> tuple[list[int], dict[int, int]]:
    """When goals were taken in, ns, and when the latent of each frame was, by its stamp."""
    goals: list[int] = []
    taken: dict[int, int] = {}
    for entry in read_rows(_whole(rows)):
        if entry.kind is Kind.GOAL:
            goals.append(entry.at.ros_ns)
        elif entry.kind is Kind.FRAME:
            taken[entry.what] = entry.at.ros_ns
    return goals, taken


def _guardrail_events(rows: Sequence[NDArray[np.int64]], commands: Mapping[int, int]) -> tuple[dict[int, int], dict[int, int]]:
    """When the plan of each frame came, and when the command was published with which it took effect: by the stamp of the frame, ns.

    The newest plan before a cycle takes effect with it; one that another followed before the next cycle never does.
    """
    arrived: dict[int, int] = {}
    issued: dict[int, int] = {}
    waiting: int | None = None
    for entry in read_rows(_whole(rows)):
        if entry.kind is Kind.PLAN:
            arrived[entry.what] = entry.at.ros_ns
            waiting = entry.what
        elif entry.kind is Kind.CYCLE and waiting is not None:
            at = commands.get(stamp_of_slot(entry.what))
            if at is not None:
                issued.setdefault(waiting, at)
            waiting = None
    return arrived, issued


def _whole(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(rows) if rows else np.empty((0, 4), np.int64)
