"""Which plan may move the arm, and where it wants the arm to be at a given time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.shield import Motion

_NS = 1e-9
# Below this a plan counts as ending at rest, rad/s.
_STILL = 1e-3


class PlanRejectedError(ValueError):
    """A plan that may not move the arm, with the reason in one line."""


@dataclass(frozen=True)
class PlanGateConfig:
    """When a plan counts as too old, s.

    ``plan_timeout_s`` runs from its reception on the steady clock, ``frame_timeout_s`` is the age at reception of the frame that it was made from,
    ``future_tolerance_s`` how far that frame may lie in the future.
    """

    plan_timeout_s: float = 0.35
    frame_timeout_s: float = 0.3
    future_tolerance_s: float = 0.05


@dataclass(frozen=True)
class Proposal:
    """``times (N,) s`` after ``stamp_ns``, strictly increasing; ``positions (N, J) rad``; ``velocities (N, J) rad/s``.

    Raises:
        PlanRejectedError: shapes disagree, there are no points, times do not increase, or a value is not finite.
    """

    stamp_ns: int
    times: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.times.size == 0 or self.positions.shape[0] != self.times.size or self.velocities.shape != self.positions.shape:
            raise PlanRejectedError(f"plan has {self.times.size} times, positions {self.positions.shape} and velocities {self.velocities.shape}")
        if not all(np.isfinite(block).all() for block in (self.times, self.positions, self.velocities)):
            raise PlanRejectedError("plan holds a value that is not finite")
        if np.any(np.diff(self.times) <= 0.0):
            raise PlanRejectedError("plan times do not increase")

    @property
    def ends_at_rest(self) -> bool:
        """Whether its last point can be held."""
        return bool(np.abs(self.velocities[-1]).max() < _STILL)

    def at(self, time: float) -> Motion:
        """Where the joints should be ``time`` seconds after the stamp: a cubic between two points, held before the first and after the last."""
        if time <= self.times[0] or time >= self.times[-1]:
            end = 0 if time <= self.times[0] else -1
            inside = time in (self.times[0], self.times[-1])
            still = np.zeros_like(self.velocities[end])
            return Motion(self.positions[end], self.velocities[end] if inside else still, still)
        left = int(np.searchsorted(self.times, time, side="right")) - 1
        span = float(self.times[left + 1] - self.times[left])
        u = (time - float(self.times[left])) / span
        p0, p1 = self.positions[left], self.positions[left + 1]
        m0, m1 = self.velocities[left] * span, self.velocities[left + 1] * span
        # Hermite form: p = p0 + m0 u + b u^2 + c u^3.
        b = 3.0 * (p1 - p0) - 2.0 * m0 - m1
        c = 2.0 * (p0 - p1) + m0 + m1
        return Motion(p0 + u * (m0 + u * (b + u * c)), (m0 + u * (2.0 * b + u * 3.0 * c)) / span, (2.0 * b + 6.0 * c * u) / span**2)


class PlanGate:
    """Lets the newest acceptable plan in, counts the others, and forgets it when it is too old."""

    def __init__(self, config: PlanGateConfig) -> None:
        self.config = config
        self.rejected = 0
        self.last_rejection = ""
        self.expired = ""
        self._since_ns = 0
        self.plan: Proposal | None = None
        self._received_s = 0.0

    def offer(self, plan: Proposal, ros_ns: int, steady_s: float) -> None:
        """Put ``plan`` in force, received at ``ros_ns`` ROS time and ``steady_s`` on the steady clock.

        Raises:
            PlanRejectedError: its frame is too old, lies in the future, or is older than the arming or than that of the plan in force. It is counted.
        """
        age = (ros_ns - plan.stamp_ns) * _NS
        if age > self.config.frame_timeout_s:
            raise self.reject(f"plan was made from a frame {1e3 * age:.0f} ms old")
        if age < -self.config.future_tolerance_s:
            raise self.reject(f"plan was made from a frame {-1e3 * age:.0f} ms in the future")
        if plan.stamp_ns < self._since_ns:
            raise self.reject("plan was made from a frame older than the arming")
        if self.plan is not None and plan.stamp_ns < self.plan.stamp_ns:
            raise self.reject("plan was made from an older frame than the plan in force")
        self.plan = plan
        self.expired = ""
        self._received_s = steady_s

    def reject(self, reason: str) -> PlanRejectedError:
        """Count a plan that was refused, here or before it got here, and give the error that says so."""
        self.rejected += 1
        self.last_rejection = reason
        return PlanRejectedError(reason)

    def clear(self, since_ns: int = 0) -> None:
        """Forget the plan in force, and from now on accept none that was made from a frame before ``since_ns`` ROS time."""
        self.plan = None
        self.expired = ""
        self._since_ns = since_ns

    def drop(self) -> None:
        """Forget the plan in force; the next one is taken as before."""
        self.plan = None
        self.expired = ""

    def target(self, due_ns: int, steady_s: float) -> Motion | None:
        """Where the plan in force wants the joints at ``due_ns`` ROS time, or None: there is none, it is too old, or it ended in motion."""
        if self.plan is None:
            return None
        time = (due_ns - self.plan.stamp_ns) * _NS
        if steady_s - self._received_s > self.config.plan_timeout_s:
            self.expired = "no new plan in time"
        elif time > self.plan.times[-1] and not self.plan.ends_at_rest:
            self.expired = "plan is beyond its horizon"
        if self.expired:
            self.plan = None
            return None
        return self.plan.at(time)
