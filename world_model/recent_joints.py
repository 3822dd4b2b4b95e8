"""Where the joints were when a picture was taken."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from world_model.protocol import F32

_NS_PER_S = 1_000_000_000
_KEPT_NS = 5 * _NS_PER_S


class RecentJoints:
    """Measured joint positions of the last seconds with their stamps; gives those at a picture's stamp."""

    def __init__(self, joints: int, tolerance_s: float) -> None:
        self._unknown = np.full(joints, np.nan, np.float32)
        self._tolerance_ns = round(tolerance_s * _NS_PER_S)
        self._seen: deque[tuple[int, F32]] = deque()

    def add(self, stamp_ns: int, position: NDArray[np.floating]) -> None:
        """Remember ``position (J,)`` rad, measured at ``stamp_ns``. What was said of later times is forgotten: the clock went back."""
        while self._seen and self._seen[-1][0] >= stamp_ns:
            self._seen.pop()
        self._seen.append((stamp_ns, position.astype(np.float32)))
        while self._seen[0][0] < stamp_ns - _KEPT_NS:
            self._seen.popleft()

    def at(self, stamp_ns: int) -> F32:
        """The newest positions ``(J,)`` not after ``stamp_ns``, or NaN when they are older than the tolerance."""
        for measured_ns, position in reversed(self._seen):
            if measured_ns <= stamp_ns:
                return position if stamp_ns - measured_ns <= self._tolerance_ns else self._unknown
        return self._unknown
