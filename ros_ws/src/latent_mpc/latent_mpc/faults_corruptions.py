"""What can be wrong with one message. Each corruption changes a message in place; which kinds a message takes is in ``CORRUPTIONS``."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from ros_bridge.stamps import stamp_ns, stamp_of

Vector = NDArray[np.float64]
_BAD = (float("nan"), float("inf"), float("-inf"))
_FAR_RAD, _JUMP_RAD, _HUGE = 10.0, 1.0, 1e300


@dataclass(frozen=True)
class Draw:
    """Where chance and size come from: ``amount`` in the unit of the kind, 0 where the kind has none."""

    rng: np.random.Generator
    amount: float = 0.0

    def index(self, count: int) -> int:
        """One of ``count``."""
        return int(self.rng.integers(count))


def _old_stamp(msg: Image | JointState | JointTrajectory, draw: Draw) -> None:
    """Stamped ``amount`` s ago."""
    msg.header.stamp = stamp_of(stamp_ns(msg.header.stamp) - round(1e9 * draw.amount))


# Joint states and plans: rows of values under joint names.


def _rows(msg: JointState | JointTrajectory) -> list[array[float]]:
    if isinstance(msg, JointState):
        return [row for row in (msg.position, msg.velocity, msg.effort) if len(row)]
    return [row for point in msg.points for row in (point.positions, point.velocities, point.accelerations) if len(row)]


def _map_rows(msg: JointState | JointTrajectory, change: Callable[[Sequence[float]], Sequence[float]]) -> None:
    def changed(row: Sequence[float]) -> array[float]:
        return array("d", change(row) if len(row) else row)

    if isinstance(msg, JointState):
        msg.position, msg.velocity, msg.effort = changed(msg.position), changed(msg.velocity), changed(msg.effort)
        return
    for point in msg.points:
        point.positions, point.velocities = changed(point.positions), changed(point.velocities)
        point.accelerations = changed(point.accelerations)


def _names(msg: JointState | JointTrajectory) -> list[str]:
    return list(msg.name if isinstance(msg, JointState) else msg.joint_names)


def _rename_to(msg: JointState | JointTrajectory, names: list[str]) -> None:
    if isinstance(msg, JointState):
        msg.name = names
    else:
        msg.joint_names = names


def _non_finite(msg: JointState | JointTrajectory, draw: Draw) -> None:
    """One value is NaN or infinite, in a share ``amount`` of the messages, 0 for all."""
    if draw.amount and draw.rng.random() > draw.amount:
        return
    rows = _rows(msg)
    if rows:
        row = rows[draw.index(len(rows))]
        row[draw.index(len(row))] = _BAD[draw.index(len(_BAD))]


def _reorder(msg: JointState | JointTrajectory, draw: Draw) -> None:
    """The same joints in another order, values with them: nothing is wrong."""
    order = [int(index) for index in draw.rng.permutation(len(_names(msg)))]
    _rename_to(msg, [_names(msg)[index] for index in order])
    _map_rows(msg, lambda row: [row[index] for index in order])


def _rename(msg: JointState | JointTrajectory, draw: Draw) -> None:
    names = _names(msg)
    names[draw.index(len(names))] = "elbow"
    _rename_to(msg, names)


def _missing_joint(msg: JointState | JointTrajectory, draw: Draw) -> None:
    gone = draw.index(len(_names(msg)))
    _rename_to(msg, [name for index, name in enumerate(_names(msg)) if index != gone])
    _map_rows(msg, lambda row: [value for index, value in enumerate(row) if index != gone])


def _duplicate_name(msg: JointState | JointTrajectory, draw: Draw) -> None:
    names = _names(msg)
    names[-1] = names[0]
    _rename_to(msg, names)


def _extra_joint(msg: JointState, draw: Draw) -> None:
    """A gripper stands first: nothing is wrong."""
    msg.name = ["gripper", *msg.name]
    _map_rows(msg, lambda row: [0.04, *row])


def _wrong_length(msg: JointState | JointTrajectory, draw: Draw) -> None:
    if isinstance(msg, JointState):
        msg.position = msg.position[:-1]
    elif msg.points:
        point = msg.points[draw.index(len(msg.points))]
        point.positions = point.positions[: draw.index(len(point.positions))]


def _offset(msg: JointState, draw: Draw) -> None:
    """Joints are measured ``amount`` rad from where they are: as when somebody holds or pushes the arm."""
    msg.position = array("d", [value + draw.amount for value in msg.position])


# Plans.


def _jump(msg: JointTrajectory, draw: Draw) -> None:
    """The whole plan lies elsewhere, by up to 1 rad in each joint."""
    shift = draw.rng.uniform(-_JUMP_RAD, _JUMP_RAD, len(msg.joint_names))
    for point in msg.points:
        point.positions = array("d", np.add(point.positions, shift))


def _reversed_time(msg: JointTrajectory, draw: Draw) -> None:
    times = [point.time_from_start for point in msg.points]
    for point, time in zip(msg.points, reversed(times), strict=True):
        point.time_from_start = time


def _far(msg: JointTrajectory, draw: Draw) -> None:
    _each_point(msg, lambda size: draw.rng.uniform(-_FAR_RAD, _FAR_RAD, size), lambda size: draw.rng.uniform(-100.0, 100.0, size))


def _huge(msg: JointTrajectory, draw: Draw) -> None:
    _each_point(msg, lambda size: _HUGE * draw.rng.choice((-1.0, 1.0), size), lambda size: _HUGE * draw.rng.choice((-1.0, 1.0), size))


def _zigzag(msg: JointTrajectory, draw: Draw) -> None:
    """Finite and inside the position limits of most arms, from end to end between two points."""
    _each_point(msg, lambda size: draw.rng.uniform(-2.5, 2.5, size), lambda size: draw.rng.uniform(-20.0, 20.0, size))


def _each_point(msg: JointTrajectory, position: Callable[[int], Vector], velocity: Callable[[int], Vector]) -> None:
    for point in msg.points:
        point.positions = array("d", position(len(point.positions)))
        point.velocities = array("d", velocity(len(point.velocities)))


def _squeezed_time(msg: JointTrajectory, draw: Draw) -> None:
    """All points within microseconds."""
    for index, point in enumerate(msg.points):
        point.time_from_start = Duration(sec=0, nanosec=1000 * index)


def _other_stamp(msg: JointTrajectory, draw: Draw) -> None:
    msg.header.stamp = stamp_of(max(0, stamp_ns(msg.header.stamp) + int(draw.rng.choice((-1e9, 1e9, -1e17, 1e8)))))


def _empty(msg: JointTrajectory, draw: Draw) -> None:
    msg.points = []


def _faithful(msg: JointTrajectory, draw: Draw) -> None:
    """As it came."""


def _hostile(msg: JointTrajectory, draw: Draw) -> None:
    """Another corruption for each plan; a third are accepted and pull the joints from end to end."""
    kinds = (
        _non_finite,
        _wrong_length,
        _reversed_time,
        _rename,
        _duplicate_name,
        _missing_joint,
        _far,
        _huge,
        _squeezed_time,
        _other_stamp,
        _empty,
        _jump,
        _zigzag,
        _zigzag,
        _far,
        _faithful,
        _reorder,
    )
    kinds[draw.index(len(kinds))](msg, draw)


# Pictures.


def _encoding(msg: Image, draw: Draw) -> None:
    msg.encoding = ("16UC1", "32FC1", "", "rgb16")[draw.index(4)]


def _size(msg: Image, draw: Draw) -> None:
    msg.width, msg.height = ((msg.width + 1, msg.height), (msg.width, msg.height // 2), (0, 0), (2**31, 2**31))[draw.index(4)]


def _step(msg: Image, draw: Draw) -> None:
    msg.step = (0, msg.step - 1, msg.step + 1, 2**32 - 1)[draw.index(4)]


def _endianness(msg: Image, draw: Draw) -> None:
    msg.is_bigendian = 1


CORRUPTIONS: dict[str, Callable[..., None]] = {
    "old_stamp": _old_stamp,
    "non_finite": _non_finite,
    "reorder": _reorder,
    "rename": _rename,
    "missing_joint": _missing_joint,
    "duplicate_name": _duplicate_name,
    "extra_joint": _extra_joint,
    "wrong_length": _wrong_length,
    "offset": _offset,
    "jump": _jump,
    "reversed_time": _reversed_time,
    "hostile": _hostile,
    "encoding": _encoding,
    "size": _size,
    "step": _step,
    "endianness": _endianness,
}
# After these a receiver hears what it can use, only elsewhere or in another form; after the others its last good message is the last before.
HARMLESS = ("reorder", "extra_joint", "offset", "jump", "hostile")
