"""What was published while faults acted, read from the bag of a run: commands, joint states, plans, statuses, and the events of the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer

from latent_mpc.bag import NS_PER_S, TYPES, BagMessage, read_messages, stamp_ns, status_values
from latent_mpc.check_bag import TRAJECTORY_TOPIC, until_held
from latent_mpc.faults_topics import EVENTS, RIVAL_FRAME

CYCLE_NS = 10_000_000
_SAME_CLOCK_NS = 500_000_000
_SAME = 1e-9
_MOST_LATE = 20


@dataclass(frozen=True)
class Sent:
    """One command: ``positions (N, J) rad`` 10 ms apart, the first one cycle after ``stamp_ns``. ``received_ns`` is when the recorder heard it."""

    received_ns: int
    stamp_ns: int
    positions: NDArray[np.float64]
    values: int
    non_finite: int

    @property
    def sent_ns(self) -> int:
        """The least upper bound of when it was sent: it was heard by then, and its cycle ends a cycle after its stamp."""
        if abs(self.received_ns - self.stamp_ns) > _SAME_CLOCK_NS:
            return self.received_ns
        return min(self.received_ns, self.stamp_ns + CYCLE_NS)

    @property
    def standing(self) -> bool:
        """Whether it asks for nothing but to stand where it begins."""
        return len(self.positions) == 1


@dataclass(frozen=True)
class Status:
    """What a node said of itself; ``level`` 2 is ERROR."""

    time_ns: int
    name: str
    message: str
    level: int
    values: dict[str, str]


@dataclass(frozen=True)
class Window:
    """The time that belongs to one repeat of the faults: from ``since_ns``, when the first began, to ``until_ns``.

    The last began at ``last_ns``; the last end was at ``ended_ns``.
    """

    since_ns: int
    last_ns: int
    ended_ns: int
    until_ns: int


@dataclass(frozen=True)
class Recording:
    """One run. Everything is in the order in which the recorder received it."""

    bag: Path
    commands: tuple[Sent, ...]
    joint_states: tuple[BagMessage, ...]
    plans: tuple[BagMessage, ...]
    latents_ns: tuple[int, ...]
    guard: tuple[Status, ...]
    others: tuple[Status, ...]
    events: tuple[dict[str, Any], ...]

    def windows(self, seconds: float) -> list[Window]:
        """One window per repeat of the faults; it lasts ``seconds``, or until the runner began to bring everything back."""
        found = []
        starts = [index for index, event in enumerate(self.events) if event["what"] == "repeat"]
        for index, stop in zip(starts, [*starts[1:], len(self.events)], strict=False):
            begun = self.events[index]["time_ns"]
            mine = self.events[index:stop]
            since = [event["time_ns"] for event in mine if event["what"] == "fault"]
            ended = [event["time_ns"] for event in mine if event["what"] == "end"]
            first = min(since, default=begun)
            found.append(Window(first, max(since, default=first), max(ended, default=first), first + round(seconds * 1e9)))
        return found

    def sent(self, window: Window) -> list[Sent]:
        """Commands sent in a window."""
        return [command for command in self.commands if window.since_ns <= command.sent_ns <= window.until_ns]

    def said(self, window: Window) -> list[Status]:
        """What the guardrail said in a window."""
        return [status for status in self.guard if window.since_ns <= status.time_ns <= window.until_ns]


def load(bag: Path) -> Recording:
    """Read the bag of a run.

    Raises:
        BagError: it cannot be read.
    """
    commands: list[Sent] = []
    kept: dict[str, list[BagMessage]] = {"/joint_states": [], "/planner/plan": [], "/perception/latent": []}
    guard: list[Status] = []
    others: list[Status] = []
    events: list[dict[str, Any]] = []
    for entry in read_messages(bag, [TRAJECTORY_TOPIC, "/guardrail/status", "/diagnostics", EVENTS, *kept], pass_over_malformed=True):
        if entry.topic in kept:
            kept[entry.topic].append(entry)
        elif entry.topic == EVENTS:
            events.append(json.loads(entry.message.data))
        elif entry.topic == "/guardrail/status":
            guard.append(_status(entry.time_ns, entry.message))
        elif entry.topic == "/diagnostics":
            others += [_status(entry.time_ns, status) for status in entry.message.status]
        elif entry.message.header.frame_id != RIVAL_FRAME:
            commands.append(_sent(entry))
    return Recording(
        bag=bag,
        commands=tuple(commands),
        joint_states=tuple(kept["/joint_states"]),
        plans=tuple(kept["/planner/plan"]),
        latents_ns=tuple(entry.time_ns for entry in kept["/perception/latent"]),
        guard=tuple(guard),
        others=tuple(others),
        events=tuple(sorted(events, key=lambda event: int(event["time_ns"]))),
    )


def _status(time_ns: int, message: Any) -> Status:
    return Status(time_ns, str(message.name), str(message.message), int(message.level), status_values(message))


def _sent(entry: BagMessage) -> Sent:
    points = entry.message.points
    positions = np.array([point.positions for point in points], dtype=np.float64)
    positions = positions[: until_held(positions)] if len(points) else positions
    blocks = [np.asarray(row, dtype=np.float64) for point in points for row in (point.positions, point.velocities, point.accelerations)]
    return Sent(
        received_ns=entry.time_ns,
        stamp_ns=stamp_ns(entry.message.header.stamp),
        positions=positions,
        values=sum(block.size for block in blocks),
        non_finite=sum(int(np.sum(~np.isfinite(block))) for block in blocks),
    )


def continues(before: Sent, after: Sent) -> bool:
    """Whether ``after`` asks for nothing but what ``before`` promised already: the rest of its braking trajectory."""
    elapsed = (after.stamp_ns - before.stamp_ns) // CYCLE_NS
    if elapsed < 0:
        return False
    promised = before.positions[min(elapsed, len(before.positions) - 1) :]
    return promised.shape == after.positions.shape and bool(np.abs(promised - after.positions).max() < _SAME)


def braking(commands: Sequence[Sent], since_ns: int, until_ns: int) -> tuple[Sent, Sent] | None:
    """The first braking command and the first standing one after ``since_ns``: from the one to the other, every command only continues the last.

    None when the arm is not brought to rest until ``until_ns``, or stood at ``since_ns``: then there is no reaction to see.
    """
    first = next((index for index, command in enumerate(commands) if command.sent_ns > since_ns), None)
    if first is None or first == 0 or commands[first - 1].standing:
        return None
    for index in range(first, len(commands)):
        if commands[index].sent_ns > until_ns:
            return None
        if commands[index].standing and continues(commands[index - 1], commands[index]):
            begin = index
            while begin > first and continues(commands[begin - 1], commands[begin]):
                begin -= 1
            if not continues(commands[begin - 1], commands[begin]):
                begin += 1
            return commands[min(begin, index)], commands[index]
    return None


def guardrail_alone(bag: Path, out: Path) -> Path:
    """A copy of the commands in ``bag`` for a checker that takes every command for the guardrail's, and time for something that only goes on.

    What a rival commanded is left out. Where ROS time was set, later stamps go on as if it had not been: the commands before and after make one
    motion, whose limits have to be kept across the jump.
    """
    msgtype = "trajectory_msgs/msg/JointTrajectory"
    shift_ns, last = 0, None
    with Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TRAJECTORY_TOPIC, msgtype, typestore=TYPES)
        for entry in read_messages(bag, [TRAJECTORY_TOPIC]):
            header = entry.message.header
            if header.frame_id == RIVAL_FRAME:
                continue
            sent = _sent(entry)
            if last is not None:
                jump_ns = (sent.stamp_ns - last.stamp_ns) - (sent.received_ns - last.received_ns)
                shift_ns -= _whole_cycles(last, sent, jump_ns) if abs(jump_ns) > _SAME_CLOCK_NS else 0
            last = sent
            header.stamp.sec, header.stamp.nanosec = divmod(sent.stamp_ns + shift_ns, NS_PER_S)
            writer.write(connection, entry.time_ns, TYPES.serialize_cdr(entry.message, msgtype))
    return out


def _whole_cycles(before: Sent, after: Sent, jump_ns: int) -> int:
    """By how much the stamps jumped, ns: the recorder's time tells it to some cycles, the promise that is continued tells which."""
    cycles = (after.stamp_ns - before.stamp_ns) // CYCLE_NS - round(jump_ns / CYCLE_NS)
    for elapsed in sorted(range(1, _MOST_LATE), key=lambda count: abs(count - cycles)):
        if continues(replace(before, stamp_ns=after.stamp_ns - elapsed * CYCLE_NS), after):
            return after.stamp_ns - before.stamp_ns - elapsed * CYCLE_NS
    return round(jump_ns / CYCLE_NS) * CYCLE_NS
