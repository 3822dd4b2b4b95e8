"""Squared distance to the goal in the latent itself: sharp near the goal, blind far from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.critics.critic import Slope, level
from planner_node.plan import Candidates, Problem

OVER = ("last", "summed", "weighted")


@dataclass(frozen=True)
class LatentDistanceCritic:
    """Mean squared difference between imagined latents and the goal's, over steps as ``over`` says.

    ``last``: at the end only. ``summed``: over all steps, so that arriving early pays (EB-JEPA found it better than the last step). ``weighted``: an
    average in which each step counts ``growth`` times as much as the one before it; 1 is a plain mean, large values come close to ``last``.
    """

    weight: float = 5.0
    over: str = "last"
    growth: float = 1.5
    name: str = "latent_distance"

    def __post_init__(self) -> None:
        if self.over not in OVER:
            raise ValueError(f"critic '{self.name}': over is '{self.over}'; choose {', '.join(OVER)}")
        if not 0 < self.growth < np.inf:
            raise ValueError(f"critic '{self.name}': growth is {self.growth}, must be positive and finite")

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)``, without a unit: latents have unit variance."""
        if self.over == "last":
            squared: NDArray[np.floating] = ((candidates.latents[:, -1] - problem.goal) ** 2).mean(-1)
            return squared
        every = ((candidates.latents - problem.goal) ** 2).mean(-1)
        total: NDArray[np.floating] = every @ self._shares(every.shape[1])
        return total

    def slope(self, problem: Problem, candidates: Candidates) -> Slope:
        """Twice the difference, at the steps that count."""
        difference = 2.0 / candidates.latents.shape[2] * (candidates.latents - problem.goal)
        return Slope(difference * self._shares(difference.shape[1])[:, None], level(candidates).actions)

    def _shares(self, horizon: int) -> NDArray[np.float32]:
        """How much each of ``horizon`` steps counts."""
        if self.over == "weighted":
            shares = np.exp(np.log(self.growth) * (np.arange(horizon) - horizon + 1.0))
            shares /= shares.sum()
        else:
            shares = np.ones(horizon) if self.over == "summed" else np.arange(horizon) == horizon - 1
        counted: NDArray[np.float32] = shares.astype(np.float32)
        return counted
