"""Model predictive path integral control (Williams et al. 2017): the next mean is the average of all candidates, the cheap ones weighing more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.plan import Scores
from planner_node.settings import SettingsError, require_counts, require_positive
from planner_node.solvers.noise import correlated
from planner_node.solvers.search import Search
from planner_node.solvers.solver import Deadline
from planner_node.solvers.warm_start import warm_start
from world_model.protocol import F32


@dataclass(frozen=True)
class MppiConfig:
    """``samples`` candidates for each of ``iterations`` around the mean, with deviation ``std``, ``narrowing`` times that in each iteration after it.

    Weights are ``exp(-cost / temperature)``, the ``temperature`` in units of cost, that is in steps. Where fewer than ``fewest`` candidates are
    feasible, as many of the least violating join in.
    """

    samples: int = 64
    iterations: int = 5
    horizon: int = 8
    std: float = 0.6
    narrowing: float = 0.8
    temperature: float = 0.3
    fewest: int = 8
    correlation: float = 0.5

    def __post_init__(self) -> None:
        require_counts("mppi", iterations=self.iterations, horizon=self.horizon, fewest=self.fewest)
        require_counts("mppi", max(2, self.fewest), samples=self.samples)
        require_positive("mppi", std=self.std, temperature=self.temperature, narrowing=self.narrowing)
        if not 0 <= self.correlation < 1:
            raise SettingsError(f"solver 'mppi': correlation is {self.correlation}, must be at least 0 and below 1")


class Mppi:
    """Keeps nothing between calls but its generator."""

    def __init__(self, config: MppiConfig, rng: np.random.Generator) -> None:
        self._config = config
        self._rng = rng

    def iterate(self, search: Search, deadline: Deadline) -> Iterator[None]:
        """Draw around the mean, imagine, judge, average. Each draw holds the mean itself, so that averages are judged like everything else."""
        config = self._config
        mean = warm_start(search, search.horizon(config.horizon))
        for iteration in range(config.iterations):
            noise = correlated(self._rng, (config.samples, *mean.shape), config.correlation)
            noise[0] = 0.0
            drawn = np.clip(mean + config.std * config.narrowing**iteration * noise, -1.0, 1.0).astype(np.float32)
            if iteration == 0:
                drawn[1] = 0.0
            candidates, scores = search.judge(drawn)
            mean = averaged(candidates.actions, softmin_weights(scores, config.temperature, config.fewest))
            yield
        search.judge(mean[None], iterations=0)


def softmin_weights(scores: Scores, temperature: float, fewest: int) -> NDArray[np.float64]:
    """Weights ``(N,)`` that sum to 1: ``exp(-cost / temperature)`` among the feasible candidates, nothing for the others.

    Where fewer than ``fewest`` are feasible, the least violating join in: in the order of their violation, each as if it were dearer by one
    temperature than the one before it, the first of them dearer than the dearest feasible one.
    """
    order = scores.ranking()
    feasible = int(scores.feasible().sum())
    taken = order[: max(feasible, min(fewest, len(order)))]
    cost = scores.cost[taken]
    dearest = cost[feasible - 1] if feasible else 0.0
    cost[feasible:] = dearest + temperature * (1.0 + np.arange(len(taken) - feasible))
    weights = np.zeros(len(order))
    weights[taken] = np.exp(-(cost - cost[0]) / temperature)
    weights /= weights.sum()
    return weights


def averaged(actions: F32, weights: NDArray[np.float64]) -> F32:
    """The weighted mean ``(H, A)`` of ``actions (N, H, A)``, which stays inside the bounds that these keep."""
    mean: F32 = np.clip(np.einsum("n,nha->ha", weights, actions), -1.0, 1.0).astype(np.float32)
    return mean
