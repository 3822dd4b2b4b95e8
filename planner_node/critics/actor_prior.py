"""How unlikely the first action is under the actor: the prior that keeps a search from exploiting the critic's errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.critics.critic import Slope, level
from planner_node.plan import Candidates, Problem
from world_model.protocol import ActionMixture, Actor


@dataclass(frozen=True)
class ActorPriorCritic:
    """Negative log-likelihood of the first action, at most ``ceiling``: beyond it, all actions are equally strange.

    Where the actor's own future runs into a zone its word counts for nothing: every step towards the zone would be cheap and the first one round it
    dear, so that whoever looks far enough ahead would put it off until the episode's end forces it.
    """

    actor: Actor
    weight: float = 1.0
    ceiling: float = 6.0
    name: str = "actor_prior"

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)`` in nats."""
        first = candidates.actions[:, 0]
        if not problem.actor_free:
            return np.zeros(len(first))
        return np.minimum(self._mixture(problem).repeated(len(first)).negative_log_likelihood(first), self.ceiling)

    def slope(self, problem: Problem, candidates: Candidates) -> Slope:
        """That of the first action: the components' own slopes, each as much as it is to blame. At the ceiling there is none."""
        if not problem.actor_free:
            return level(candidates)
        first = candidates.actions[:, 0]
        mixture = self._mixture(problem).repeated(len(first))
        pull = (first[:, None] - mixture.mean) / mixture.std**2
        log = mixture.logits - 0.5 * (pull * (first[:, None] - mixture.mean)).sum(-1) - np.log(mixture.std).sum(-1)
        blame = np.exp(log - log.max(-1, keepdims=True))
        blame /= blame.sum(-1, keepdims=True)
        below = mixture.negative_log_likelihood(first) < self.ceiling
        slope = level(candidates)
        slope.actions[:, 0] = np.where(below[:, None], (blame[..., None] * pull).sum(1), 0.0)
        return slope

    def _mixture(self, problem: Problem) -> ActionMixture:
        return self.actor.propose(problem.context.latents[:, -1], problem.goal, np.array([problem.steps_left]))
