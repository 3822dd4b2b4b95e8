"""The cross-entropy method in latent space: bounded, warm-started, seeded, and stopped by a deadline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner_node.action import ActionMeaning
from planner_node.objective import Objective
from planner_node.plan import Plan, Problem
from planner_node.solvers.solver import Deadline, chosen, imagine
from world_model.protocol import F32, WorldModel


@dataclass(frozen=True)
class CemConfig:
    """``samples`` candidates for each of ``iterations``; the best ``elites`` shape the next draw (Rubinstein 1999; noise as in iCEM, Pinneri 2020).

    The first draw has deviation ``std``, no later one less than ``least_std``; ``correlation`` is that of the noise from one step to the next.
    """

    samples: int = 150
    iterations: int = 5
    elites: int = 15
    horizon: int = 8
    std: float = 0.7
    least_std: float = 0.02
    correlation: float = 0.5


class Cem:
    """Keeps nothing between calls but its generator: a warm start comes with the problem."""

    def __init__(self, model: WorldModel, meaning: ActionMeaning, objective: Objective, config: CemConfig, rng: np.random.Generator) -> None:
        if not 1 <= config.elites < config.samples or min(config.iterations, config.horizon) < 1:
            raise ValueError(f"CEM needs 1 <= elites < samples, and at least one iteration and step, not {config}")
        self._model = model
        self._meaning = meaning
        self._objective = objective
        self._config = config
        self._rng = rng

    def plan(self, problem: Problem, deadline: Deadline) -> Plan:
        """Draw, imagine, judge, narrow; the elites stay among the candidates, so the best one is never lost."""
        config, dim = self._config, self._meaning.action_dim
        horizon = max(1, min(config.horizon, int(np.ceil(problem.steps_left))))
        mean = self._warm(problem, horizon)
        std = np.full((horizon, dim), config.std, dtype=np.float32)
        drawn = self._drawn(mean, std, config.samples)
        drawn[1] = 0.0
        candidates = imagine(problem, self._model, self._meaning, drawn)
        scores = self._objective.score(problem, candidates)
        imagined, iterations = config.samples, 1
        while iterations < config.iterations and not deadline.passed():
            elites = scores.ranking()[: config.elites]
            candidates, scores = candidates.taken(elites), scores.taken(elites)
            mean, std = candidates.actions.mean(0), 0.9 * candidates.actions.std(0) + config.least_std
            fresh = imagine(problem, self._model, self._meaning, self._drawn(mean, std, config.samples - config.elites))
            scores = scores.joined(self._objective.score(problem, fresh))
            candidates = candidates.joined(fresh)
            imagined += config.samples - config.elites
            iterations += 1
        return chosen(candidates, scores, int(scores.ranking()[0]), imagined, iterations, deadline)

    def _warm(self, problem: Problem, horizon: int) -> F32:
        mean = np.zeros((horizon, self._meaning.action_dim), dtype=np.float32)
        if problem.previous is not None and len(problem.previous):
            kept = problem.previous[:horizon]
            mean[: len(kept)] = kept
            mean[len(kept) :] = kept[-1] * 0.5
        return mean

    def _drawn(self, mean: F32, std: F32, count: int) -> F32:
        """``count`` bounded action sequences with noise correlated in time; the first is the mean itself."""
        noise = self._rng.standard_normal((count, *mean.shape)).astype(np.float32)
        rho = self._config.correlation
        for step in range(1, mean.shape[0]):
            noise[:, step] = rho * noise[:, step - 1] + np.sqrt(1 - rho**2) * noise[:, step]
        noise[0] = 0.0
        return np.clip(mean + std * noise, -1.0, 1.0).astype(np.float32)
