"""What was commanded, whatever kind of message said it: positions or velocities of the joints, or the velocity of the tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.bag import BagError, stamp_ns
from latent_mpc.bag_data.timeline import at, fading, held, mean_held
from latent_mpc.bags.roles import FLOATS, JOINT_STATE, TRAJECTORY, TWIST, TWIST_STAMPED
from latent_mpc.recording import Series

POSITIONS, VELOCITIES, TOOL_VELOCITY = "positions", "velocities", "tool velocity"
TWIST_NAMES = ("linear.x", "linear.y", "linear.z", "angular.x", "angular.y", "angular.z")
# A velocity that nobody repeats is not obeyed for longer.
_HOLD_NS = 500_000_000


@dataclass(frozen=True)
class Commands:
    """``kind``: positions (rad), velocities (rad/s) or tool velocity (m/s, rad/s, x y z each); ``said (N, K)`` by the time from which it holds.

    ``gradual``: the arm is led from one row to the next rather than told to jump there. ``names (K,)`` of what is said.
    """

    kind: str
    names: tuple[str, ...]
    said: Series
    gradual: bool

    @staticmethod
    def of(where: str, msgtype: str, joints: tuple[str, ...], times: list[int], rows: list[Any], velocities: bool) -> Commands:
        """Commands of one type of message: what ``read_command`` made of each, and its time.

        Raises:
            BagError: numbers without names that are not as many as there are joints.
        """
        if msgtype == TRAJECTORY:
            executed = _executed(joints, times, rows)
            if len(executed.times_ns) == 0:
                raise BagError(f"{where}: no trajectory names all of the joints {', '.join(joints)}")
            return Commands(POSITIONS, joints, executed, True)
        if msgtype == JOINT_STATE:
            ordered = [(ns, in_order(joints, *row)) for ns, row in zip(times, rows, strict=True)]
            kept = [(ns, row) for ns, row in ordered if row is not None]
            if not kept:
                raise BagError(f"{where}: no message names all of the joints {', '.join(joints)}")
            return Commands(POSITIONS, joints, _series([ns for ns, _ in kept], [row for _, row in kept]), False)
        if msgtype == FLOATS:
            lengths = sorted({len(row) for row in rows})
            if lengths != [len(joints)]:
                said = " or ".join(map(str, lengths))
                raise BagError(f"{where}: messages of {said} numbers, but {len(joints)} joints: say --joints in the order of these numbers")
            return Commands(VELOCITIES if velocities else POSITIONS, joints, _series(times, rows), False)
        return Commands(TOOL_VELOCITY, TWIST_NAMES, _series(times, rows), False)

    def positions(self, times_ns: NDArray[np.int64], since_ns: int, standing: NDArray[np.float64]) -> NDArray[np.float64]:
        """Commanded joints ``(N, J)`` by the commands since ``since_ns``; before the first of them the arm is commanded to stand as measured."""
        newer = self.said.between(since_ns, int(times_ns[-1]) + 1)
        if len(newer.times_ns) == 0:
            return standing
        moving = (times_ns >= newer.times_ns[0])[:, None]
        return np.where(moving, at(newer, times_ns, since_ns) if self.gradual else held(newer, times_ns), standing)

    def mean_velocity(self, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean commanded velocity ``(N-1, K)`` between ``times_ns (N,)``: it ends half a second after the last command."""
        return mean_held(fading(self.said, _HOLD_NS), times_ns)


def read_command(msgtype: str, message: Any) -> Any:
    """What one message says, to be given to ``Commands.of``; None where it says nothing, or nothing finite."""
    if msgtype == TRAJECTORY:
        points = [(stamp_ns(point.time_from_start), np.array(point.positions, np.float64)) for point in message.points if len(point.positions)]
        return (tuple(message.joint_names), points) if points else None
    if msgtype == JOINT_STATE:
        return (tuple(message.name), np.array(message.position, np.float64))
    if msgtype == FLOATS:
        numbers = np.array(message.data, np.float64)
    else:
        assert msgtype in (TWIST, TWIST_STAMPED)
        twist = message.twist if msgtype == TWIST_STAMPED else message
        numbers = np.array([getattr(part, axis) for part in (twist.linear, twist.angular) for axis in "xyz"], np.float64)
    return numbers if np.isfinite(numbers).all() else None


def in_order(joints: tuple[str, ...], names: Any, positions: Any) -> NDArray[np.float64] | None:
    """Positions in the order of ``joints``, whatever others are named; None where one is missing or not finite."""
    found = dict(zip(names, positions, strict=False))
    if not set(joints) <= found.keys():
        return None
    row = np.array([found[name] for name in joints], dtype=np.float64)
    return row if np.isfinite(row).all() else None


def _series(times: list[int], rows: list[Any]) -> Series:
    order = np.argsort(times, kind="stable")
    return Series(np.array(times, np.int64)[order], np.array(rows, dtype=np.float64)[order])


def _executed(joints: tuple[str, ...], stamps: list[int], trajectories: list[Any]) -> Series:
    """What was in force when: the points of a trajectory up to the first point of the next."""
    commands = []
    for stamp, (names, points) in zip(stamps, trajectories, strict=True):
        rows = [(stamp + ns, in_order(joints, names, values)) for ns, values in points]
        kept = [(ns, row) for ns, row in rows if row is not None]
        if kept:
            commands.append(kept)
    commands.sort(key=lambda command: command[0][0])
    said = [
        (ns, row)
        for command, following in zip(commands, [*commands[1:], None], strict=True)
        for ns, row in command
        if following is None or ns < following[0][0]
    ]
    return Series(np.array([ns for ns, _ in said], np.int64), np.array([row for _, row in said], dtype=np.float64).reshape(-1, len(joints)))
