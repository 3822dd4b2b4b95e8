"""What a planner is asked, and what it answers: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from world_model.protocol import F32, Context


@dataclass(frozen=True)
class Problem:
    """Where the arm is, where it should be, and how long it has.

    ``context`` holds one row; ``goal (D,) float32``; ``tool (3,) float64, m`` is the commanded tool point now (without an
    arm, ``planner_node.action`` says what a point is); ``steps_left`` counts actions to the end of the task; ``previous (H, A)`` is what is left of
    the last plan, if there was one.
    """

    context: Context
    goal: F32
    tool: NDArray[np.float64]
    steps_left: float
    previous: F32 | None = None


@dataclass(frozen=True)
class Candidates:
    """N imagined futures: ``actions (N, H, A)``, ``latents (N, H, D)`` after each action, commanded tool ``points (N, H+1, 3)`` in m."""

    actions: F32
    latents: F32
    points: NDArray[np.float64]

    def joined(self, other: Candidates) -> Candidates:
        """Both sets; they must look equally far ahead."""
        return Candidates(
            np.concatenate([self.actions, other.actions]),
            np.concatenate([self.latents, other.latents]),
            np.concatenate([self.points, other.points]),
        )

    def taken(self, index: NDArray[np.intp]) -> Candidates:
        """The candidates at ``index``."""
        return Candidates(self.actions[index], self.latents[index], self.points[index])


@dataclass(frozen=True)
class Scores:
    """What the critics and the guardrails say: ``cost (N,)``, ``margin (N,)`` in m (at least 0 is safe), ``terms`` by critic name, each ``(N,)``.

    A learned guardrail's margin is in its own unit.
    """

    cost: NDArray[np.float64]
    margin: NDArray[np.float64]
    terms: dict[str, NDArray[np.float64]]

    def ranking(self) -> NDArray[np.intp]:
        """Feasible candidates by cost, then infeasible ones by how far they violate: feasible beats infeasible before cost is looked at."""
        infeasible = self.margin < 0
        order: NDArray[np.intp] = np.lexsort((np.where(infeasible, -self.margin, self.cost), infeasible))
        return order

    def joined(self, other: Scores) -> Scores:
        """Both sets of scores."""
        terms = {name: np.concatenate([values, other.terms[name]]) for name, values in self.terms.items()}
        return Scores(np.concatenate([self.cost, other.cost]), np.concatenate([self.margin, other.margin]), terms)

    def taken(self, index: NDArray[np.intp]) -> Scores:
        """The scores at ``index``."""
        return Scores(self.cost[index], self.margin[index], {name: values[index] for name, values in self.terms.items()})


@dataclass(frozen=True)
class Plan:
    """The chosen future.

    ``actions (H, A)``, ``latents (H, D)`` imagined after each, commanded ``points (H+1, 3)`` in m, ``cost`` and its ``terms`` by critic,
    ``margin`` in m, ``candidates`` that were imagined, ``iterations`` of the search that were finished before the deadline, and ``seconds`` it took.
    """

    actions: F32
    latents: F32
    points: NDArray[np.float64]
    cost: float
    margin: float
    candidates: int
    iterations: int
    seconds: float
    terms: dict[str, float] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        """Whether every step keeps every margin."""
        return self.margin >= 0
