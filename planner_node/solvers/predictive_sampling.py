"""Predictive sampling (Howell et al. 2022, arXiv 2212.00541): the simplest search there is. Disturb the last plan at a few knots, keep the best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.settings import require_counts, require_positive
from planner_node.solvers.search import Search
from planner_node.solvers.solver import Deadline
from planner_node.solvers.warm_start import warm_start


@dataclass(frozen=True)
class PredictiveSamplingConfig:
    """``samples`` candidates around the best so far for each of ``iterations``, with noise ``std`` at ``knots`` points in time, linear in between."""

    samples: int = 64
    iterations: int = 4
    horizon: int = 8
    knots: int = 3
    std: float = 0.5

    def __post_init__(self) -> None:
        require_counts("predictive_sampling", iterations=self.iterations, horizon=self.horizon, knots=self.knots)
        require_counts("predictive_sampling", 2, samples=self.samples)
        require_positive("predictive_sampling", std=self.std)


class PredictiveSampling:
    """Keeps nothing between calls but its generator."""

    def __init__(self, config: PredictiveSamplingConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng

    def iterate(self, search: Search, deadline: Deadline) -> Iterator[None]:
        """Disturb, imagine, judge, take the best."""
        config = self._config
        nominal = warm_start(search, search.horizon(config.horizon))
        horizon, dim = nominal.shape
        between = interpolation(min(config.knots, horizon), horizon)
        for iteration in range(config.iterations):
            noise = np.einsum("hk,nka->nha", between, self._rng.standard_normal((config.samples, between.shape[1], dim)))
            noise[0] = 0.0
            drawn = np.clip(nominal + config.std * noise, -1.0, 1.0).astype(np.float32)
            if iteration == 0:
                drawn[1] = 0.0
            candidates, scores = search.judge(drawn)
            nominal = candidates.actions[scores.ranking()[0]]
            yield


def interpolation(knots: int, horizon: int) -> NDArray[np.float64]:
    """Weights ``(horizon, knots)`` of evenly spaced knots at every step; each row sums to 1."""
    places = np.linspace(0.0, horizon - 1.0, knots)
    return np.stack([np.interp(np.arange(horizon), places, row) for row in np.eye(knots)], axis=1)
