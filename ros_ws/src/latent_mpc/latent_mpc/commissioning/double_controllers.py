"""Doubles of ros2_control's controllers: the same contract, the same refusals, the same trust.

Read in ros2_controllers, commit 94e74de3 (August 2026): ``joint_trajectory_controller.cpp`` (validate_trajectory_msg), ``trajectory.cpp`` and
``forward_controllers_base.cpp``. What the originals let through is let through here too, and counted: values of a trajectory that are not finite.
Limits are not looked at, and a forward controller has no time-out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latent_mpc.commissioning.spline import F64, Knot, interpolate

_AT_REST = float(np.finfo(np.float32).eps)


class RefusedError(ValueError):
    """A command that the controller does not take, with the reason in one line."""


class LateError(RefusedError):
    """A command that ended before it came: it was long under way, or whoever is to take it stood still."""


@dataclass(frozen=True)
class Point:
    """A point of a trajectory as it came; empty sequences for what was not given. ``time_ns`` counts from the stamp of the trajectory."""

    time_ns: int
    positions: Sequence[float]
    velocities: Sequence[float] = ()
    accelerations: Sequence[float] = ()
    effort: Sequence[float] = ()


@dataclass(frozen=True)
class _Taken:
    times_ns: tuple[int, ...]
    knots: tuple[Knot, ...]
    before_ns: int
    before: Knot


class TrajectoryControllerDouble:
    """joint_trajectory_controller with a position interface; ``interpolate_from_desired_state`` is on, as docs/deploy.md asks for.

    ``late`` counts those of the refused that ended in the past.
    """

    def __init__(self, joints: Sequence[str], start: F64, allow_partial_joints_goal: bool = False, allow_nonzero_end: bool = False) -> None:
        self.joints = tuple(joints)
        self.counts: Counter[str] = Counter()
        self.late = 0
        self._partial = allow_partial_joints_goal
        self._nonzero_end = allow_nonzero_end
        self._desired = Knot(start.astype(np.float64), np.zeros(len(start)), np.zeros(len(start)))
        self._taken: _Taken | None = None

    def accept(self, stamp_ns: int, names: Sequence[str], points: Sequence[Point], now_ns: int) -> None:
        """Replace the trajectory; a stamp of 0 means from now on.

        Raises:
            RefusedError: what the original refuses.
        """
        try:
            self._validate(stamp_ns, names, points, now_ns)
        except RefusedError as error:
            self.counts["refused"] += 1
            self.late += isinstance(error, LateError)
            raise
        self.counts["accepted"] += 1
        values = [value for point in points for field in (point.positions, point.velocities, point.accelerations) for value in field]
        self.counts["not finite"] += not all(math.isfinite(value) for value in values)
        start_ns = stamp_ns or now_ns
        knots = tuple(
            Knot(
                self._sorted(names, p.positions, True), *(self._sorted(names, f, False) if len(f) else None for f in (p.velocities, p.accelerations))
            )
            for p in points
        )
        self._taken = _Taken(tuple(start_ns + point.time_ns for point in points), knots, now_ns, self._desired)

    def update(self, now_ns: int) -> Knot:
        """The desired state for ``now_ns``. A first segment begins where the arm was told to be when the trajectory came; the last is held."""
        taken = self._taken
        if taken is None:
            return self._desired
        after = int(np.searchsorted(taken.times_ns, now_ns, side="right"))
        if after == len(taken.knots):
            still = np.zeros(len(self.joints))
            self._desired = Knot(taken.knots[-1].position, still, still)
            return self._desired
        start_ns, start = (taken.before_ns, taken.before) if after == 0 else (taken.times_ns[after - 1], taken.knots[after - 1])
        duration_s = 1e-9 * (taken.times_ns[after] - start_ns)
        if duration_s > 0.0:
            self._desired = interpolate(start, taken.knots[after], duration_s, 1e-9 * (now_ns - start_ns))
        return self._desired

    def _sorted(self, names: Sequence[str], values: Sequence[float], hold: bool) -> F64:
        """``values`` in the controller's order; a joint that is not named stays where it is. A name that is given twice leaves another at 0."""
        if len(names) < len(self.joints):
            full = self._desired.position.copy() if hold else np.zeros(len(self.joints))
        else:
            full = np.zeros(len(self.joints))
        for name, value in zip(names, values, strict=True):
            full[self.joints.index(name)] = value
        return full

    def _validate(self, stamp_ns: int, names: Sequence[str], points: Sequence[Point], now_ns: int) -> None:
        if not self._partial and len(names) != len(self.joints):
            raise RefusedError("Joints on incoming trajectory don't match the controller joints.")
        if not names:
            raise RefusedError("Empty joint names on incoming trajectory.")
        if not points:
            raise RefusedError("Empty trajectory received.")
        for name in names:
            if name not in self.joints:
                raise RefusedError(f"Incoming joint {name} doesn't match the controller's joints.")
        if not self._nonzero_end:
            for name, velocity in zip(names, points[-1].velocities, strict=False):
                if abs(velocity) > _AT_REST:
                    raise RefusedError(f"Velocity of last trajectory point of joint {name} is not zero: {velocity:.15f}")
        if stamp_ns and stamp_ns + points[-1].time_ns < now_ns:
            raise LateError("Received trajectory with non-zero start time that ends in the past")
        for index, point in enumerate(points):
            if index and point.time_ns <= points[index - 1].time_ns:
                raise RefusedError(f"Time between points {index - 1} and {index} is not strictly increasing")
            for what, values, may_be_empty in (
                ("positions", point.positions, False),
                ("velocities", point.velocities, True),
                ("accelerations", point.accelerations, True),
            ):
                if len(values) != len(names) and not (may_be_empty and not len(values)):
                    raise RefusedError(f"Mismatch between joint_names size ({len(names)}) and {what} ({len(values)}) at point #{index}.")
            if len(point.effort):
                raise RefusedError("Trajectories with effort fields are only supported for controllers using the 'effort' command interface.")


class ForwardControllerDouble:
    """forward_command_controller: the newest array goes to the drives as it is, and stays there for ever."""

    def __init__(self, joints: Sequence[str], drops_non_finite: bool = True) -> None:
        """``drops_non_finite``: releases before 2026 pass them on."""
        self.joints = tuple(joints)
        self.counts: Counter[str] = Counter()
        self._drops = drops_non_finite
        self._command: F64 | None = None

    def accept(self, values: Sequence[float]) -> None:
        """Take the newest array.

        Raises:
            RefusedError: a value is not finite, and this release looks.
        """
        command = np.array(values, dtype=np.float64)
        if not np.isfinite(command).all():
            self.counts["not finite"] += 1
            if self._drops:
                self.counts["refused"] += 1
                raise RefusedError("Non-finite value received. Dropping message")
        self.counts["accepted"] += 1
        self._command = command

    def update(self) -> F64 | None:
        """What the drives are told ``(J,)``; None before the first command.

        Raises:
            RefusedError: the newest command has another size. It is kept, so every update fails until another one comes.
        """
        if self._command is not None and len(self._command) != len(self.joints):
            self.counts["refused"] += 1
            raise RefusedError(f"command size ({len(self._command)}) does not match number of interfaces ({len(self.joints)})")
        return self._command
