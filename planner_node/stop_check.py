"""Does a whole stop keep every margin? Answered without measuring all of it.

Margins are Lipschitz in joint motion: at ``q`` a margin is at least ``m(p) - reach . |q - p|`` for every ``p`` where it was measured ("conservative
advancement", Mirtich 1996; Zhang et al. 2006, turned from time to joint space). A sample is measured only where what is known does not reach; far
from everything what was measured cycles ago is enough.

Between two samples an arm that goes straight from one to the next is within half of the step from one of them. A sample must therefore have its half
steps to spare: then the margin is kept at every instant, not only on the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arm_model.tool_frame import ToolFrame
from planner_node.clearance import Margins, MarginSource

F64 = NDArray[np.float64]


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

    def know(self, margins: Margins) -> None:
        """Take in margins that somebody else measured."""
        self._known = [(margins.q, margins.lowest)]

    def lowest_at(self, q: F64) -> F64:
        """What is known of the margins at ``q (J,)`` without measuring: lower bounds ``(K,)``, -inf when nothing is."""
        lowest = np.full(len(self.source.names), -np.inf)
        for known, margins in self._known:
            lowest = np.maximum(lowest, margins - self.source.reach @ np.abs(q - known))
        return lowest

    def measure(self, q: F64) -> F64:
        """Margins ``(K,)`` at ``q``, remembered."""
        margins = self.source.margins(q)
        self.measured += 1
        self._known = [*self._known[-1:], (q, margins)]
        return margins

    def refuse(self, path: F64) -> str:
        """Why the arm may not follow ``path (N, J) rad``, or an empty text."""
        return self._too_near(path) or self._too_fast(path)

    def _too_near(self, path: F64) -> str:
        reach = self.source.reach.T
        if not reach.size:
            return ""
        half_steps = 0.5 * np.abs(np.diff(path, axis=0)) @ reach
        need = np.zeros((len(path), reach.shape[1]))
        need[:-1] = half_steps
        need[1:] = np.maximum(need[1:], half_steps)
        lowest = np.full(need.shape, -np.inf)
        for known, margins in self._known:
            np.maximum(lowest, margins - np.abs(path - known) @ reach, out=lowest)
        for _ in range(self._most_measured + 1):
            spare = (lowest - need).min(axis=1)
            # The farthest sample that is not proven: the end of the stop is where the arm goes, and what is learnt there serves the next cycles too.
            doubtful = np.flatnonzero(~(spare >= 0.0))
            if not doubtful.size:
                return ""
            at = int(doubtful[np.argmin(spare[doubtful])]) if np.isfinite(spare[doubtful]).all() else int(doubtful[doubtful.size // 2])
            margins = self.measure(path[at])
            if not (margins >= need[at]).all():
                return f"the stop would bring {self.source.names[int(np.argmin(margins - need[at]))]} too close"
            np.maximum(lowest, margins - np.abs(path - path[at]) @ reach, out=lowest)
            lowest[at] = margins
        return "the stop cannot be checked in time"

    def _too_fast(self, path: F64) -> str:
        if self._speed is None:
            return ""
        most = self._speed.limit * self._cycle_s
        doubtful = np.flatnonzero(np.abs(np.diff(path, axis=0)) @ self._speed.reach > most)
        points: dict[int, F64] = {}
        for index in doubtful.tolist():
            for end in (index, index + 1):
                if end not in points:
                    points[end] = self._speed.tool.point(path[end])
            if np.linalg.norm(points[index + 1] - points[index]) > most:
                return "the tool would be too fast"
        return ""
