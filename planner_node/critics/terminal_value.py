"""A learned terminal value: what the future beyond the horizon still costs, discounted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.critics.critic import Slope, level
from planner_node.plan import Candidates, Problem
from world_model.protocol import DifferentiableDistance, TemporalDistance


@dataclass(frozen=True)
class TerminalValueCritic:
    """Discounted cost-to-go of the imagined end, at one unit a step: ``V(z) = (1 - discount^d) / (1 - discount)``, d the learned temporal distance.

    It is minus the value function of an agent that pays 1 for every step until the goal (Kaelbling 1993; as terminal value of a short search:
    TD-MPC, arXiv 2203.04955). Unlike ``temporal_distance`` it levels off far away, where the head's figures are the least certain. Unit: steps.
    """

    head: TemporalDistance
    weight: float = 1.0
    discount: float = 0.95
    name: str = "terminal_value"

    def __post_init__(self) -> None:
        if not 0 < self.discount < 1:
            raise ValueError(f"critic '{self.name}': discount is {self.discount}, must lie between 0 and 1")

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)`` discounted steps."""
        steps = self.head.distance(np.ascontiguousarray(candidates.latents[:, -1]), problem.goal)
        return np.asarray((1.0 - self.discount**steps) / (1.0 - self.discount))

    def slope(self, problem: Problem, candidates: Candidates) -> Slope:
        """The head's, scaled by how much a step there still counts."""
        assert isinstance(self.head, DifferentiableDistance)
        ends = np.ascontiguousarray(candidates.latents[:, -1])
        steps = self.head.distance(ends, problem.goal)
        counts = -np.log(self.discount) / (1.0 - self.discount) * self.discount**steps
        slope = level(candidates)
        slope.latents[:, -1] = counts[:, None] * self.head.distance_gradient(ends, problem.goal)
        return slope
