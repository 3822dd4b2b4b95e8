"""The controllers of an arm as ros2_control runs them: a joint trajectory controller and a forward velocity controller.

They are as strict and as trusting as the originals: names, sizes and times are checked, values are not. What keeps an arm inside its limits
stands in front of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NS_PER_S = 1e9
# ros2_control's own tolerance for "the last point is at rest".
_AT_REST = float(np.finfo(np.float32).eps)


class CommandError(ValueError):
    """A command that the controller does not take, with the reason in one line."""


@dataclass(frozen=True)
class TrajectoryCommand:
    """A trajectory as it came: ``times_ns`` after ``stamp_ns`` (0: from now on).

    One row of ``positions`` in rad and of ``velocities`` in rad/s per point. Rows of velocities may be empty: straight lines then join the positions.
    """

    stamp_ns: int
    joints: tuple[str, ...]
    times_ns: tuple[int, ...]
    positions: tuple[Sequence[float], ...]
    velocities: tuple[Sequence[float], ...]


@dataclass(frozen=True)
class SetPoint:
    """What the drives are to follow: ``position (J,) rad``, ``velocity (J,) rad/s``."""

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]

    @staticmethod
    def at_rest(position: NDArray[np.float64]) -> SetPoint:
        """Stand still at ``position (J,) rad``."""
        return SetPoint(np.array(position, dtype=np.float64), np.zeros(len(position)))


@dataclass(frozen=True)
class _Running:
    """An accepted trajectory: joints in the controller's order, absolute times; ``before`` is the last set point until then, for ``before_ns``."""

    times_ns: NDArray[np.int64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64] | None
    before_ns: int
    before: SetPoint


class JointTrajectoryController:
    """Follows the newest trajectory and holds its last point, as joint_trajectory_controller does with ``interpolate_from_desired_state``.

    Between points: cubic Hermite where velocities are given, straight lines where not. Accelerations are not used.
    """

    def __init__(self, joints: Sequence[str], start: NDArray[np.float64]) -> None:
        self._joints = tuple(joints)
        self.hold(start)

    def hold(self, position: NDArray[np.float64]) -> None:
        """Drop the trajectory and stand at ``position (J,) rad``."""
        self._running: _Running | None = None
        self._desired = SetPoint.at_rest(position)
        self._sampled_ns = 0

    def accept(self, command: TrajectoryCommand, now_ns: int) -> None:
        """Replace the running trajectory.

        Raises:
            CommandError: names or sizes disagree, times do not increase, the trajectory is empty, over already, or does not end at rest.
        """
        order = self._validate(command, now_ns)
        start_ns = command.stamp_ns or now_ns
        self._running = _Running(
            times_ns=start_ns + np.array(command.times_ns, dtype=np.int64),
            positions=np.array(command.positions, dtype=np.float64)[:, order],
            velocities=np.array(command.velocities, dtype=np.float64)[:, order] if len(command.velocities[0]) else None,
            before_ns=max(now_ns, self._sampled_ns),
            before=self._desired,
        )

    def sample(self, at_ns: int) -> SetPoint:
        """The set point for ROS time ``at_ns``."""
        self._sampled_ns = at_ns
        if self._running is not None:
            self._desired = _interpolate(self._running, at_ns)
        return self._desired

    def _validate(self, command: TrajectoryCommand, now_ns: int) -> list[int]:
        given = command.joints
        if not given:
            raise CommandError("empty joint names on incoming trajectory")
        if not command.times_ns:
            raise CommandError("empty trajectory received")
        for name in given:
            if name not in self._joints:
                raise CommandError(f"incoming joint '{name}' doesn't match the controller's joints")
        if sorted(given) != sorted(self._joints):
            raise CommandError(f"joints on incoming trajectory don't match the controller's {len(self._joints)} joints")
        if command.stamp_ns and command.stamp_ns + command.times_ns[-1] < now_ns:
            late_ms = (now_ns - command.stamp_ns - command.times_ns[-1]) / 1e6
            raise CommandError(f"trajectory ends in the past, {late_ms:.1f} ms ago")
        with_velocities = len(command.velocities[0]) > 0
        for index, (positions, velocities) in enumerate(zip(command.positions, command.velocities, strict=True)):
            if len(positions) != len(given):
                raise CommandError(f"{len(given)} joint names but {len(positions)} positions at point {index}")
            if len(velocities) != (len(given) if with_velocities else 0):
                raise CommandError(f"{len(given)} joint names but {len(velocities)} velocities at point {index}")
        if command.times_ns[0] < 0:
            raise CommandError("time of the first point is negative")
        for index in range(1, len(command.times_ns)):
            if command.times_ns[index] <= command.times_ns[index - 1]:
                raise CommandError(f"time between points {index - 1} and {index} is not strictly increasing")
        for name, velocity in zip(given, command.velocities[-1], strict=False):
            if abs(velocity) > _AT_REST:
                raise CommandError(f"velocity of last trajectory point of joint {name} is not zero")
        return [given.index(name) for name in self._joints]


class ForwardVelocityController:
    """Passes velocities on for ever, as forward_command_controller does: it has no timeout. The drives integrate them."""

    def __init__(self, start: NDArray[np.float64]) -> None:
        self.hold(start)

    def hold(self, position: NDArray[np.float64]) -> None:
        """Stand at ``position (J,) rad``."""
        self._desired = SetPoint.at_rest(position)

    def accept(self, velocities: Sequence[float]) -> None:
        """Replace the velocities, rad/s, in the controller's joint order.

        Raises:
            CommandError: not one velocity per joint.
        """
        if len(velocities) != len(self._desired.position):
            raise CommandError(f"command size ({len(velocities)}) does not match number of interfaces ({len(self._desired.position)})")
        self._desired = SetPoint(self._desired.position, np.array(velocities, dtype=np.float64))

    def advance(self, period_s: float) -> SetPoint:
        """The set point ``period_s`` later."""
        self._desired = SetPoint(self._desired.position + self._desired.velocity * period_s, self._desired.velocity)
        return self._desired


class JointControllers:
    """Both controllers over the same joints. The one that heard a valid command last has them, and starts where the other left off."""

    def __init__(self, joints: Sequence[str], start: NDArray[np.float64]) -> None:
        self._trajectory = JointTrajectoryController(joints, start)
        self._velocity = ForwardVelocityController(start)
        self._driving = False
        self._last = SetPoint.at_rest(start)

    @property
    def active(self) -> str:
        """Name of the controller that has the joints."""
        return "forward_velocity_controller" if self._driving else "joint_trajectory_controller"

    def hold(self, position: NDArray[np.float64]) -> None:
        """Forget every command and stand at ``position (J,) rad``."""
        self._trajectory.hold(position)
        self._velocity.hold(position)
        self._last = SetPoint.at_rest(position)

    def follow(self, command: TrajectoryCommand, now_ns: int) -> None:
        """Follow a trajectory.

        Raises:
            CommandError: see ``JointTrajectoryController.accept``.
        """
        if self._driving:
            self._trajectory.hold(self._last.position)
        self._trajectory.accept(command, now_ns)
        self._driving = False

    def drive(self, velocities: Sequence[float]) -> None:
        """Move at ``velocities``, rad/s, until told otherwise.

        Raises:
            CommandError: not one velocity per joint.
        """
        if not self._driving:
            self._velocity.hold(self._last.position)
        self._velocity.accept(velocities)
        self._driving = True

    def update(self, at_ns: int, period_s: float) -> SetPoint:
        """The set point that the drives are to reach at ROS time ``at_ns``, ``period_s`` after the previous one."""
        self._last = self._velocity.advance(period_s) if self._driving else self._trajectory.sample(at_ns)
        return self._last


def _interpolate(running: _Running, at_ns: int) -> SetPoint:
    times, positions, velocities = running.times_ns, running.positions, running.velocities
    after = int(np.searchsorted(times, at_ns, side="right"))
    if after == len(times):
        return SetPoint.at_rest(positions[-1])
    end = positions[after], None if velocities is None else velocities[after]
    if after > 0:
        start_ns, start = int(times[after - 1]), (positions[after - 1], None if velocities is None else velocities[after - 1])
    else:
        start_ns, start = running.before_ns, (running.before.position, running.before.velocity)
    duration_s = (int(times[after]) - start_ns) / _NS_PER_S
    elapsed_s = (at_ns - start_ns) / _NS_PER_S
    if elapsed_s < 0.0 or duration_s <= 0.0:
        return running.before
    if start[1] is None or end[1] is None:
        slope = (end[0] - start[0]) / duration_s
        return SetPoint(start[0] + slope * elapsed_s, slope)
    return _hermite(start[0], start[1], end[0], end[1], duration_s, elapsed_s)


def _hermite(
    p0: NDArray[np.float64], v0: NDArray[np.float64], p1: NDArray[np.float64], v1: NDArray[np.float64], duration_s: float, elapsed_s: float
) -> SetPoint:
    """The cubic through ``p0, v0`` and, ``duration_s`` later, ``p1, v1``."""
    slope = (p1 - p0) / duration_s
    c2 = (3.0 * slope - 2.0 * v0 - v1) / duration_s
    c3 = (v0 + v1 - 2.0 * slope) / duration_s**2
    position = p0 + elapsed_s * (v0 + elapsed_s * (c2 + elapsed_s * c3))
    return SetPoint(position, v0 + elapsed_s * (2.0 * c2 + elapsed_s * 3.0 * c3))
