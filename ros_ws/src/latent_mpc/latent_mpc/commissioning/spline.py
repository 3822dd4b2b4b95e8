"""How joint_trajectory_controller joins two points: a line, a cubic or a quintic, by what both of them give (its ``trajectory.cpp``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Knot:
    """A point of a trajectory: ``position (J,) rad``, and, where given, ``velocity (J,) rad/s`` and ``acceleration (J,) rad/s^2``."""

    position: F64
    velocity: F64 | None = None
    acceleration: F64 | None = None


def interpolate(a: Knot, b: Knot, duration_s: float, elapsed_s: float) -> Knot:
    """The state ``elapsed_s`` after ``a``, which ``b`` follows after ``duration_s`` > 0. Time is kept between the two."""
    t = min(max(elapsed_s, 0.0), duration_s)
    if a.velocity is None or b.velocity is None:
        slope = (b.position - a.position) / duration_s
        return Knot(a.position + slope * t, slope, np.zeros_like(slope))
    if a.acceleration is None or b.acceleration is None:
        ends = np.array([a.position, a.velocity, b.position, b.velocity])
        coefficients = np.linalg.solve(_conditions(duration_s, 2), ends)
    else:
        ends = np.array([a.position, a.velocity, a.acceleration, b.position, b.velocity, b.acceleration])
        coefficients = np.linalg.solve(_conditions(duration_s, 3), ends)
    count = len(coefficients)
    rows = [np.array([_derivative(power, order, t) for power in range(count)]) for order in range(3)]
    return Knot(rows[0] @ coefficients, rows[1] @ coefficients, rows[2] @ coefficients)


def _conditions(duration_s: float, orders: int) -> F64:
    """The matrix that takes the coefficients of a polynomial to its first ``orders`` derivatives at 0 and at ``duration_s``."""
    rows = [[_derivative(power, order, t) for power in range(2 * orders)] for t in (0.0, duration_s) for order in range(orders)]
    return np.array(rows, dtype=np.float64)


def _derivative(power: int, order: int, t: float) -> float:
    """The derivative of that ``order`` of ``t ** power``."""
    if power < order:
        return 0.0
    factor = 1.0
    for step in range(order):
        factor *= power - step
    return factor * t ** (power - order)
