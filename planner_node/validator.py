"""The last look at a plan before it leaves: the search judged its corners, what is sent has rounded them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from planner_node.guardrails.guardrail import is_timed, sampled
from planner_node.guardrails.keep_out import KeepOutGuardrail
from planner_node.guardrails.zone import Zone
from planner_node.joint_path import JointPathError
from planner_node.plan import Plan, Problem
from planner_node.solvers.search import Imagination
from planner_node.solvers.solver import Deadline, Solver
from planner_node.verdict import Outcome, Verdict

T = TypeVar("T")

# Rounding a corner costs a few millimetres of the clearance that the search kept.
_LEAST_SHARE = 0.5
_ROUNDING_M = 1e-9
# Of a step: how finely the winner is looked at again, and by how much a margin may be missed between two points that the search looked at.
_PIECES = 40
_BETWEEN_M = 1e-3
_SAME_M = 1e-6


class RefusedPlanError(ValueError):
    """A plan that must not be carried out, with the reason in one line."""


def validated(plan: Plan, check: Callable[[Plan], T]) -> tuple[Plan, T | None]:
    """The first of ``plan`` and its runners-up that ``check`` makes something of, with the verdict inside, and what that is.

    ``check`` refuses by raising a ``ValueError``. Where it refuses all, or ``plan`` is infeasible already, it comes back refused, with None. What was
    said before stays: a plan that is a runner-up remains one.
    """
    reason = plan.verdict.reason
    choices = (plan, *plan.runners_up) if plan.feasible else ()
    for number, choice in enumerate(choices):
        try:
            made = check(choice)
        except ValueError as error:
            reason = reason or " ".join(str(error).split())
            continue
        again = number > 0 or plan.verdict.outcome is Outcome.RETRY
        verdict = Verdict(Outcome.RETRY if again else Outcome.SUCCESS, plan.verdict.looked_at + number, reason)
        searched = replace(choice, seconds=plan.seconds, cut=plan.cut, statistics=plan.statistics, runners_up=choices[number + 1 :])
        return replace(searched, verdict=verdict), made
    looked_at = plan.verdict.looked_at + max(0, len(choices) - 1)
    return replace(plan, verdict=Verdict(Outcome.REFUSE, looked_at, reason or "no candidate keeps every margin")), None


@dataclass(frozen=True)
class PlanValidator:
    """Looks at a winner again, by itself and more finely than the search did; it trusts nothing that the search wrote down but the actions."""

    imagination: Imagination

    def check(self, problem: Problem, plan: Plan) -> None:
        """Refuse a plan that the search should not have chosen.

        Raises:
            RefusedPlanError: a number is not finite, an action out of bounds, a point not where the actions lead, or a margin not kept.
        """
        actions, latents = plan.actions, plan.latents
        if not all(np.isfinite(values).all() for values in (actions, latents, plan.points)):
            raise RefusedPlanError("it holds a number that is not finite")
        if actions.shape[1:] != (self.imagination.meaning.action_dim,) or len(latents) != len(actions) or len(plan.points) != len(actions) + 1:
            raise RefusedPlanError(f"its shapes do not belong together: actions {actions.shape}, latents {latents.shape}, points {plan.points.shape}")
        if float(np.abs(actions).max()) > 1.0:
            raise RefusedPlanError(f"an action is {float(np.abs(actions).max()):.3f}, more than 1")
        corners = np.concatenate([problem.tool[None], self.imagination.meaning.advance(plan.points[:-1], actions)])
        strays = np.flatnonzero(np.abs(corners - plan.points).max(1) > _SAME_M)
        if len(strays):
            raise RefusedPlanError(f"its point after step {strays[0]} is not where its actions lead")
        shares = (np.arange(_PIECES) + 1.0)[:, None] / _PIECES
        fine = corners[:-1, None] + np.diff(corners, axis=0)[:, None] * shares
        self._require_margins(problem, plan, fine.reshape(-1, corners.shape[1]), sampled(corners))

    def _require_margins(self, problem: Problem, plan: Plan, fine: NDArray[np.float64], timed: NDArray[np.float64]) -> None:
        objective = self.imagination.objective
        for guardrail in objective.guardrails:
            path = timed if is_timed(guardrail) else fine
            here = min(0.0, float(guardrail.margins(problem.tool[None])[0]))
            least = float(guardrail.margins(path).min()) - here
            if not least >= -_BETWEEN_M:
                raise RefusedPlanError(f"guardrail '{guardrail.name}' is missed by {-1e3 * least:.1f} mm")
        for learned in objective.latent_guardrails:
            here = min(0.0, float(learned.margins(problem.context.latents[:, -1])[0]))
            least = float(learned.margins(plan.latents).min()) - here
            if not least >= -_SAME_M:
                raise RefusedPlanError(f"guardrail '{learned.name}' is missed by {-least:.3g}")


@dataclass(frozen=True)
class ValidatedSolver:
    """A solver with a validator behind it: the plan that comes out was looked at twice, or is refused."""

    solver: Solver
    validator: PlanValidator

    def plan(self, problem: Problem, deadline: Deadline) -> Plan:
        """See ``Solver``. ``Plan.verdict`` says how the second look went."""
        return validated(self.solver.plan(problem, deadline), lambda plan: self.validator.check(problem, plan))[0]

    def check(self, problem: Problem, plan: Plan) -> None:
        """Look at a runner-up as closely as at a winner, before it takes the winner's place.

        Raises:
            RefusedPlanError: see ``PlanValidator.check``.
        """
        self.validator.check(problem, plan)


def require_clear(tools: NDArray[np.float64], zones: Sequence[Zone], clearance_m: float, solids: Sequence[KeepOutGuardrail] = ()) -> None:
    """Refuse tool points ``(T, 3) m`` nearer to a zone than half of ``clearance_m``, or to a solid than half of its own clearance.

    A path that begins nearer may leave, not go deeper.

    Raises:
        JointPathError: it comes too near.
    """
    for zone in zones:
        distance = zone.signed_distance(tools)
        least = float(distance.min())
        if least < min(_LEAST_SHARE * clearance_m, float(distance[0])) - _ROUNDING_M:
            raise JointPathError(f"the tool would come within {1e3 * least:.0f} mm of a zone")
    for solid in solids:
        margins = solid.margins(tools)
        least = float(margins.min())
        if least < min((_LEAST_SHARE - 1.0) * solid.clearance, float(margins[0])) - _ROUNDING_M:
            raise JointPathError(f"the tool would come within {1e3 * (least + solid.clearance):.0f} mm of {solid.name}")
