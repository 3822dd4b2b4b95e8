"""How fast the tool point may be told to move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from planner_node.guardrails.guardrail import SAMPLES_PER_STEP


@dataclass(frozen=True)
class ToolSpeedGuardrail:
    """At most ``limit`` m/s. The margin is what is left of the way that the limit allows in one step of ``period_s``, in m."""

    limit: float
    period_s: float
    name: str = "tool_speed"
    timed: ClassVar[bool] = True

    def margins(self, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margin in m, ``(..., S)``. The first point has the speed of the way to the second: steps are straight."""
        margin: NDArray[np.float64] = self.period_s * (self.limit - np.linalg.norm(rates(path, self.period_s), axis=-1))
        return margin


def rates(values: NDArray[np.float64], period_s: float) -> NDArray[np.float64]:
    """Change of ``values (..., S, C)`` at sampled points per second, ``(..., S, C)``: from the point before; for a single point, none."""
    change = np.diff(values, axis=-2) * (SAMPLES_PER_STEP / period_s)
    return np.concatenate([change[..., :1, :], change], axis=-2) if change.shape[-2] else np.zeros_like(values)
