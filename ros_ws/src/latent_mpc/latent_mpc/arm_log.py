"""What a bag says about an arm: pictures, commanded and measured joints, ground truth where there is any, all by time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm_model import Kinematics
from latent_mpc.bag import BagError, pixels, read_messages, stamp_ns
from latent_mpc.check_bag import JOINT_STATES_TOPIC, TRAJECTORY_TOPIC
from latent_mpc.recording import CAMERA_TOPIC, RESET_TOPIC, TRUTH_TOPIC, Frames, Series

_TRUE_STATE = slice(1, 7)
# A message is received this much later than what it says was true, at most; stamps may run ahead of the recorder's clock a little.
_TRUTH_DELAY_NS, _STAMP_AHEAD_NS = 500_000_000, 20_000_000
_SAME_POINT_M, _ROUNDING_M = 1e-4, 1e-7


@dataclass(frozen=True)
class ArmLog:
    """Everything by ROS time in ns, in order.

    ``commanded`` and ``measured`` joints ``(N, J) rad``. ``truth (N, 6)``: tool x y z, block x y yaw, None in a bag of a real arm.
    ``resets_ns``: when the simulator placed the scene anew.
    """

    camera: Frames
    commanded: Series
    measured: Series
    truth: Series | None
    resets_ns: NDArray[np.int64]

    def commanded_at(self, times_ns: NDArray[np.int64], since_ns: int) -> NDArray[np.float64]:
        """Commanded joints ``(N, J)`` at ``times_ns`` by the commands since ``since_ns``; before the first of them the arm is commanded to stand."""
        standing = at(self.measured, times_ns, since_ns)
        newer = self.commanded.between(since_ns, int(times_ns[-1]) + 1)
        if len(newer.times_ns) == 0:
            return standing
        moving = (times_ns >= newer.times_ns[0])[:, None]
        return np.where(moving, at(newer, times_ns, since_ns), standing)


def at(series: Series, times_ns: NDArray[np.int64], since_ns: int) -> NDArray[np.float64]:
    """Values ``(N, K)`` at ``times_ns``, linearly between what was said since ``since_ns``, held before the first and after the last."""
    newer = series.between(since_ns, int(series.times_ns[-1]) + 1)
    known = newer if len(newer.times_ns) else series
    # Nanoseconds since the epoch do not fit a double's 53 bits.
    grid, stamps = (times_ns - since_ns).astype(np.float64), (known.times_ns - since_ns).astype(np.float64)
    return np.stack([np.interp(grid, stamps, column) for column in known.values.T], axis=-1)


def read_arm_log(bag: Path, kinematics: Kinematics, size: tuple[int, int]) -> ArmLog:
    """Read ``bag``, whose pictures must be ``size`` (height, width).

    Raises:
        BagError: it cannot be read, lacks pictures or joint states, or holds pictures of another size or encoding.
    """
    joints = kinematics.arm.joints
    times: dict[str, list[int]] = defaultdict(list)
    rows: dict[str, list[Any]] = defaultdict(list)
    for entry in read_messages(bag, (CAMERA_TOPIC, JOINT_STATES_TOPIC, TRAJECTORY_TOPIC, TRUTH_TOPIC, RESET_TOPIC)):
        message = entry.message
        ns = entry.time_ns if entry.topic == TRUTH_TOPIC else stamp_ns(message.header.stamp)
        if entry.topic == CAMERA_TOPIC:
            row: Any = _picture(bag, message, size)
        elif entry.topic == JOINT_STATES_TOPIC:
            row = _in_order(joints, message.name, message.position)
        elif entry.topic == TRAJECTORY_TOPIC:
            row = _points(joints, ns, message)
        else:
            row = np.array(message.data[_TRUE_STATE], dtype=np.float64) if entry.topic == TRUTH_TOPIC else 0
        if row is not None:
            times[entry.topic].append(ns)
            rows[entry.topic].append(row)
    for topic in (CAMERA_TOPIC, JOINT_STATES_TOPIC):
        if not times[topic]:
            raise BagError(f"{bag} holds no message on {topic} that could be used: no episode can be made of it")
    order = np.argsort(times[CAMERA_TOPIC], kind="stable")
    pictures = Frames(np.array(times[CAMERA_TOPIC], np.int64)[order], tuple(rows[CAMERA_TOPIC][i] for i in order))
    measured = _series(times[JOINT_STATES_TOPIC], rows[JOINT_STATES_TOPIC])
    truth = _dated(_series(times[TRUTH_TOPIC], rows[TRUTH_TOPIC]), measured, kinematics) if times[TRUTH_TOPIC] else None
    commanded = _executed(rows[TRAJECTORY_TOPIC], len(joints))
    return ArmLog(pictures, commanded, measured, truth, np.array(sorted(times[RESET_TOPIC]), np.int64))


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


def _picture(bag: Path, message: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    try:
        picture = pixels(message)
    except BagError as error:
        raise BagError(f"{bag}, {CAMERA_TOPIC}: {error}") from error
    if picture.shape[:2] != size:
        found = f"{picture.shape[1]} x {picture.shape[0]}"
        raise BagError(f"{bag}, {CAMERA_TOPIC}: pictures are {found} pixels, the task's camera takes {size[1]} x {size[0]}")
    return picture


def _in_order(joints: tuple[str, ...], names: Any, positions: Any) -> NDArray[np.float64] | None:
    found = dict(zip(names, positions, strict=False))
    if not set(joints) <= found.keys():
        return None
    return np.array([found[name] for name in joints], dtype=np.float64)


def _points(joints: tuple[str, ...], stamp: int, message: Any) -> tuple[list[int], list[NDArray[np.float64]]] | None:
    rows = [_in_order(joints, message.joint_names, point.positions) for point in message.points]
    times = [stamp + stamp_ns(point.time_from_start) for point in message.points]
    kept = [(ns, row) for ns, row in zip(times, rows, strict=True) if row is not None]
    return ([ns for ns, _ in kept], [row for _, row in kept]) if kept else None


def _executed(commands: list[tuple[list[int], list[NDArray[np.float64]]]], joints: int) -> Series:
    """What was in force when: the points of a command up to the first point of the next."""
    ordered = sorted(commands, key=lambda command: command[0][0])
    times: list[int] = []
    rows: list[NDArray[np.float64]] = []
    for number, (points_ns, points) in enumerate(ordered):
        until = ordered[number + 1][0][0] if number + 1 < len(ordered) else points_ns[-1] + 1
        for ns, row in zip(points_ns, points, strict=True):
            if ns < until:
                times.append(ns)
                rows.append(row)
    return Series(np.array(times, np.int64), np.array(rows, dtype=np.float64).reshape(-1, joints))
