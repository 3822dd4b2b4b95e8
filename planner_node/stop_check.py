"""Does a whole stop keep every margin? Answered without measuring all of it.

Margins are Lipschitz in joint motion: at ``q`` a margin is at least ``m(p) - reach . |q - p|`` for every ``p`` where it was measured ("conservative
advancement", Mirtich 1996; Zhang et al. 2006, turned from time to joint space). A sample is measured only where what is known does not reach; far
from everything what was measured cycles ago is enough.

Between two samples an arm that goes straight from one to the next is within half of the step from one of them. A sample must therefore have its half
steps to spare: then the margin is kept at every instant, not only on the grid.
Only those margins are looked at that what is known leaves in question.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from arm_model.tool_frame import ToolFrame
from planner_node.clearance import MarginSource

F64 = NDArray[np.float64]
Indices = NDArray[np.intp]

# Creeping away from a margin: measurements that it may take, half steps in m above which it is none, m a step that count as nothing.
_MOST_CREPT = 40
_SLOW_M = 0.003
_NO_RATE = 1e-12


@dataclass(frozen=True)
class SpeedLimit:
    """The tool point moves at most ``limit`` m/s; ``reach (J,) m/rad`` bounds how far joints carry it."""

    tool: ToolFrame
    reach: F64
    limit: float


class StopCheck:
    """Margins of ``source`` and the tool's speed along a path of samples ``cycle_s`` apart.

    ``most_measured``: samples that one check may measure. A check that needs more counts as failed: there always is a stop that was checked before.
    """

    def __init__(self, source: MarginSource, cycle_s: float, speed: SpeedLimit | None = None, most_measured: int = 8) -> None:
        self.source = source
        self.measured = 0
        self._cycle_s = cycle_s
        self._speed = speed
        self._most_measured = most_measured
        self._known: list[tuple[F64, F64]] = []

    def know(self, q: F64, lowest: F64) -> None:
        """Take in lower bounds ``(K,)`` of the margins at ``q (J,)`` that somebody else found."""
        self._known = [(q, lowest)]

    def lowest_at(self, q: F64) -> F64:
        """What is known of the margins at ``q (J,)`` without measuring: lower bounds ``(K,)``, -inf when nothing is."""
        bounds = [margins - self.source.reach.dot(np.abs(q - known)) for known, margins in self._known]
        return _highest(bounds, (len(self.source.names),))

    def measure(self, q: F64, among: Indices | None = None) -> F64:
        """Margins at ``q``, all ``(K,)`` or those ``among`` them ``(M,)``; remembered."""
        margins = self.source.margins(q, among)
        self.measured += 1
        lowest = margins
        if among is not None:
            lowest = self.lowest_at(q)
            lowest[among] = margins
        self._known = [*self._known[-1:], (q, lowest)]
        return margins

    def refuse(self, path: F64) -> str:
        """Why the arm may not follow ``path (N, J) rad``, or an empty text."""
        steps = np.abs(path[1:] - path[:-1])
        return self._too_near(path, steps) or self._too_fast(path, steps)

    def _too_near(self, path: F64, steps: F64) -> str:
        moved, halves = [np.abs(path - known) for known, _ in self._known], 0.5 * steps
        active = self._in_question(moved, halves)
        if not active.size:
            return ""
        reach = self.source.reach.take(active, axis=0).T
        half_steps = halves.dot(reach)
        need = _need(half_steps)
        bounds = [margins.take(active) - away.dot(reach) for away, (_, margins) in zip(moved, self._known, strict=True)]
        lowest = _highest(bounds, need.shape)
        crept = False
        for _ in range(self._most_measured + 1):
            spare = lowest - need
            row, column = divmod(int(spare.argmin()), active.size)
            least = float(spare[row, column])
            if least >= 0.0:
                return ""
            # The farthest sample that is not proven: the end of the stop is where the arm goes, and what is learnt there serves the next cycles too.
            at = row if isfinite(least) else _middle(spare)
            margins = self.measure(path[at], active)
            if not all((margins >= need[at]).tolist()):
                if crept or not self._creep(path, half_steps, active):
                    return f"the stop would bring {self.source.names[int(active[np.argmin(margins - need[at])])]} too close"
                crept, need = True, _need(half_steps)
            np.maximum(lowest, margins - np.abs(path - path[at]).dot(reach), out=lowest)
            lowest[at] = margins
        return "the stop cannot be checked in time"

    def _in_question(self, moved: list[F64], halves: F64) -> Indices:
        """The margins that what is known does not prove for the whole of a path at once.

        ``moved``: how far its samples are from each known posture, ``(N, J) rad``; ``halves (N - 1, J) rad``: half of its steps.
        """
        half: F64 = np.maximum.reduce(halves, axis=0, initial=0.0)
        proven = np.zeros(len(self.source.names), dtype=bool)
        for away, (_, margins) in zip(moved, self._known, strict=True):
            proven |= margins >= self.source.reach.dot(np.maximum.reduce(away) + half)
        (doubtful,) = (~proven).nonzero()
        return doubtful

    def _creep(self, path: F64, half_steps: F64, active: Indices) -> bool:
        """Prove the first steps of a slow ``path`` piece by piece: an arm that stands at its very margin may leave it, though half a step is more.

        What is proven needs no half steps to spare any more, in ``half_steps (N - 1, M)``. False where there is nothing to prove, or no proof.
        """
        left, proven, end = _MOST_CREPT, False, self.source.margins(path[0], active)
        for index, half in enumerate(half_steps):
            if left <= 0 or half.max() > _SLOW_M:
                break
            begin, end = end, self.source.margins(path[index + 1], active)
            short = np.flatnonzero(~(np.minimum(begin, end) >= half))
            left -= 1
            if not short.size:
                if proven:
                    break
                continue
            if not (end[short] > begin[short]).all():
                return False
            step, passed = path[index + 1] - path[index], 0.0
            rates = np.maximum(2.0 * half[short], _NO_RATE)
            # What there is at the end proves the last of it.
            until, margins = 1.0 - float(np.min(end[short] / rates)), begin[short]
            while True:
                left -= 1
                if left < 0 or not (margins >= 0.0).all():
                    return False
                # As far as no margin can have been used up; it has grown by then, or there is no way.
                passed += float(np.min(margins / rates))
                if passed >= until:
                    break
                margins = self.source.margins(path[index] + passed * step, active[short])
            half_steps[index, short], proven = 0.0, True
        return proven

    def _too_fast(self, path: F64, steps: F64) -> str:
        if self._speed is None:
            return ""
        most = self._speed.limit * self._cycle_s
        (doubtful,) = (steps.dot(self._speed.reach) > most).nonzero()
        points: dict[int, F64] = {}
        for index in doubtful.tolist():
            for end in (index, index + 1):
                if end not in points:
                    points[end] = self._speed.tool.point(path[end])
            way = points[index + 1] - points[index]
            if sqrt(way.dot(way)) > most:
                return "the tool would be too fast"
        return ""


def _highest(bounds: list[F64], shape: tuple[int, ...]) -> F64:
    """The highest of lower ``bounds`` of one ``shape``: of none minus infinity, of two (more are not remembered) that of both."""
    if not bounds:
        return np.full(shape, -np.inf)
    return bounds[0] if len(bounds) == 1 else np.maximum(bounds[0], bounds[1])


def _middle(spare: F64) -> int:
    """The middle one of the samples that lack something, by ``spare (N, M)``."""
    doubtful = np.flatnonzero(~(spare >= 0.0).all(axis=1))
    return int(doubtful[doubtful.size // 2])


def _need(half_steps: F64) -> F64:
    """What each of N samples must have to spare, ``(N, M) m``: the larger of the half steps on both sides of it, ``(N - 1, M)``."""
    need = np.zeros((len(half_steps) + 1, half_steps.shape[1]))
    need[:-1] = half_steps
    np.maximum(need[1:], half_steps, out=need[1:])
    return need
