"""The box that the tool point must not leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep

_ROUNDING_M = 1e-6


@dataclass(frozen=True)
class WorkspaceGuardrail:
    """Distance to the nearest face of the task's workspace box. An axis that is not driven has no room to measure: it only must not be left."""

    tool_step: ToolStep
    name: str = "workspace"

    def margins(self, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margin in m, ``(...)``; on a face it is 0."""
        lower, upper = np.array(self.tool_step.lower), np.array(self.tool_step.upper)
        inside = np.minimum(path - lower, upper - path) + _ROUNDING_M
        margin: NDArray[np.float64] = np.where((lower == upper) & (inside >= 0), np.inf, inside).min(-1)
        return margin
