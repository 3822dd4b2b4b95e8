"""From commanded tool points to joint motion: the straight path of a plan, resolved into joints and checked against their limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arm_model import JointLimits, Kinematics


class JointPathError(ValueError):
    """A tool path that the joints cannot or may not follow."""


@dataclass(frozen=True)
class JointPath:
    """``times (P,) s`` from its beginning, ``positions (P, J) rad``, ``velocities (P, J) rad/s`` at rest at the end, tool ``points (P, 3) m``."""

    times: NDArray[np.float64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    points: NDArray[np.float64]

    def tool_at(self, time_s: float) -> NDArray[np.float64]:
        """Commanded tool point ``(3,) m`` at ``time_s``, held before the beginning and after the end."""
        return self._at(time_s, self.points)

    def joints_at(self, time_s: float) -> NDArray[np.float64]:
        """Commanded joints ``(J,) rad`` at ``time_s``."""
        return self._at(time_s, self.positions)

    def _at(self, time_s: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """What ``np.interp`` makes of each column of ``values (P, C)``, to the bit, and many times as fast: it is asked for everywhere."""
        times = self.times
        after = int(times.searchsorted(time_s, "right"))
        if after == 0 or after == len(times) or times[after - 1] == time_s:
            row: NDArray[np.float64] = values[max(0, after - 1)].copy()
            return row
        slope = (values[after] - values[after - 1]) / (times[after] - times[after - 1])
        between: NDArray[np.float64] = slope * (time_s - times[after - 1]) + values[after - 1]
        return between


def resolve(
    points: NDArray[np.float64], period_s: float, spacing_s: float, kinematics: Kinematics, limits: JointLimits, seed: NDArray[np.float64]
) -> JointPath:
    """Resolve tool points ``(H+1, 3)``, a ``period_s`` apart, every ``spacing_s`` seconds.

    Raises:
        UnreachableError: a point has no joint configuration inside the limits.
        JointPathError: a joint would leave ``limits`` on the way.
    """
    steps = len(points) - 1
    per_step = max(1, round(period_s / spacing_s))
    times: NDArray[np.float64] = np.arange(steps * per_step + 1, dtype=np.float64) * (period_s / per_step)
    knots = np.arange(steps + 1) * period_s
    tools = np.stack([np.interp(times, knots, points[:, axis]) for axis in range(3)], axis=1)
    rows = []
    q = seed
    for tool in tools:
        q = kinematics.solve(tool, q)
        rows.append(q)
    positions = np.stack(rows)
    velocities = np.gradient(positions, times, axis=0) if len(times) > 1 else np.zeros_like(positions)
    velocities[-1] = 0.0
    over = np.abs(velocities) - limits.velocity
    if np.any(over > 0):
        joint = limits.names[int(over.max(0).argmax())]
        raise JointPathError(f"{joint} would move faster than its limit")
    if np.any(positions < limits.lower) or np.any(positions > limits.upper):
        outside = np.maximum(limits.lower - positions, positions - limits.upper).max(0)
        raise JointPathError(f"{limits.names[int(outside.argmax())]} would leave its range")
    return JointPath(times, positions, velocities, tools)
