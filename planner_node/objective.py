"""Dynamics times objective is cost: what is imagined is judged by critics, and guardrails decide what may be chosen at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from planner_node.critics.critic import Critic, DifferentiableCritic, Slope
from planner_node.guardrails.guardrail import Guardrail, LatentGuardrail, sampled
from planner_node.plan import Candidates, Problem, Scores


class _Named(Protocol):
    @property
    def name(self) -> str: ...


G = TypeVar("G", bound=_Named)


class NoGradientError(ValueError):
    """A critic that cannot be descended on."""


@dataclass(frozen=True)
class Objective:
    """The critics' weighted sum and the guardrails' smallest margin: ``guardrails`` judge tool paths, ``latent_guardrails`` imagined scenes."""

    critics: Sequence[Critic]
    guardrails: Sequence[Guardrail]
    latent_guardrails: Sequence[LatentGuardrail] = ()

    def score(self, problem: Problem, candidates: Candidates) -> Scores:
        """Cost, margins and every critic's share for each candidate."""
        terms = {critic.name: critic.weight * np.asarray(critic.cost(problem, candidates), dtype=np.float64) for critic in self.critics}
        count = len(candidates.actions)
        cost = np.sum(list(terms.values()), axis=0) if terms else np.zeros(count)
        margins = self.margins(problem, candidates)
        margin = np.min([values.min(1) for values in margins.values()], axis=0) if margins else np.full(count, np.inf)
        # What is not finite was not imagined: it is infeasible by any measure.
        imagined = (candidates.latents, candidates.actions, candidates.points)
        broken = ~np.logical_and.reduce([np.isfinite(cost), *(np.isfinite(values).all((1, 2)) for values in imagined), ~np.isnan(margin)])
        return Scores(np.where(broken, np.inf, cost), np.where(broken, -np.inf, margin), terms, margins)

    def margins(self, problem: Problem, candidates: Candidates) -> dict[str, NDArray[np.float64]]:
        """The smallest margin on the way of every step, ``(N, H)``, by guardrail; guardrails of one name are numbered."""
        count, horizon = candidates.actions.shape[:2]
        found: dict[str, NDArray[np.float64]] = {}
        if self.guardrails:
            path = sampled(candidates.points)
            # A tool that already stands too close may leave, but not go deeper.
            here = candidates.points[:, :1]
            for name, guardrail in _numbered(self.guardrails):
                every = guardrail.margins(path) - np.minimum(guardrail.margins(here), 0.0)
                found[name] = every.reshape(count, horizon, -1).min(-1)
        for name, learned in _numbered(self.latent_guardrails, found):
            now = float(learned.margins(problem.context.latents[:, -1])[0])
            found[name] = learned.margins(candidates.latents) - min(now, 0.0)
        return found

    def slope(self, problem: Problem, candidates: Candidates) -> Slope:
        """How the cost of each candidate changes with what was imagined and with its actions, the two taken to be independent.

        Raises:
            NoGradientError: a critic has no gradient.
        """
        latents, actions = np.zeros_like(candidates.latents), np.zeros_like(candidates.actions)
        for critic in self.differentiable():
            slope = critic.slope(problem, candidates)
            latents, actions = latents + critic.weight * slope.latents, actions + critic.weight * slope.actions
        return Slope(latents, actions)

    def differentiable(self) -> tuple[DifferentiableCritic, ...]:
        """The critics, all of which have a gradient.

        Raises:
            NoGradientError: one has none.
        """
        found = tuple(critic for critic in self.critics if isinstance(critic, DifferentiableCritic))
        if len(found) < len(self.critics):
            lacking = next(critic.name for critic in self.critics if not isinstance(critic, DifferentiableCritic))
            raise NoGradientError(f"critic '{lacking}' has no gradient, so no solver can descend on it; leave it out or choose another solver")
        return found


def _numbered(guardrails: Sequence[G], taken: dict[str, NDArray[np.float64]] | None = None) -> Iterator[tuple[str, G]]:
    """Guardrails with names that differ: the second ``zone`` is ``zone_2``."""
    seen = list(taken or ())
    for guardrail in guardrails:
        name, number = guardrail.name, 1
        while name in seen:
            number += 1
            name = f"{guardrail.name}_{number}"
        seen.append(name)
        yield name, guardrail
