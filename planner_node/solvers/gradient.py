"""Adam through the model (Kingma and Ba 2015): several starts at once descend on the cost, and every step of each is a candidate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner_node.plan import Candidates
from planner_node.settings import require_counts, require_positive
from planner_node.solvers.noise import correlated
from planner_node.solvers.search import Search, commanded_points
from planner_node.solvers.solver import Deadline
from planner_node.solvers.warm_start import warm_start
from world_model.protocol import DifferentiableRollout

_BETA1, _BETA2, _TINY = 0.9, 0.99, 1e-8
_CORRELATION = 0.5


@dataclass(frozen=True)
class GradientConfig:
    """``starts``: the last plan, standing still, and noise of deviation ``std`` around the former; ``iterations`` steps of length ``rate``.

    A bound is kept by projection. Guardrails have no slope here: they decide which candidate is taken, not where the descent goes. Around walls such
    a search fails, as all gradient planners do (JEPA-WMs, arXiv 2512.24497); mix it with one that samples.
    """

    starts: int = 16
    iterations: int = 20
    horizon: int = 8
    std: float = 0.5
    rate: float = 0.25

    def __post_init__(self) -> None:
        require_counts("gradient", starts=self.starts, iterations=self.iterations, horizon=self.horizon)
        require_positive("gradient", std=self.std, rate=self.rate)


class Gradient:
    """Keeps nothing between calls but its generator."""

    def __init__(self, config: GradientConfig, dynamics: DifferentiableRollout, rng: np.random.Generator) -> None:
        self._config = config
        self._dynamics = dynamics
        self._rng = rng

    def iterate(self, search: Search, deadline: Deadline) -> Iterator[None]:
        """Imagine, judge, step downhill."""
        config, problem, meaning = self._config, search.problem, search.imagination.meaning
        mean = warm_start(search, search.horizon(config.horizon))
        noise = correlated(self._rng, (config.starts, *mean.shape), _CORRELATION)
        noise[0] = 0.0
        actions = np.clip(mean + config.std * noise, -1.0, 1.0).astype(np.float32)
        if config.starts > 1:
            actions[1] = 0.0
        context = problem.context.repeated(config.starts)
        first, second = np.zeros((2, *actions.shape))
        for step in range(1, config.iterations + 1):
            latents, pull = self._dynamics.pullback(context, actions)
            candidates = Candidates(actions, latents, commanded_points(problem, meaning, actions))
            search.add(candidates)
            yield
            slope = search.imagination.objective.slope(problem, candidates)
            downhill = np.nan_to_num(slope.actions + pull(slope.latents), posinf=0.0, neginf=0.0)
            first = _BETA1 * first + (1 - _BETA1) * downhill
            second = _BETA2 * second + (1 - _BETA2) * downhill**2
            stride = (first / (1 - _BETA1**step)) / (np.sqrt(second / (1 - _BETA2**step)) + _TINY)
            actions = np.clip(actions - config.rate * stride, -1.0, 1.0).astype(np.float32)
