"""The second look: success, the next candidate, or refusal, as data; and what the validator sees that a search may miss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from linear_world import FLAT, LinearWorld, problem

from planner_node.assembly import PlannerConfig, build_solver
from planner_node.guardrails.zone import Zone, ZoneGuardrail
from planner_node.objective import Objective
from planner_node.plan import Candidates, Plan
from planner_node.solvers.search import Imagination
from planner_node.solvers.solver import Deadline
from planner_node.validator import PlanValidator, RefusedPlanError, ValidatedSolver, validated
from planner_node.verdict import Outcome, Verdict

WORLD = LinearWorld()
ASKED = problem(WORLD, (0.4, 0.0), (0.6, 0.0))
PILLAR = Zone((0.5, 0.0), (0.0, 0.0), radius=0.03)


def searched(zones: tuple[Zone, ...] = ()) -> Plan:
    solver = build_solver(WORLD, FLAT, zones, PlannerConfig("cem", solvers={"cem": {"samples": 40, "elites": 5}}))
    return solver.plan(ASKED, Deadline.after(60.0))


def refuse(first: int):
    """A check that refuses the first so many candidates, and makes the cost of the next."""
    seen: list[Plan] = []

    def check(plan: Plan) -> float:
        seen.append(plan)
        if len(seen) <= first:
            raise ValueError(f"candidate {len(seen)}\nis no good")
        return plan.cost

    return check


def test_a_winner_that_passes_is_a_success():
    plan = searched()
    passed, made = validated(plan, refuse(0))
    assert passed.verdict == Verdict(Outcome.SUCCESS, 1, "") and passed.feasible
    assert made == plan.cost and np.array_equal(passed.actions, plan.actions) and passed.runners_up == plan.runners_up


def test_the_next_candidate_is_tried_and_the_reason_kept():
    plan = searched()
    assert len(plan.runners_up) >= 3
    passed, made = validated(plan, refuse(2))
    assert passed.verdict == Verdict(Outcome.RETRY, 3, "candidate 1 is no good") and passed.feasible
    assert np.array_equal(passed.actions, plan.runners_up[1].actions) and made == plan.runners_up[1].cost
    assert passed.runners_up == plan.runners_up[2:]
    assert passed.statistics == plan.statistics and passed.seconds == plan.seconds and passed.candidates == plan.candidates


def test_where_none_passes_the_plan_is_refused_and_not_feasible():
    plan = searched()
    passed, made = validated(plan, refuse(99))
    assert made is None and not passed.feasible
    assert passed.verdict == Verdict(Outcome.REFUSE, 1 + len(plan.runners_up), "candidate 1 is no good")
    assert passed.values()["validation"] == "refuse"


def test_an_infeasible_plan_is_refused_without_a_look():
    asked: list[Plan] = []
    passed, made = validated(replace(searched(), margin=-0.1), asked.append)
    assert passed.verdict.outcome is Outcome.REFUSE and made is None and asked == []
    assert passed.verdict.reason == "no candidate keeps every margin"


def test_two_validators_one_after_the_other_keep_what_the_first_said():
    """As in the node: the search's own, then the joints' way."""
    first, _ = validated(searched(), refuse(1))
    second, _ = validated(first, refuse(0))
    assert second.verdict.outcome is Outcome.RETRY and second.verdict.looked_at == 2 and second.verdict.reason == "candidate 1 is no good"
    third, _ = validated(first, refuse(1))
    assert third.verdict.outcome is Outcome.RETRY and third.verdict.looked_at == 3
    last, _ = validated(first, refuse(99))
    assert last.verdict.outcome is Outcome.REFUSE


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda plan: replace(plan, actions=plan.actions * np.float32(np.nan)), "not finite"),
        (lambda plan: replace(plan, latents=plan.latents + np.float32(np.inf)), "not finite"),
        (lambda plan: replace(plan, actions=plan.actions + np.float32(1.5)), "an action is .*, more than 1"),
        (lambda plan: replace(plan, points=plan.points + np.array([0.0, 1e-3, 0.0])), "its point after step 0 is not where its actions lead"),
        (lambda plan: replace(plan, points=plan.points + np.where(np.arange(9) == 3, 1e-4, 0.0)[:, None]), "its point after step 3 is not where"),
        (lambda plan: replace(plan, points=plan.points[:-1]), "its shapes do not belong together"),
        (lambda plan: replace(plan, latents=plan.latents[:-1]), "its shapes do not belong together"),
    ],
)
def test_what_does_not_add_up_is_refused(spoil, said):
    validator = PlanValidator(Imagination(WORLD, FLAT, Objective([], [])))
    validator.check(ASKED, searched())
    with pytest.raises(RefusedPlanError, match=said):
        validator.check(ASKED, spoil(searched()))


def test_margins_are_looked_at_again_and_more_finely():
    """A plan through a pillar that the search was not told of."""
    imagination = Imagination(WORLD, FLAT, Objective([], [ZoneGuardrail(PILLAR, 0.0)]))
    actions = np.array([[1.0, 0.0]] * 5, np.float32)
    candidates = Imagination(WORLD, FLAT, Objective([], [])).imagine(ASKED, actions[None])
    plan = Plan(actions, candidates.latents[0], candidates.points[0], 0.0, 0.0, 1, 1, 0.0)
    with pytest.raises(RefusedPlanError, match=r"guardrail 'zone' is missed by 30.0 mm"):
        PlanValidator(imagination).check(ASKED, plan)
    PlanValidator(Imagination(WORLD, FLAT, Objective([], []))).check(ASKED, plan)


def test_a_thin_wall_between_the_points_that_a_search_looks_at_is_seen():
    """0.6 mm thick: eight looks a step, 5 mm apart, pass it by."""
    thin = ZoneGuardrail(Zone((0.4125, 0.0), (0.0003, 0.1)), 0.0015)
    objective = Objective([], [thin])
    imagination = Imagination(WORLD, FLAT, objective)
    candidates = imagination.imagine(ASKED, np.array([[[1.0, 0.0]]], np.float32))
    scores = objective.score(ASKED, candidates)
    assert scores.margin[0] > 0, "the search does not see it"
    plan = Plan(candidates.actions[0], candidates.latents[0], candidates.points[0], 0.0, float(scores.margin[0]), 1, 1, 0.0)
    with pytest.raises(RefusedPlanError, match="guardrail 'zone' is missed"):
        PlanValidator(imagination).check(ASKED, plan)


def test_a_learned_margin_is_looked_at_again():
    class East:
        name = "east"

        def margins(self, latents: np.ndarray) -> np.ndarray:
            return 0.45 - latents[..., 0]

    plan = searched()
    assert plan.latents[:, 0].max() > 0.45
    with pytest.raises(RefusedPlanError, match="guardrail 'east' is missed by"):
        PlanValidator(Imagination(WORLD, FLAT, Objective([], [], [East()]))).check(ASKED, plan)


def test_a_solver_s_plan_comes_out_looked_at():
    """A solver whose winner lies: its next candidate is taken."""

    class Liar:
        def plan(self, asked, deadline):
            honest = searched((PILLAR,))
            through = np.array([[1.0, 0.0]] * 8, np.float32)
            ahead: Candidates = imagination.imagine(asked, through[None])
            return replace(honest, actions=through, latents=ahead.latents[0], points=ahead.points[0], runners_up=(honest,))

    imagination = Imagination(WORLD, FLAT, Objective([], [ZoneGuardrail(PILLAR, 0.012)]))
    plan = ValidatedSolver(Liar(), PlanValidator(imagination)).plan(ASKED, Deadline.after(60.0))
    assert plan.verdict.outcome is Outcome.RETRY and "zone" in plan.verdict.reason
    assert np.array_equal(plan.actions, searched((PILLAR,)).actions)
