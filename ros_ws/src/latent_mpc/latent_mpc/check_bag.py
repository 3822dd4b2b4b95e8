"""Were the joints' limits kept? Answered from a bag and a URDF alone.

Nothing here is shared with the parts that produce commands: the URDF is parsed again, and velocity, acceleration and jerk come from the commanded
positions, by finite differences on the 10 ms grid. A backward difference of order n is an average of the n-th derivative over n steps, so a
trajectory that keeps its limits never fails here.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.stores.ros2_kilted import trajectory_msgs__msg__JointTrajectory as JointTrajectory

from latent_mpc.bag import NS_PER_S, read_messages, read_topics, stamp_ns
from latent_mpc.urdf_limits import CheckError, UrdfLimits, read_urdf_limits

TRAJECTORY_TOPIC = "/joint_trajectory_controller/joint_trajectory"
VELOCITY_TOPIC = "/forward_velocity_controller/commands"
JOINT_STATES_TOPIC = "/joint_states"
STEP_S = 0.01
_STEP_NS = 10_000_000
_NEW_SEGMENT_NS = 100_000_000
# Rounding only: third differences of doubles divided by (10 ms)^3 are good to about 1e-9 of a Panda's limits, positions in messages to 1e-16.
_RELATIVE_TOLERANCE = 1e-4
_POSITION_TOLERANCE_RAD = 1e-9
KINDS = ("position", "velocity", "acceleration", "jerk")
_ORDERS = {"velocity": 1, "acceleration": 2, "jerk": 3}


@dataclass(frozen=True)
class Command:
    """One command message: ``times_ns (N,) int64`` ROS time of its points; ``positions``, ``velocities``, ``accelerations`` ``(N, J)``.

    Velocities and accelerations are empty ``(0, J)`` when the message carries none.
    """

    times_ns: NDArray[np.int64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    accelerations: NDArray[np.float64]


@dataclass(frozen=True)
class Worst:
    """The value of one joint that came closest to its limit or passed it. ``margin`` is negative when it passed."""

    value: float
    limit: float
    margin: float


@dataclass(frozen=True)
class CheckReport:
    """What a bag says about the limits.

    ``violations`` counts the executed stream, one per joint and grid point, by kind, and the non-finite values of all messages. ``promised`` counts,
    by the same differences, what each message would have led to had nothing followed it. ``carried`` counts the velocities and accelerations that
    messages state about their own points. ``malformed`` counts messages by what is wrong with them, ``overlapping`` those that start no later than
    the one before. ``measured`` is reported, not judged.
    """

    bag: str
    topic: str
    messages: int
    duration_s: float
    segments: int
    malformed: dict[str, int]
    overlapping: int
    violations: dict[str, int]
    promised: dict[str, int]
    carried: dict[str, int]
    worst: dict[str, dict[str, Worst]]
    measured: dict[str, dict[str, Worst]]

    @property
    def total(self) -> int:
        """Everything that makes the check fail."""
        return sum(sum(counts.values()) for counts in (self.violations, self.promised, self.carried, self.malformed))


def check_bag(bag: Path, urdf: Path, topic: str | None = None, joints: Sequence[str] = ()) -> CheckReport:
    """Check the commands on ``topic`` of ``bag`` against the limits in ``urdf``.

    ``topic`` defaults to whichever of the two controllers' topics the bag holds. ``joints`` is the order of a velocity command's values, by default
    that of the URDF; trajectories name their joints.

    Raises:
        CheckError: the URDF lacks a limit, or there are no commands to check: a check of nothing must not pass.
        BagError: the bag cannot be read.
    """
    chosen = topic or _find_topic(bag)
    msgtype = read_topics(bag).get(chosen)
    if msgtype is None:
        raise CheckError(f"{bag} has no topic {chosen}")
    if msgtype == "std_msgs/msg/Float64MultiArray":
        return _check_velocities(bag, urdf, chosen, joints)
    if msgtype == "trajectory_msgs/msg/JointTrajectory":
        return _check_trajectories(bag, urdf, chosen)
    raise CheckError(f"{chosen} holds {msgtype}; commands are JointTrajectory or Float64MultiArray")


def summary(report: CheckReport) -> str:
    """What a person wants to know, over a few lines."""
    lines = [
        f"{report.messages} messages over {report.duration_s:.1f} s on {report.topic}, {report.segments} unbroken segment(s): "
        + (f"{report.total} violation(s)" if report.total else "no violation")
    ]
    for name in ("violations", "promised", "carried", "malformed"):
        counts: dict[str, int] = getattr(report, name)
        found = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
        if found:
            lines.append(f"  {name}: {found}")
    for kind in KINDS:
        entries = [(kinds[kind], joint) for joint, kinds in report.worst.items() if kind in kinds]
        if entries:
            worst, joint = min(entries, key=lambda entry: entry[0].margin / abs(entry[0].limit or 1.0))
            lines.append(f"  {kind}: closest to its limit is {joint}, {worst.value:.4g} of {worst.limit:.4g}")
    return "\n".join(lines)


def executed_stream(commands: Sequence[Command]) -> list[NDArray[np.float64]]:
    """Positions ``(N, J)`` on the 10 ms grid that a controller passes through, one array per unbroken segment.

    Points of a command hold until the first point of the next. Past the last point the controller holds it; after more than 0.1 s of that the next
    command starts a new segment (the arm was re-armed). Each segment ends with three held points, so that one which does not end at rest is seen.
    """
    chunks: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for command in commands:
        first = command.times_ns[0]
        while chunks and chunks[-1][0][0] >= first:
            chunks.pop()
        if chunks:
            times, positions = chunks[-1]
            kept = int(np.searchsorted(times, first))
            chunks[-1] = times[:kept], positions[:kept]
        chunks.append((command.times_ns, command.positions))
    segments: list[list[NDArray[np.float64]]] = []
    last = None
    for times, positions in chunks:
        if last is None or times[0] - last > _NEW_SEGMENT_NS:
            segments.append([])
        else:
            held = int((times[0] - last) // _STEP_NS) - 1
            segments[-1].append(np.repeat(segments[-1][-1][-1:], held, axis=0))
            if held == 0:
                segments[-1].pop()
        segments[-1].append(positions)
        last = times[-1]
    return [_held(np.concatenate(parts)) for parts in segments]


def differences(positions: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Velocity, acceleration or jerk by backward differences along the second last axis of ``positions (..., N, J)``."""
    order = _ORDERS[kind]
    result: NDArray[np.float64] = np.diff(positions, n=order, axis=-2) / STEP_S**order
    return result


def _check_trajectories(bag: Path, urdf: Path, topic: str) -> CheckReport:
    messages = [entry.message for entry in read_messages(bag, [topic])]
    if not messages:
        raise CheckError(f"{bag} holds no message on {topic}: nothing to check")
    joints = next((tuple(message.joint_names) for message in messages if message.joint_names), ())
    limits = read_urdf_limits(urdf, joints)
    malformed: Counter[str] = Counter()
    commands: list[Command] = []
    overlapping = 0
    for message in messages:
        command = _command(message, limits.joints)
        if isinstance(command, str):
            malformed[command] += 1
            continue
        if commands:
            since = int(command.times_ns[0] - commands[-1].times_ns[0])
            if since % _STEP_NS and command.times_ns[0] - commands[-1].times_ns[-1] <= _NEW_SEGMENT_NS:
                malformed["not on the 10 ms grid of the message before"] += 1
                continue
            overlapping += since <= 0
        commands.append(command)
    stream = executed_stream(commands)
    values = {"position": stream} | {kind: [differences(segment, kind) for segment in stream] for kind in _ORDERS}
    non_finite = sum(int(np.sum(~np.isfinite(block))) for c in commands for block in (c.positions, c.velocities, c.accelerations))
    # What a message promises is checked for all messages of one length at once.
    by_length: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for command in commands:
        by_length[len(command.positions)].append(command.positions)
    promised: Counter[str] = Counter()
    for group in by_length.values():
        tails = _held(np.stack(group))
        promised["position"] += _outside(tails, limits)
        for kind in _ORDERS:
            promised[kind] += _above(differences(tails, kind), limits.of(kind))
    carried = {
        "velocity": sum(_above(command.velocities, limits.velocity) for command in commands),
        "acceleration": sum(_above(command.accelerations, limits.acceleration) for command in commands),
    }
    span_ns = int(commands[-1].times_ns[-1] - commands[0].times_ns[0]) if commands else 0
    return CheckReport(
        bag=str(bag),
        topic=topic,
        messages=len(messages),
        duration_s=span_ns / NS_PER_S,
        segments=len(stream),
        malformed=dict(malformed),
        overlapping=overlapping,
        violations=_counts(values, limits) | {"non_finite": non_finite},
        promised={kind: promised[kind] for kind in KINDS},
        carried=carried,
        worst=_worst(values, limits),
        measured=_measured(bag, limits),
    )


def _check_velocities(bag: Path, urdf: Path, topic: str, joints: Sequence[str]) -> CheckReport:
    """Every message is one step of the nominal grid: a value that comes late was held, and the jump that follows it is as large as it looks."""
    entries = list(read_messages(bag, [topic]))
    if not entries:
        raise CheckError(f"{bag} holds no message on {topic}: nothing to check")
    limits = read_urdf_limits(urdf, joints)
    malformed: Counter[str] = Counter()
    segments: list[list[NDArray[np.float64]]] = []
    last_ns: int | None = None
    for entry in entries:
        row = np.asarray(entry.message.data, dtype=np.float64)
        if row.shape != limits.lower.shape:
            malformed[f"{row.size} values for {len(limits.joints)} joints"] += 1
            continue
        if last_ns is None or entry.time_ns - last_ns > _NEW_SEGMENT_NS:
            segments.append([])
        segments[-1].append(row)
        last_ns = entry.time_ns
    stream = [np.array(rows) for rows in segments]
    values = {
        "velocity": stream,
        "acceleration": [differences(rows, "velocity") for rows in stream],
        "jerk": [differences(rows, "acceleration") for rows in stream],
    }
    return CheckReport(
        bag=str(bag),
        topic=topic,
        messages=len(entries),
        duration_s=(entries[-1].time_ns - entries[0].time_ns) / NS_PER_S,
        segments=len(stream),
        malformed=dict(malformed),
        overlapping=0,
        violations=_counts(values, limits) | {"non_finite": sum(int(np.sum(~np.isfinite(rows))) for rows in stream)},
        promised=dict.fromkeys(KINDS, 0),
        carried={"velocity": 0, "acceleration": 0},
        worst=_worst(values, limits),
        measured=_measured(bag, limits),
    )


def _find_topic(bag: Path) -> str:
    held = read_topics(bag)
    for topic in (TRAJECTORY_TOPIC, VELOCITY_TOPIC):
        if topic in held:
            return topic
    raise CheckError(f"{bag} holds no commands, neither on {TRAJECTORY_TOPIC} nor on {VELOCITY_TOPIC}")


def _command(message: JointTrajectory, joints: tuple[str, ...]) -> Command | str:
    """A command with its columns in the order of ``joints``, or what is wrong with it."""
    if sorted(message.joint_names) != sorted(joints):
        return "other joint names"
    if not message.points:
        return "no points"
    columns = [message.joint_names.index(name) for name in joints]
    offsets = np.array([stamp_ns(point.time_from_start) for point in message.points], dtype=np.int64)
    if np.any(np.diff(offsets) != _STEP_NS):
        return "points not 10 ms apart"
    blocks: list[NDArray[np.float64]] = []
    for field in ("positions", "velocities", "accelerations"):
        rows = [getattr(point, field) for point in message.points]
        sizes = {len(row) for row in rows}
        if field != "positions" and sizes == {0}:
            blocks.append(np.empty((0, len(joints))))
        elif sizes == {len(joints)}:
            blocks.append(np.array(rows, dtype=np.float64)[:, columns])
        else:
            return f"{field} of the wrong length"
    count = until_held(np.concatenate(blocks[: 1 if blocks[1].size == 0 else 2], axis=1))
    return Command(stamp_ns(message.header.stamp) + offsets[:count], *(block[:count] for block in blocks))


def until_held(rows: NDArray[np.float64]) -> int:
    """How many of ``rows (N, ...)`` there are up to the first of those that only repeat the last.

    A hold may be repeated to the end of a message, so that no controller finds it over: it is one sample, and says nothing of how long it is held.
    """
    moving = np.flatnonzero((rows[:-1] != rows[-1]).any(axis=1))
    return int(moving[-1]) + 2 if moving.size else 1


def _held(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """``positions (..., N, J)`` followed by their last row three times over."""
    return np.concatenate([positions, np.repeat(positions[..., -1:, :], 3, axis=-2)], axis=-2)


def _above(values: NDArray[np.float64], limit: NDArray[np.float64]) -> int:
    return int(np.sum(np.abs(values) > limit * (1 + _RELATIVE_TOLERANCE)))


def _outside(positions: NDArray[np.float64], limits: UrdfLimits) -> int:
    below = positions < limits.lower - _POSITION_TOLERANCE_RAD
    return int(np.sum(below | (positions > limits.upper + _POSITION_TOLERANCE_RAD)))


def _counts(values: Mapping[str, Sequence[NDArray[np.float64]]], limits: UrdfLimits) -> dict[str, int]:
    counts = dict.fromkeys(KINDS, 0)
    for kind, blocks in values.items():
        counts[kind] = sum(_outside(block, limits) if kind == "position" else _above(block, limits.of(kind)) for block in blocks)
    return counts


def _worst(values: Mapping[str, Sequence[NDArray[np.float64]]], limits: UrdfLimits) -> dict[str, dict[str, Worst]]:
    worst: dict[str, dict[str, Worst]] = {joint: {} for joint in limits.joints}
    for (kind, blocks), (column, joint) in itertools.product(values.items(), enumerate(limits.joints)):
        series = np.concatenate([block[:, column] for block in blocks]) if blocks else np.empty(0)
        finite = series[np.isfinite(series)]
        unlimited = kind == "position" and not np.isfinite([limits.lower[column], limits.upper[column]]).all()
        if finite.size and not unlimited:
            if kind == "position":
                candidates = _nearest(finite, float(limits.lower[column]), float(limits.upper[column]))
            else:
                candidates = _largest(finite, float(limits.of(kind)[column]))
            worst[joint][kind] = min(candidates, key=lambda entry: entry.margin)
    return worst


def _nearest(values: NDArray[np.float64], lower: float, upper: float) -> Iterator[Worst]:
    low, high = float(values.min()), float(values.max())
    yield Worst(low, lower, low - lower)
    yield Worst(high, upper, upper - high)


def _largest(values: NDArray[np.float64], limit: float) -> Iterator[Worst]:
    largest = float(np.abs(values).max())
    yield Worst(largest, limit, limit - largest)


def _measured(bag: Path, limits: UrdfLimits) -> dict[str, dict[str, Worst]]:
    positions: list[NDArray[np.float64]] = []
    velocities: list[NDArray[np.float64]] = []
    for entry in read_messages(bag, [JOINT_STATES_TOPIC]):
        names = list(entry.message.name)
        if not set(limits.joints) <= set(names):
            continue
        columns = [names.index(joint) for joint in limits.joints]
        for rows, field in ((positions, entry.message.position), (velocities, entry.message.velocity)):
            if len(field) == len(names):
                rows.append(np.asarray(field, dtype=np.float64)[columns])
    values = {kind: [np.array(rows)] for kind, rows in (("position", positions), ("velocity", velocities)) if rows}
    return _worst(values, limits) if values else {}
