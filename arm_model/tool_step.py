"""What one action means: a bounded displacement of the commanded tool point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ToolStep:
    """An action ``(A,)`` in [-1, 1] moves the commanded tool point by ``action * length_m`` in ``period_s``, inside the box ``lower``..``upper``.

    The box has three axes, in m in the arm's base frame. An axis with ``lower == upper`` is not driven; the driven axes come first, A of them.
    """

    length_m: float
    period_s: float
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    @staticmethod
    def from_json(content: dict[str, Any]) -> ToolStep:
        """Read what ``dataclasses.asdict`` made.

        Raises:
            ValueError: a key is missing or a value is malformed.
        """
        try:
            box = [tuple(float(v) for v in content[key]) for key in ("lower", "upper")]
            (a, b, c), (d, e, f) = box
            return ToolStep(float(content["length_m"]), float(content["period_s"]), (a, b, c), (d, e, f))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a tool step: {error}") from error

    def __post_init__(self) -> None:
        if not (0 < self.length_m < math.inf and 0 < self.period_s < math.inf):
            raise ValueError(f"a tool step needs a positive length and period, not {self.length_m} m in {self.period_s} s")
        if not all(-math.inf < low <= high < math.inf for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"workspace {self.lower} .. {self.upper} has min > max or an end that is not finite")
        driven = [low < high for low, high in zip(self.lower, self.upper, strict=True)]
        if sorted(driven, reverse=True) != driven or not any(driven):
            raise ValueError(f"the driven axes of workspace {self.lower} .. {self.upper} must come first")

    @property
    def action_dim(self) -> int:
        """Number of driven axes, A."""
        return sum(low < high for low, high in zip(self.lower, self.upper, strict=True))

    @cached_property
    def _box(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.lower), np.array(self.upper)

    def clamp(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Nearest points ``(..., 3)`` of the workspace box."""
        return points.clip(*self._box)

    def advance(self, points: NDArray[np.float64], actions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Commanded points ``(..., 3)`` after ``actions (..., A)``, which are clipped to [-1, 1]."""
        moved = np.array(points, dtype=np.float64)
        moved[..., : self.action_dim] += self.length_m * np.clip(actions, -1.0, 1.0)
        return self.clamp(moved)

    def between(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float32]:
        """The action ``(..., A)`` that leads from ``start (..., 3)`` to ``end (..., 3)``, clipped to [-1, 1]."""
        displacement = (np.asarray(end) - np.asarray(start))[..., : self.action_dim] / self.length_m
        return np.clip(displacement, -1.0, 1.0).astype(np.float32)
