"""Steps that the learned critic still sees between the imagined end and the goal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.critics.critic import Slope, level
from planner_node.plan import Candidates, Problem
from world_model.protocol import DifferentiableDistance, TemporalDistance


@dataclass(frozen=True)
class TemporalDistanceCritic:
    """Distance at the end of the rollout, plus ``along`` times its mean over the rollout. Unit: steps."""

    head: TemporalDistance
    weight: float = 1.0
    along: float = 0.0
    name: str = "temporal_distance"

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)`` steps."""
        end = self.head.distance(np.ascontiguousarray(candidates.latents[:, -1]), problem.goal)
        if not self.along:
            return end
        count, horizon, dim = candidates.latents.shape
        every = self.head.distance(candidates.latents.reshape(-1, dim), problem.goal).reshape(count, horizon)
        total: NDArray[np.floating] = end + self.along * every.mean(1)
        return total

    def slope(self, problem: Problem, candidates: Candidates) -> Slope:
        """The head's own, at the end and along the way; the head must be a ``DifferentiableDistance``."""
        assert isinstance(self.head, DifferentiableDistance)
        slope = level(candidates)
        slope.latents[:, -1] = self.head.distance_gradient(np.ascontiguousarray(candidates.latents[:, -1]), problem.goal)
        if self.along:
            count, horizon, dim = candidates.latents.shape
            every = self.head.distance_gradient(candidates.latents.reshape(-1, dim), problem.goal).reshape(count, horizon, dim)
            slope.latents[...] += self.along / horizon * every
        return slope
