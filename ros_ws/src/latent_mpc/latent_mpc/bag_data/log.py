"""What a bag says about an arm: when pictures were taken, commanded and measured joints, ground truth where there is any, all by time."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm_model import Kinematics
from latent_mpc.bag import BagError, read_messages, stamp_ns
from latent_mpc.bag_data.clock import Clock, clock_by_reception, clock_of, clocks, on_clock
from latent_mpc.bag_data.commands import Commands, in_order, read_command
from latent_mpc.bag_data.pictures import picture
from latent_mpc.bag_data.timeline import at
from latent_mpc.bag_data.topics import AskedTopics, Topics, choose_topics
from latent_mpc.recording import Series

_TRUE_STATE = slice(1, 7)
# A message is received this much later than what it says was true, at most; stamps may run ahead of the recorder's clock a little.
_TRUTH_DELAY_NS, _STAMP_AHEAD_NS = 500_000_000, 20_000_000
_SAME_POINT_M, _ROUNDING_M = 1e-4, 1e-7
# A topic may say several things: joint states may be the actions as well.
_CAMERA, _JOINTS, _COMMANDS, _TRUTH, _MARKERS = "camera", "joints", "commands", "truth", "markers"


@dataclass(frozen=True)
class BagLog:
    """A stretch of a bag by one clock, everything by ROS time in ns, in order.

    ``times_ns (N,)``: the pictures' stamps, ``pictures (N,)`` which of the bag's pictures they are. ``measured`` joints ``(M, J) rad``. ``commands``:
    None where nothing was commanded. ``truth (K, 6)``: tool x y z, block x y yaw, None in a bag of a real arm. ``markers_ns``: where
    episodes end, a new scene or a new goal.
    """

    times_ns: NDArray[np.int64]
    pictures: NDArray[np.int64]
    measured: Series
    commands: Commands | None
    truth: Series | None
    markers_ns: NDArray[np.int64]

    def standing_at(self, times_ns: NDArray[np.int64], since_ns: int) -> NDArray[np.float64]:
        """Measured joints ``(N, J)`` at ``times_ns``."""
        return at(self.measured, times_ns, since_ns)


@dataclass(frozen=True)
class BagRead:
    """A bag: its ``topics``, the names of its ``joints``, a log for each of its clocks, and frames that are in none, counted by the reason."""

    path: Path
    topics: Topics
    joints: tuple[str, ...]
    logs: tuple[BagLog, ...]
    dropped_frames: dict[str, int] = field(default_factory=dict)


@dataclass
class _Heard:
    """Messages in the order in which they were received."""

    received: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)

    def add(self, received: int, message: Any, row: Any) -> None:
        """Keep ``row``, which ``message`` says; a message without a header, or whose stamp is 0, is dated by when it was received."""
        header = getattr(message, "header", None)
        self.received.append(received)
        self.stamps.append(0 if header is None else stamp_ns(header.stamp))
        self.rows.append(row)


def read_bag(
    bag: Path, asked: AskedTopics, joints: tuple[str, ...] | None, size: tuple[int, int], arm: Kinematics | None, velocities: bool
) -> BagRead:
    """Read everything but the pictures, of which only the first one is looked at; these must have at least ``size`` = ``(h, w)``.

    ``joints``: names in the order of the columns; those of the first joint state by default. ``arm`` dates the ground truth. ``velocities``: numbers
    without names (Float64MultiArray) are velocities of the joints, not positions.

    Raises:
        BagError: it cannot be read, lacks pictures or joint states, or holds pictures of a smaller size or another encoding.
    """
    topics = choose_topics(bag, asked)
    heard: dict[str, _Heard] = defaultdict(_Heard)
    dropped: Counter[str] = Counter()
    for entry in read_messages(bag, topics.all()):
        topic, message = entry.topic, entry.message
        if topic == topics.camera:
            if not heard[_CAMERA].rows:
                picture(f"{bag}, {topic}", message, size)
            heard[_CAMERA].add(entry.time_ns, message, None)
        if topic == topics.joint_states:
            joints = joints or tuple(str(name) for name in message.name) or None
            row = None if joints is None else in_order(joints, message.name, message.position)
            if row is not None:
                heard[_JOINTS].add(entry.time_ns, message, row)
        if topic == topics.actions:
            command = read_command(topics.types[topic], message)
            if command is not None:
                heard[_COMMANDS].add(entry.time_ns, message, command)
        if topic == topics.truth:
            heard[_TRUTH].add(entry.time_ns, message, np.array(message.data[_TRUE_STATE], dtype=np.float64))
        if topic in topics.markers:
            heard[_MARKERS].add(entry.time_ns, message, None)
    for role, topic in ((_CAMERA, topics.camera), (_JOINTS, topics.joint_states)):
        if not heard[role].rows:
            wanted = f" with the joints {', '.join(joints)}" if joints and role == _JOINTS else ""
            raise BagError(f"{bag} holds no message on {topic}{wanted} that could be used: no episode can be made of it")
    assert joints is not None
    logs = _logs(bag, topics, joints, heard, arm, velocities, dropped)
    return BagRead(bag, topics, joints, logs, {reason: count for reason, count in dropped.items() if count})


def _logs(
    bag: Path, topics: Topics, joints: tuple[str, ...], heard: dict[str, _Heard], arm: Kinematics | None, velocities: bool, dropped: Counter[str]
) -> tuple[BagLog, ...]:
    camera = heard[_CAMERA]
    received, stamps = np.array(camera.received, np.int64), np.array(camera.stamps, np.int64)
    if not stamps.any():  # a driver that stamps nothing: the time of reception is all there is
        stamps = received
    known = clocks(received, stamps)
    mine = np.repeat(np.arange(len(known)), np.diff([*np.searchsorted(received, [clock.first_ns for clock in known]), len(received)]))
    logs = []
    for number in range(len(known)):
        places = np.flatnonzero(mine == number)
        order = places[np.argsort(stamps[places], kind="stable")]
        fresh = np.diff(stamps[order], prepend=stamps[order[0]] - 1) > 0
        dropped["with the stamp of another one"] += int((~fresh).sum())
        order = order[fresh]
        measured = _series(*_on(known, number, heard[_JOINTS]))
        if len(measured.times_ns) == 0:
            dropped["without joint states by the same clock"] += len(order)
            continue
        times, rows = _on(known, number, heard[_COMMANDS])
        commands = None
        if rows and topics.actions is not None:
            commands = Commands.of(f"{bag}, {topics.actions}", topics.types[topics.actions], joints, times, rows, velocities)
        truth = None
        if topics.truth is not None and arm is not None and len(joints) == len(arm.arm.joints):
            said = _series(*_on(known, number, heard[_TRUTH]))
            truth = _dated(said, measured, arm) if len(said.times_ns) else None
        marked = sorted(_on(known, number, heard[_MARKERS])[0])
        logs.append(BagLog(stamps[order], order, measured, commands, truth, np.array(marked, np.int64)))
    if not logs:
        raise BagError(f"{bag}: no picture has the stamp of a joint state's clock; do camera and joint states use the same time?")
    return tuple(logs)


def _on(known: tuple[Clock, ...], number: int, heard: _Heard) -> tuple[list[int], list[Any]]:
    """Times and rows of the messages of clock ``number``: by their stamps, or by when they were received where they have none."""
    if not heard.rows:
        return [], []
    received, stamps = np.array(heard.received, np.int64), np.array(heard.stamps, np.int64)
    stamped = stamps > 0
    mine = np.where(stamped, clock_of(known, received, stamps), clock_by_reception(known, received)) == number
    times = np.where(stamped, stamps, on_clock(known[number], received))
    return times[mine].tolist(), [row for row, kept in zip(heard.rows, mine, strict=True) if kept]


def _series(times: list[int], rows: list[Any]) -> Series:
    order = np.argsort(times, kind="stable")
    return Series(np.array(times, np.int64)[order], np.array(rows, dtype=np.float64)[order])


def _dated(truth: Series, measured: Series, kinematics: Kinematics) -> Series | None:
    """Ground truth at the times that it was true: it carries no stamp, but its tool point is where the joints measured at that time put the tool.

    ``truth`` comes by the time at which it was received. None when no message fits.
    """
    tools = kinematics.tool_points(measured.values)
    times, rows = [], []
    for received, row in zip(truth.times_ns, truth.values, strict=True):
        first, last = np.searchsorted(measured.times_ns, [received - _TRUTH_DELAY_NS, received + _STAMP_AHEAD_NS])
        apart = np.abs(tools[first:last] - row[:3]).max(1)
        if len(apart) and apart.min() < _SAME_POINT_M:
            # At rest every moment fits; the latest is the likeliest.
            times.append(int(measured.times_ns[first + np.flatnonzero(apart <= apart.min() + _ROUNDING_M)[-1]]))
            rows.append(row)
    return _series(times, rows) if rows else None
