"""What a planner is asked, and what it answers: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner_node.verdict import PASSED, Outcome, Verdict
from world_model.protocol import F32, Context


@dataclass(frozen=True)
class Problem:
    """Where the arm is, where it should be, and how long it has.

    ``context`` holds one row; ``goal (D,) float32``; ``tool (3,) float64, m`` is the commanded tool point now (without an
    arm, ``planner_node.action`` says what a point is); ``steps_left`` counts actions to the end of the task; ``previous (H, A)`` is what is left of
    the last plan, if there was one. ``actor_free`` is false where the actor's own future runs into a zone that it knows nothing of.
    """

    context: Context
    goal: F32
    tool: NDArray[np.float64]
    steps_left: float
    previous: F32 | None = None
    actor_free: bool = True


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

    ``margins`` by guardrail name, each ``(N, H)``: the smallest on the way of every step. A learned guardrail's margin is in its own unit.
    """

    cost: NDArray[np.float64]
    margin: NDArray[np.float64]
    terms: dict[str, NDArray[np.float64]]
    margins: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def feasible(self) -> NDArray[np.bool_]:
        """Which candidates keep every margin, ``(N,)``."""
        return np.asarray(self.margin >= 0, dtype=np.bool_)

    def ranking(self) -> NDArray[np.intp]:
        """Feasible candidates by cost, then infeasible ones by how far they violate: feasible beats infeasible before cost is looked at.

        The rule of constrained CEM (Wen and Topcu 2018): the first k are elites that are filled up with the least violating where few are feasible.
        """
        infeasible = ~self.feasible()
        order: NDArray[np.intp] = np.lexsort((np.where(infeasible, -self.margin, self.cost), infeasible))
        return order

    def joined(self, other: Scores) -> Scores:
        """Both sets of scores."""
        return Scores(
            np.concatenate([self.cost, other.cost]),
            np.concatenate([self.margin, other.margin]),
            {name: np.concatenate([values, other.terms[name]]) for name, values in self.terms.items()},
            {name: np.concatenate([values, other.margins[name]]) for name, values in self.margins.items()},
        )

    def taken(self, index: NDArray[np.intp]) -> Scores:
        """The scores at ``index``."""
        return Scores(
            self.cost[index],
            self.margin[index],
            {name: values[index] for name, values in self.terms.items()},
            {name: values[index] for name, values in self.margins.items()},
        )


@dataclass(frozen=True)
class CriticStatistics:
    """What a critic said of all candidates of one search, its weight included.

    ``mean``, ``min`` and ``max`` in the unit of cost, and ``share`` in [0, 1]: how much of what told candidates apart came from it, its standard
    deviation over the sum of all critics'. A share of 0 means that the critic had no say.
    """

    mean: float
    min: float
    max: float
    share: float


@dataclass(frozen=True)
class Plan:
    """The chosen future.

    ``actions (H, A)``, ``latents (H, D)`` imagined after each, commanded ``points (H+1, 3)`` in m, ``cost`` and its ``terms`` by critic, the smallest
    ``margin`` in m and ``margins (H,)`` of every step by guardrail, ``candidates`` that were imagined, ``iterations`` of the search that were
    finished, ``seconds`` it took, and what each critic said of all candidates; ``cut``: the deadline ended the search before it ended by itself.
    ``runners_up`` are the next best *feasible* ones, for a validator that refuses this one; they carry no statistics.
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
    margins: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    statistics: dict[str, CriticStatistics] = field(default_factory=dict)
    solver: str = ""
    runners_up: tuple[Plan, ...] = ()
    verdict: Verdict = PASSED
    cut: bool = False

    @property
    def feasible(self) -> bool:
        """Whether every step keeps every margin, and the validator let it pass."""
        return self.margin >= 0 and self.verdict.outcome is not Outcome.REFUSE

    def values(self) -> dict[str, float | int | str | bool]:
        """Plain numbers for a status: costs and statistics by critic, the smallest margin by guardrail, and how the search went. All are finite."""
        statistics = {
            f"critic_{name}_{key}": getattr(found, key) for name, found in self.statistics.items() for key in ("mean", "min", "max", "share")
        }
        numbers = {
            "cost": self.cost,
            "margin_m": self.margin,
            **{f"cost_{name}": value for name, value in self.terms.items()},
            **statistics,
            **{f"plan_margin_{name}": float(values.min()) for name, values in self.margins.items()},
        }
        return {
            **NO_PLAN,
            "feasible": self.feasible,
            "candidates": self.candidates,
            "iterations": self.iterations,
            "cut": self.cut,
            "solver": self.solver,
            "validation": self.verdict.outcome.value,
            "validation_reason": self.verdict.reason,
            **{name: value if np.isfinite(value) else 0.0 for name, value in numbers.items()},
        }


# What a status says before there is a plan.
NO_PLAN: dict[str, float | int | str | bool] = {
    "cost": 0.0,
    "margin_m": 0.0,
    "feasible": True,
    "candidates": 0,
    "iterations": 0,
    "cut": False,
    "solver": "",
    "validation": "",
    "validation_reason": "",
}
