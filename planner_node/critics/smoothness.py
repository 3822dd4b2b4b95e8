"""Smoothness: of two futures that end alike, the one that changes its mind less."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.critics.critic import Slope, level
from planner_node.plan import Candidates, Problem


@dataclass(frozen=True)
class SmoothnessCritic:
    """Mean squared difference between successive actions, the first of them from the action that was carried out last."""

    weight: float = 0.05
    name: str = "smoothness"

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)``, without a unit."""
        rough: NDArray[np.floating] = (self._changes(problem, candidates) ** 2).mean((1, 2))
        return rough

    def slope(self, problem: Problem, candidates: Candidates) -> Slope:
        """Each action appears in the change before it and in the one after."""
        changes = self._changes(problem, candidates)
        actions = changes.copy()
        actions[:, :-1] -= changes[:, 1:]
        return Slope(level(candidates).latents, 2.0 / changes[0].size * actions)

    def _changes(self, problem: Problem, candidates: Candidates) -> NDArray[np.float32]:
        actions = candidates.actions
        past = problem.context.actions
        before = past[:, -1:] if past.shape[1] else np.zeros((1, 1, actions.shape[2]), np.float32)
        return np.diff(actions, axis=1, prepend=np.repeat(before, len(actions), axis=0)).astype(np.float32)
