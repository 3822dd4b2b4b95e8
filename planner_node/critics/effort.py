"""Control effort: of two futures that end alike, the calmer one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.critics.critic import Slope, level
from planner_node.plan import Candidates, Problem


@dataclass(frozen=True)
class EffortCritic:
    """Mean squared action over the horizon."""

    weight: float = 0.05
    name: str = "effort"

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)``, without a unit."""
        effort: NDArray[np.floating] = (candidates.actions**2).mean((1, 2))
        return effort

    def slope(self, problem: Problem, candidates: Candidates) -> Slope:
        """Twice the actions over their number."""
        count = candidates.actions[0].size
        return Slope(level(candidates).latents, 2.0 / count * candidates.actions)
