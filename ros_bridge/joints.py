"""Joint states and joint trajectories as arrays in the order that the reader asks for, and back."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ros_bridge.cdr import CdrError, CdrReader, Points
from ros_bridge.stamps import NS_PER_S, header_at, stamp_ns

Row = Sequence[float] | NDArray[np.float64]
# Nanoseconds from the start, positions, velocities, accelerations.
_Point = tuple[int, Row, Row, Row]


class JointError(ValueError):
    """A joint message that cannot be used, with the reason in one line."""


@dataclass(frozen=True)
class JointReading:
    """Measured joints: ``position (J,) float64, rad``, ``velocity (J,) rad/s`` or None when the driver sends none, ``stamp_ns`` ROS time."""

    position: NDArray[np.float64]
    velocity: NDArray[np.float64] | None
    stamp_ns: int


@dataclass(frozen=True)
class Trajectory:
    """A joint trajectory: ``times (N,) s`` after ``stamp_ns``, strictly increasing; ``positions (N, J) rad``; ``velocities (N, J) rad/s``.

    ``accelerations (N, J) rad/s^2`` is None when the sender gave none.
    """

    stamp_ns: int
    times: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    accelerations: NDArray[np.float64] | None = None


def read_joint_state(msg: JointState, names: Sequence[str]) -> JointReading:
    """The joints ``names`` of a message that may hold more of them, in any order.

    Raises:
        JointError: a joint is missing or given twice, lengths disagree, or a value is not finite.
    """
    return _reading(stamp_ns(msg.header.stamp), msg.name, msg.position, msg.velocity, names)


def read_joint_state_payload(payload: bytes, names: Sequence[str]) -> JointReading:
    """The same of a serialized JointState, which has to be one to its last byte; half as long as through the message.

    Raises:
        JointError: as ``read_joint_state``, or the payload is no whole message.
    """
    try:
        cdr = CdrReader(payload)
        stamp, _, given = cdr.stamp_ns(), cdr.text(), cdr.texts()
        position, velocity, _ = cdr.doubles(), cdr.doubles(), cdr.doubles()
        cdr.end()
    except CdrError as error:
        raise JointError(str(error)) from error
    return _reading(stamp, given, position, velocity, names)


def joint_state_message(names: Sequence[str], position: NDArray[np.float64], velocity: NDArray[np.float64] | None, header: Header) -> JointState:
    """A JointState of ``position (J,) rad`` and ``velocity (J,) rad/s``."""
    msg = JointState(header=header, name=list(names), position=array("d", position.tobytes()))
    if velocity is not None:
        msg.velocity = array("d", velocity.tobytes())
    return msg


def read_trajectory(msg: JointTrajectory, names: Sequence[str]) -> Trajectory:
    """A trajectory with its columns in the order of ``names``, which it must hold exactly.

    Raises:
        JointError: names missing, unknown or given twice; no points; a point without positions or velocities, or of the wrong length;
            times negative or not strictly increasing; a value that is not finite.
    """
    points = [(stamp_ns(point.time_from_start), point.positions, point.velocities, point.accelerations) for point in msg.points]
    return _trajectory(stamp_ns(msg.header.stamp), msg.joint_names, points, names)


def read_trajectory_payload(payload: bytes, names: Sequence[str]) -> Trajectory:
    """The same of a serialized JointTrajectory, which has to be one to its last byte.

    Raises:
        JointError: as ``read_trajectory``, or the payload is no whole message.
    """
    try:
        cdr = CdrReader(payload)
        stamp, _, given = cdr.stamp_ns(), cdr.text(), cdr.texts()
        alike = cdr.like_points(len(given))
        points: list[_Point] = []
        for _ in range(0 if alike is not None else cdr.points()):
            positions, velocities, accelerations, _ = cdr.doubles(), cdr.doubles(), cdr.doubles(), cdr.doubles()
            points.append((cdr.stamp_ns(), positions, velocities, accelerations))
        cdr.end()
    except CdrError as error:
        raise JointError(str(error)) from error
    if alike is None:
        return _trajectory(stamp, given, points, names)
    return _in_order(stamp, alike, _columns(given, names, exact=True))


def trajectory_message(trajectory: Trajectory, names: Sequence[str], frame_id: str = "") -> JointTrajectory:
    """A JointTrajectory of ``trajectory``, whose columns are in the order of ``names``.

    Raises:
        JointError: shapes disagree, times do not increase, or a value is not finite: such a message must never leave.
    """
    shape = (trajectory.times.size, len(names))
    rows = [trajectory.positions, trajectory.velocities]
    if trajectory.accelerations is not None:
        rows.append(trajectory.accelerations)
    if not shape[0] or any(block.shape != shape for block in rows):
        raise JointError(f"trajectory blocks have shapes {[block.shape for block in rows]}, expected {shape} with at least one point")
    if not all(np.isfinite(block).all() for block in (trajectory.times, *rows)):
        raise JointError("trajectory holds a value that is not finite")
    nanoseconds = np.rint(trajectory.times * NS_PER_S).astype(np.int64)
    if nanoseconds[0] < 0 or np.any(np.diff(nanoseconds) <= 0):
        raise JointError("trajectory times are negative or do not increase")
    points = []
    for index, ns in enumerate(nanoseconds.tolist()):
        # array.array is taken over whole; a list would be checked element by element, 100 times a second.
        point = JointTrajectoryPoint(time_from_start=Duration(sec=ns // NS_PER_S, nanosec=ns % NS_PER_S))
        point.positions = array("d", trajectory.positions[index].tobytes())
        point.velocities = array("d", trajectory.velocities[index].tobytes())
        if trajectory.accelerations is not None:
            point.accelerations = array("d", trajectory.accelerations[index].tobytes())
        points.append(point)
    return JointTrajectory(header=header_at(trajectory.stamp_ns, frame_id), joint_names=list(names), points=points)


def _reading(stamp: int, given: Sequence[str], positions: Row, velocities: Row, names: Sequence[str]) -> JointReading:
    columns = _columns(given, names, exact=False)
    position = _values(positions, len(given), "position")[columns]
    velocity = _values(velocities, len(given), "velocity")[columns] if len(velocities) else None
    _require_finite(position, "position")
    if velocity is not None:
        _require_finite(velocity, "velocity")
    return JointReading(position, velocity, stamp)


def _trajectory(stamp: int, given: Sequence[str], points: Sequence[_Point], names: Sequence[str]) -> Trajectory:
    columns = _columns(given, names, exact=True)
    if not points:
        raise JointError("trajectory has no points")
    count = len(given)
    ns = np.array([point[0] for point in points], dtype=np.int64)
    _require_increasing(ns)
    positions = _rows([point[1] for point in points], count, "positions")
    velocities = _rows([point[2] for point in points], count, "velocities")
    accelerations = _rows([point[3] for point in points], count, "accelerations") if len(points[0][3]) else None
    return _in_order(stamp, Points(ns, positions, velocities, accelerations), columns)


def _in_order(stamp: int, points: Points, columns: list[int]) -> Trajectory:
    _require_increasing(points.ns)
    positions, velocities = points.positions[:, columns], points.velocities[:, columns]
    accelerations = None if points.accelerations is None else points.accelerations[:, columns]
    for values, what in ((positions, "positions"), (velocities, "velocities"), (accelerations, "accelerations")):
        if values is not None:
            _require_finite(values, what)
    return Trajectory(stamp, points.ns.astype(np.float64) / NS_PER_S, positions, velocities, accelerations)


def _require_increasing(ns: NDArray[np.int64]) -> None:
    if ns[0] < 0 or np.any(np.diff(ns) <= 0):
        raise JointError("trajectory times are negative or do not increase")


def _columns(given: Sequence[str], asked: Sequence[str], exact: bool) -> list[int]:
    """Where in ``given`` each joint of ``asked`` stands."""
    place = {name: index for index, name in enumerate(given)}
    if len(place) != len(given):
        twice = sorted({name for name in given if list(given).count(name) > 1})
        raise JointError(f"joint names given twice: {', '.join(twice)}")
    missing = [name for name in asked if name not in place]
    if missing:
        raise JointError(f"joints missing: {', '.join(missing)}")
    if exact and len(given) != len(asked):
        raise JointError(f"unknown joints: {', '.join(sorted(set(given) - set(asked)))}")
    return [place[name] for name in asked]


def _values(values: Row, count: int, what: str) -> NDArray[np.float64]:
    if len(values) != count:
        raise JointError(f"{what} holds {len(values)} values for {count} joints")
    return np.asarray(values, dtype=np.float64)


def _rows(rows: Sequence[Row], count: int, what: str) -> NDArray[np.float64]:
    wrong = next((row for row in rows if len(row) != count), None)
    if wrong is not None:
        raise JointError(f"{what} holds {len(wrong)} values for {count} joints")
    return np.array(rows, dtype=np.float64)


def _require_finite(values: NDArray[np.float64], what: str) -> None:
    if not np.isfinite(values).all():
        raise JointError(f"{what} holds a value that is not finite")
