"""What a solver is, and the clock that it must obey."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from planner_node.action import ActionMeaning
from planner_node.plan import Candidates, Plan, Problem, Scores
from world_model.protocol import F32, WorldModel


@dataclass(frozen=True)
class Deadline:
    """Seconds that a search may take, from the moment the deadline is made, on a monotonic clock."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(default=0.0)

    @staticmethod
    def after(seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """A deadline that starts now."""
        return Deadline(seconds, clock, clock())

    def elapsed(self) -> float:
        """Seconds since it was made."""
        return self.clock() - self.started

    def passed(self) -> bool:
        """Whether the time is up."""
        return self.elapsed() >= self.seconds


class Solver(Protocol):
    """Searches for the best feasible future."""

    def plan(self, problem: Problem, deadline: Deadline) -> Plan:
        """The best plan found before the deadline; at least one candidate is always imagined.

        ``Plan.feasible`` says whether it may be carried out.
        """
        ...


def commanded_points(problem: Problem, meaning: ActionMeaning, actions: F32) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Commanded points ``(N, H+1, P)``: now, and after each of ``actions (N, H, A)``."""
    points = [np.broadcast_to(problem.tool, (len(actions), *problem.tool.shape))]
    for step in range(actions.shape[1]):
        points.append(meaning.advance(points[-1], actions[:, step]))
    return np.stack(points, axis=1)


def imagine(problem: Problem, model: WorldModel, meaning: ActionMeaning, actions: F32) -> Candidates:
    """Candidates from ``actions (N, H, A)``, imagined in one rollout."""
    latents = model.rollout(problem.context.repeated(len(actions)), actions)
    return Candidates(actions, latents, commanded_points(problem, meaning, actions))


def chosen(candidates: Candidates, scores: Scores, index: int, imagined: int, iterations: int, deadline: Deadline) -> Plan:
    """The candidate at ``index`` as a plan."""
    return Plan(
        actions=candidates.actions[index],
        latents=candidates.latents[index],
        points=candidates.points[index],
        cost=float(scores.cost[index]),
        margin=float(scores.margin[index]),
        candidates=imagined,
        iterations=iterations,
        seconds=deadline.elapsed(),
        terms={name: float(values[index]) for name, values in scores.terms.items()},
    )
