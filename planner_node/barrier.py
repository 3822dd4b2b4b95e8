"""The control barrier filter: the joint velocity closest to the wished one that approaches nothing faster than it can be kept away from.

    min ||v - v_wished||^2   subject to   grad m_i . v >= -gain (m_i - buffer)        for every near margin m_i (Ames et al. 2019, eq. 12)
                                          -gain (q - lower) <= v <= gain (upper - q), |v| <= velocity limit

so that an arm slides along what it may not enter instead of stopping before it. The quadratic program has J variables. Where at most one barrier
binds, as in most cycles, its answer is a projection; else DAQP (Arnstroem, Bemporad and Axehill 2022) solves it. It is advice: what it proposes goes
through the same check of the whole stop as everything else, and where it has no answer (infeasible, not finite, too many iterations) the arm follows
the stop that it was promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import daqp
import numpy as np
from numpy.typing import NDArray

from arm_model import JointLimits

F64 = NDArray[np.float64]
_FREE = 1e30
_TOLERANCE = 1e-5
# m/s: rounding of a rate of change that was made to be on its floor.
_EXACT = 1e-12


@dataclass(frozen=True)
class BarrierConfig:
    """How soon and how hard the filter turns the arm away.

    ``gain`` 1/s: share of a margin that may be used up in a second. ``buffer_m``: kept beyond what the stop check asks for. ``near_m``: margins
    below it enter the program. ``iterations``: of the solver, at most.
    """

    gain: float = 5.0
    buffer_m: float = 0.005
    near_m: float = 0.15
    iterations: int = 200


class Barrier:
    """The program for J joints with ``limits``."""

    def __init__(self, config: BarrierConfig, limits: JointLimits) -> None:
        self.config = config
        self._limits = limits
        self._identity = np.eye(len(limits.names))
        self._sense = np.zeros(len(limits.names), dtype=np.int32)
        self._free = np.empty(0)

    def floor(self, margins: F64) -> F64:
        """The least rate of change, m/s, that margins ``(M,) m`` allow."""
        floor: F64 = -self.config.gain * (margins - self.config.buffer_m)
        return floor

    def box(self, q: F64) -> tuple[F64, F64]:
        """Lower and upper joint velocity ``(J,) rad/s`` at ``q``: limits, and the barriers of the joints' ends."""
        gain, limits = self.config.gain, self._limits
        lower = np.maximum(-limits.velocity, -gain * (q - limits.lower))
        upper = np.minimum(limits.velocity, gain * (limits.upper - q))
        return lower, upper

    def filtered(self, wished: F64, q: F64, margins: F64, gradients: F64) -> F64 | None:
        """The permitted velocity ``(J,) rad/s`` closest to ``wished (J,)`` at joints ``q (J,)``, or None when there is none to be had.

        ``margins (M,) m`` and ``gradients (M, J) m/rad`` are those of the near margins.
        """
        lower, upper = self.box(q)
        floor = self.floor(margins)
        spare = gradients.dot(wished) - floor
        # The solver itself reports success for a problem that holds a NaN. What is not finite anywhere in a row makes its sum so.
        if not all(map(isfinite, [*wished.tolist(), *spare.tolist()])):
            return None
        foot = _foot(wished, spare, gradients)
        if all(((foot >= lower) & (foot <= upper)).tolist()) and all((gradients.dot(foot) >= floor - _EXACT).tolist()):
            return foot
        return self._solved(wished, lower, upper, floor, gradients)

    def _solved(self, wished: F64, lower: F64, upper: F64, floor: F64, gradients: F64) -> F64 | None:
        """The same by the solver, whatever binds."""
        if not (lower <= upper).all():
            return None
        count = floor.size
        if count != self._free.size:
            self._free, self._sense = np.full(count, _FREE), np.zeros(wished.size + count, dtype=np.int32)
        solution, _, exit_flag, _ = daqp.solve(
            self._identity,
            -wished,
            np.ascontiguousarray(gradients),
            np.concatenate([upper, self._free]),
            np.concatenate([lower, floor]),
            self._sense,
            iter_limit=self.config.iterations,
        )
        velocity: F64 = np.asarray(solution, dtype=np.float64)
        # Not taken on trust: what is sent keeps the constraints by this test, which no NaN passes.
        inside = (velocity >= lower - _TOLERANCE).all() and (velocity <= upper + _TOLERANCE).all()
        if exit_flag != 1 or not inside or not (gradients @ velocity >= floor - _TOLERANCE).all():
            return None
        clipped: F64 = np.minimum(np.maximum(velocity, lower), upper)
        return clipped


def _foot(wished: F64, spare: F64, gradients: F64) -> F64:
    """The velocity closest to ``wished (J,)`` that keeps the one barrier which ``wished`` breaks most.

    ``spare (M,) m/s``: how much faster than its floor each margin grows under ``wished``; ``gradients (M, J)``. Nothing that keeps all barriers is
    closer than what need keep only one: if it keeps the others too, it is the answer to the whole program.
    """
    worst = int(spare.argmin()) if spare.size else -1
    if worst < 0 or spare[worst] >= 0.0:
        return wished
    gradient = gradients[worst]
    square = float(gradient.dot(gradient))
    # Without a gradient it cannot be kept, which the caller finds.
    foot: F64 = wished - gradient * (float(spare[worst]) / square) if square > 0.0 else wished
    return foot
