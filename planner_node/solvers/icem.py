"""Improved CEM (Pinneri et al. 2020, arXiv 2008.06389): coloured noise, elites that are kept and shifted, a population that shrinks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner_node.plan import Problem
from planner_node.settings import SettingsError, require_counts, require_positive
from planner_node.solvers.noise import coloured
from planner_node.solvers.search import Search
from planner_node.solvers.solver import Deadline
from planner_node.solvers.warm_start import filled, warm_start
from world_model.protocol import F32


@dataclass(frozen=True)
class IcemConfig:
    """``samples`` candidates in the first of ``iterations``, ``shrink`` times fewer in each one after it, but never fewer than twice the ``elites``.

    ``exponent`` is the noise's colour; ``kept`` is the share of the elites that stays among the candidates and, shifted by the time that went by,
    opens the next plan's search; ``momentum`` is how much of mean and deviation stays from one iteration to the next.
    """

    samples: int = 64
    iterations: int = 4
    elites: int = 8
    horizon: int = 8
    std: float = 0.6
    least_std: float = 0.02
    exponent: float = 2.0
    shrink: float = 1.25
    kept: float = 0.3
    momentum: float = 0.1

    def __post_init__(self) -> None:
        require_counts("icem", elites=self.elites, iterations=self.iterations, horizon=self.horizon)
        require_counts("icem", 2 * self.elites, samples=self.samples)
        require_positive("icem", std=self.std, least_std=self.least_std, shrink=self.shrink)
        if self.exponent < 0 or self.shrink < 1 or not 0 <= self.kept <= 1 or not 0 <= self.momentum < 1:
            raise SettingsError(
                f"solver 'icem': exponent {self.exponent} must be at least 0, shrink {self.shrink} at least 1, kept {self.kept} in [0, 1], "
                f"momentum {self.momentum} in [0, 1)"
            )


class Icem:
    """Keeps its generator and the elites of the last plan."""

    def __init__(self, config: IcemConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng
        self._elites: F32 | None = None

    def iterate(self, search: Search, deadline: Deadline) -> Iterator[None]:
        """Draw coloured, imagine, judge, narrow; the last draw also has the mean itself, as it was narrowed."""
        config = self._config
        horizon = search.horizon(config.horizon)
        mean = warm_start(search, horizon)
        std = np.full((horizon, search.action_dim), config.std, dtype=np.float32)
        kept = self._carried(search.problem, horizon, search.action_dim)
        candidates = scores = None
        for iteration in range(config.iterations):
            count = max(2 * config.elites, round(config.samples / config.shrink**iteration))
            drawn = self._drawn(mean, std, count)
            if iteration == 0:
                drawn[0], drawn[1] = mean, 0.0
            elif iteration == config.iterations - 1:
                drawn[0] = mean
            if candidates is None or scores is None:
                candidates, scores = search.judge(np.concatenate([drawn, kept]))
            else:
                fresh, its_scores = search.judge(drawn)
                again = scores.ranking()[: round(config.kept * config.elites)]
                candidates, scores = candidates.taken(again).joined(fresh), scores.taken(again).joined(its_scores)
            best = candidates.actions[scores.ranking()[: config.elites]]
            self._elites = best
            mean = ((1 - config.momentum) * best.mean(0) + config.momentum * mean).astype(np.float32)
            std = np.maximum((1 - config.momentum) * best.std(0) + config.momentum * std, config.least_std).astype(np.float32)
            yield

    def _carried(self, problem: Problem, horizon: int, dim: int) -> F32:
        """A share of the last plan's elites, moved on by as many steps as the plan has lost since, and filled at the end."""
        none = np.zeros((0, horizon, dim), np.float32)
        if self._elites is None or problem.previous is None or len(problem.previous) == 0:
            return none
        gone = self._elites.shape[1] - len(problem.previous)
        if gone < 0:
            return none
        return filled(self._elites[: round(self._config.kept * self._config.elites), gone:], horizon)

    def _drawn(self, mean: F32, std: F32, count: int) -> F32:
        """``count`` bounded action sequences ``(count, H, A)``."""
        horizon, dim = mean.shape
        return np.clip(mean + std * coloured(self._rng, (count, horizon, dim), self._config.exponent), -1.0, 1.0).astype(np.float32)
