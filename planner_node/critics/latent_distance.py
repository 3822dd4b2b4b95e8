"""Squared distance to the goal in the latent itself: sharp near the goal, blind far from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.plan import Candidates, Problem


@dataclass(frozen=True)
class LatentDistanceCritic:
    """Mean squared difference of the last imagined latent from the goal's."""

    weight: float = 5.0
    name: str = "latent_distance"

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)``, without a unit: latents have unit variance."""
        squared: NDArray[np.floating] = ((candidates.latents[:, -1] - problem.goal) ** 2).mean(-1)
        return squared
