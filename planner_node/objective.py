"""Dynamics times objective is cost: what is imagined is judged by critics, and guardrails decide what may be chosen at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner_node.critics.critic import Critic
from planner_node.guardrails.guardrail import Guardrail, LatentGuardrail, sampled
from planner_node.plan import Candidates, Problem, Scores


@dataclass(frozen=True)
class Objective:
    """The critics' weighted sum and the guardrails' smallest margin: ``guardrails`` judge tool paths, ``latent_guardrails`` imagined scenes."""

    critics: Sequence[Critic]
    guardrails: Sequence[Guardrail]
    latent_guardrails: Sequence[LatentGuardrail] = ()

    def score(self, problem: Problem, candidates: Candidates) -> Scores:
        """Cost, margin and every critic's share for each candidate."""
        terms = {critic.name: critic.weight * np.asarray(critic.cost(problem, candidates), dtype=np.float64) for critic in self.critics}
        count = len(candidates.actions)
        cost = np.sum(list(terms.values()), axis=0) if terms else np.zeros(count)
        margin = np.full(count, np.inf)
        if self.guardrails:
            path = sampled(candidates.points)
            # A tool that already stands too close may leave, but not go deeper.
            here = candidates.points[:, :1]
            for guardrail in self.guardrails:
                margin = np.minimum(margin, (guardrail.margins(path) - np.minimum(guardrail.margins(here), 0.0)).min(1))
        for learned in self.latent_guardrails:
            now = float(learned.margins(problem.context.latents[:, -1])[0])
            margin = np.minimum(margin, learned.margins(candidates.latents).min(1) - min(now, 0.0))
        # What is not finite was not imagined: it is infeasible by any measure.
        imagined = (candidates.latents, candidates.actions, candidates.points)
        broken = ~np.logical_and.reduce([np.isfinite(cost), *(np.isfinite(values).all((1, 2)) for values in imagined)])
        return Scores(np.where(broken, np.inf, cost), np.where(broken, -np.inf, margin), terms)
