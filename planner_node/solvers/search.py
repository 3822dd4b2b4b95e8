"""One search: what was imagined so far, what the critics said of it, and the best of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner_node.action import ActionMeaning
from planner_node.objective import Objective
from planner_node.plan import Candidates, CriticStatistics, Plan, Problem, Scores
from world_model.protocol import F32, Context, WorldModel

# The best of all iterations, and runners-up for a validator that refuses it. These differ from it, and from each other, by at least so much in some
# action: what was refused once would be refused again.
_KEPT, _APART = 6, 0.05


@dataclass(frozen=True)
class Imagination:
    """Dynamics, the meaning of an action, and the objective: all that a strategy needs to judge what it proposes.

    ``batch`` candidates are imagined at once, 0 for all: it bounds memory, and changes no plan.
    """

    model: WorldModel
    meaning: ActionMeaning
    objective: Objective
    batch: int = 0

    def rollout(self, context: Context, actions: F32) -> F32:
        """Imagined latents ``(N, H, D)`` after each of ``actions (N, H, A)``, batch by batch."""
        size = self.batch or len(actions)
        parts = [
            self.model.rollout(Context(context.latents[begin : begin + size], context.actions[begin : begin + size]), actions[begin : begin + size])
            for begin in range(0, len(actions), size)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def imagine(self, problem: Problem, actions: F32) -> Candidates:
        """Candidates from ``actions (N, H, A)``, imagined in one rollout."""
        latents = self.rollout(problem.context.repeated(len(actions)), actions)
        return Candidates(actions, latents, commanded_points(problem, self.meaning, actions))


def commanded_points(problem: Problem, meaning: ActionMeaning, actions: F32) -> NDArray[np.float64]:
    """Commanded points ``(N, H+1, P)``: now, and after each of ``actions (N, H, A)``."""
    points = [np.broadcast_to(problem.tool, (len(actions), *problem.tool.shape))]
    for step in range(actions.shape[1]):
        points.append(meaning.advance(points[-1], actions[:, step]))
    return np.stack(points, axis=1)


class Search:
    """The pool that strategies fill. Several may share one: they must look equally far ahead, and what looks less far is left out."""

    def __init__(self, problem: Problem, imagination: Imagination) -> None:
        self.problem = problem
        self.imagination = imagination
        self.iterations = 0
        self._imagined = 0
        self._kept: tuple[Candidates, Scores] | None = None
        self._preferred: tuple[Candidates, Scores, float] | None = None
        self._sums: dict[str, NDArray[np.float64]] = {}

    @property
    def action_dim(self) -> int:
        """Number of components of an action, A."""
        return self.imagination.meaning.action_dim

    def horizon(self, most: int) -> int:
        """Steps to look ahead: ``most``, but never beyond the end of the task."""
        return max(1, min(most, int(np.ceil(self.problem.steps_left))))

    def judge(self, actions: F32, iterations: int = 1) -> tuple[Candidates, Scores]:
        """Imagine ``actions (N, H, A)``, judge and remember them."""
        candidates = self.imagination.imagine(self.problem, actions)
        return candidates, self.add(candidates, iterations)

    def add(self, candidates: Candidates, iterations: int = 1) -> Scores:
        """Judge and remember what was imagined elsewhere, in so many more ``iterations``."""
        scores = self.imagination.objective.score(self.problem, candidates)
        self.iterations += iterations
        self._imagined += len(candidates.actions)
        self._count(scores)
        if self._kept is None:
            self._keep(candidates, scores)
        elif self._kept[0].actions.shape[1] == candidates.actions.shape[1]:
            self._keep(self._kept[0].joined(candidates), self._kept[1].joined(scores))
        return scores

    def doubt_actor(self) -> None:
        """From now on the actor's own future counts as blocked."""
        self.problem = replace(self.problem, actor_free=False)

    def prefer(self, candidates: Candidates, scores: Scores, unless_better_by: float) -> None:
        """Take this one candidate if it is feasible, unless the best is cheaper by more than that."""
        self._preferred = candidates, scores, unless_better_by

    def best(self, horizon: int) -> F32 | None:
        """Actions ``(horizon, A)`` of the best candidate so far, if there is one that looks so far ahead."""
        if self._kept is None or self._kept[0].actions.shape[1] != horizon:
            return None
        actions: F32 = self._kept[0].actions[0]
        return actions

    def plan(self, solver: str, seconds: float) -> Plan:
        """The best candidate of all iterations: the cheapest feasible one, or, where there is none, the one that violates least."""
        assert self._kept is not None, "a strategy always judges something before it yields"
        candidates, scores = self._kept
        if self._preferred is not None:
            preferred, its_scores, threshold = self._preferred
            good = bool(its_scores.feasible()[0]) and preferred.actions.shape[1] == candidates.actions.shape[1]
            if good and its_scores.cost[0] - scores.cost[0] <= threshold:
                others = np.flatnonzero(np.abs(candidates.actions - preferred.actions).max((1, 2)) >= _APART)
                candidates, scores = preferred.joined(candidates.taken(others)), its_scores.joined(scores.taken(others))
        runners_up = [self._chosen(candidates, scores, row, solver) for row in range(1, len(candidates.actions)) if scores.feasible()[row]]
        return self._chosen(candidates, scores, 0, solver, seconds, tuple(runners_up), self._statistics())

    def _keep(self, candidates: Candidates, scores: Scores) -> None:
        chosen: list[int] = []
        for row in scores.ranking().tolist():
            if all(np.abs(candidates.actions[row] - candidates.actions[other]).max() >= _APART for other in chosen):
                chosen.append(row)
            if len(chosen) == _KEPT:
                break
        order = np.array(chosen, dtype=np.intp)
        self._kept = candidates.taken(order), scores.taken(order)

    def _count(self, scores: Scores) -> None:
        """Number, sum, sum of squares, least and most of each critic's share of the cost; what is not finite does not count."""
        for name, values in scores.terms.items():
            finite = values[np.isfinite(values)]
            if len(finite) == 0:
                continue
            now = np.array([len(finite), finite.sum(), (finite**2).sum(), finite.min(), finite.max()])
            before = self._sums.get(name)
            if before is not None:
                now = np.array([*(before[:3] + now[:3]), min(before[3], now[3]), max(before[4], now[4])])
            self._sums[name] = now

    def _statistics(self) -> dict[str, CriticStatistics]:
        spread = {name: float(np.sqrt(max(0.0, s[2] / s[0] - (s[1] / s[0]) ** 2))) for name, s in self._sums.items()}
        total = sum(spread.values())
        return {
            name: CriticStatistics(float(s[1] / s[0]), float(s[3]), float(s[4]), spread[name] / total if total > 0 else 0.0)
            for name, s in self._sums.items()
        }

    def _chosen(
        self,
        candidates: Candidates,
        scores: Scores,
        row: int,
        solver: str,
        seconds: float = 0.0,
        runners_up: tuple[Plan, ...] = (),
        statistics: dict[str, CriticStatistics] | None = None,
    ) -> Plan:
        return Plan(
            actions=candidates.actions[row],
            latents=candidates.latents[row],
            points=candidates.points[row],
            cost=float(scores.cost[row]),
            margin=float(scores.margin[row]),
            candidates=self._imagined,
            iterations=self.iterations,
            seconds=seconds,
            terms={name: float(values[row]) for name, values in scores.terms.items()},
            margins={name: values[row] for name, values in scores.margins.items()},
            statistics=statistics or {},
            solver=solver,
            runners_up=runners_up,
        )
