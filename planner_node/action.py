"""What a planner must know of an action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ActionMeaning(Protocol):
    """Actions ``(A,)`` in [-1, 1] lead from one point ``(P,)`` to the next. ``arm_model.ToolStep`` is one: its points are the commanded tool's."""

    @property
    def action_dim(self) -> int:
        """Number of components, A."""
        ...

    @property
    def period_s(self) -> float:
        """Seconds that an action takes."""
        ...

    def advance(self, points: NDArray[np.float64], actions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points ``(..., P)`` after ``actions (..., A)``, which are clipped to [-1, 1]."""
        ...

    def between(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float32]:
        """The action ``(..., A)`` that leads from ``start (..., P)`` to ``end (..., P)``, clipped to [-1, 1]."""
        ...


@dataclass(frozen=True)
class PlainAction:
    """A box of actions without a body: its points ``(A,)`` are the actions so far, added up, and no workspace bounds them."""

    action_dim: int
    period_s: float = 1.0

    def advance(self, points: NDArray[np.float64], actions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points ``(..., A)`` after ``actions (..., A)``, which are clipped to [-1, 1]."""
        return np.asarray(points, dtype=np.float64) + np.clip(actions, -1.0, 1.0)

    def between(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float32]:
        """The action ``(..., A)`` that was taken between two successive points, clipped to [-1, 1]."""
        return np.clip(np.asarray(end) - np.asarray(start), -1.0, 1.0).astype(np.float32)
