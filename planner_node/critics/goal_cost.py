"""A learned goal cost: what a person or a rule said of frames, on what is imagined. It needs no goal picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.plan import Candidates, Problem
from world_model.protocol import CostHead


@dataclass(frozen=True)
class GoalCostCritic:
    """The output of a goal-cost head (``latent-mpc head fit``) at the imagined end, plus ``along`` times its mean over the rollout."""

    head: CostHead
    weight: float = 1.0
    along: float = 0.0
    name: str = "goal_cost"

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)`` in the head's unit."""
        count, horizon, dim = candidates.latents.shape
        if not self.along:
            return self._values(np.ascontiguousarray(candidates.latents[:, -1]))
        every = self._values(candidates.latents.reshape(-1, dim)).reshape(count, horizon)
        total: NDArray[np.floating] = every[:, -1] + self.along * every.mean(1)
        return total

    def _values(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.head.values(latents).reshape(len(latents), -1)[:, 0]
