"""How unlikely the first action is under the actor: the prior that keeps a search from exploiting the critic's errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.plan import Candidates, Problem
from world_model.protocol import Actor


@dataclass(frozen=True)
class ActorPriorCritic:
    """Negative log-likelihood of the first action, at most ``ceiling``: beyond it, all actions are equally strange."""

    actor: Actor
    weight: float = 1.0
    ceiling: float = 6.0
    name: str = "actor_prior"

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)`` in nats."""
        now = problem.context.latents[:, -1]
        mixture = self.actor.propose(now, problem.goal, np.array([problem.steps_left]))
        first = candidates.actions[:, 0]
        return np.minimum(mixture.repeated(len(first)).negative_log_likelihood(first), self.ceiling)
