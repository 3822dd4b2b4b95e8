"""The cross-entropy method in latent space: bounded, warm-started, seeded, and stopped by a deadline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner_node.settings import require_positive
from planner_node.solvers.noise import correlated
from planner_node.solvers.search import Search
from planner_node.solvers.solver import Deadline
from planner_node.solvers.warm_start import warm_start
from world_model.protocol import F32


@dataclass(frozen=True)
class CemConfig:
    """``samples`` candidates for each of ``iterations``; the best ``elites`` shape the next draw (Rubinstein 1999).

    The first draw has deviation ``std``, no later one less than ``least_std``; ``correlation`` is that of the noise from one step to the next.
    """

    samples: int = 150
    iterations: int = 5
    elites: int = 15
    horizon: int = 8
    std: float = 0.7
    least_std: float = 0.02
    correlation: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.elites < self.samples or min(self.iterations, self.horizon) < 1:
            raise ValueError(f"CEM needs 1 <= elites < samples, and at least one iteration and step, not {self}")
        require_positive("cem", std=self.std, least_std=self.least_std)
        if not 0 <= self.correlation < 1:
            raise ValueError(f"solver 'cem': correlation is {self.correlation}, must be at least 0 and below 1")


class Cem:
    """Keeps nothing between calls but its generator: a warm start comes with the problem."""

    def __init__(self, config: CemConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng

    def iterate(self, search: Search, deadline: Deadline) -> Iterator[None]:
        """Draw, imagine, judge, narrow; the elites stay among the candidates. The best of all is kept by the search."""
        config = self._config
        horizon = search.horizon(config.horizon)
        mean = warm_start(search, horizon)
        std = np.full((horizon, search.action_dim), config.std, dtype=np.float32)
        drawn = self._drawn(mean, std, config.samples)
        drawn[1] = 0.0
        candidates, scores = search.judge(drawn)
        yield
        for _ in range(config.iterations - 1):
            elites = scores.ranking()[: config.elites]
            candidates, scores = candidates.taken(elites), scores.taken(elites)
            mean, std = candidates.actions.mean(0), 0.9 * candidates.actions.std(0) + config.least_std
            fresh, its_scores = search.judge(self._drawn(mean, std, config.samples - config.elites))
            candidates, scores = candidates.joined(fresh), scores.joined(its_scores)
            yield

    def _drawn(self, mean: F32, std: F32, count: int) -> F32:
        """``count`` bounded action sequences with noise correlated in time; the first is the mean itself."""
        noise = correlated(self._rng, (count, *mean.shape), self._config.correlation)
        noise[0] = 0.0
        return np.clip(mean + std * noise, -1.0, 1.0).astype(np.float32)
