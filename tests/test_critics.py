"""Critics, and the objective that sums them: feasible beats infeasible, and what is not finite is never chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_world import FLAT, LinearWorld, problem

from planner_node.assembly import MODES, PlannerConfig, build_solver
from planner_node.critics.actor_prior import ActorPriorCritic
from planner_node.critics.effort import EffortCritic
from planner_node.critics.goal_cost import GoalCostCritic
from planner_node.critics.latent_distance import LatentDistanceCritic
from planner_node.critics.smoothness import SmoothnessCritic
from planner_node.critics.temporal_distance import TemporalDistanceCritic
from planner_node.critics.terminal_value import TerminalValueCritic
from planner_node.critics.unfamiliarity import UnfamiliarityCritic
from planner_node.guardrails.workspace import WorkspaceGuardrail
from planner_node.guardrails.zone import Zone, ZoneGuardrail
from planner_node.objective import Objective
from planner_node.plan import Candidates, Plan, Problem, Scores
from planner_node.solvers.registry import UnknownSolverError
from planner_node.solvers.search import Imagination
from planner_node.solvers.solver import Deadline
from world_model.protocol import Context

WORLD = LinearWorld()
PILLAR = ZoneGuardrail(Zone((0.5, 0.0), (0.0, 0.0), radius=0.05), clearance=0.01)


def candidates(actions: list, start: Problem | None = None) -> Candidates:
    return Imagination(WORLD, FLAT, Objective([], [])).imagine(start or HERE, np.array(actions, dtype=np.float32))


HERE = problem(WORLD, (0.4, 0.0), (0.6, 0.0))
STRAIGHT, BACK, STAY = [[1.0, 0.0]] * 3, [[-1.0, 0.0]] * 3, [[0.0, 0.0]] * 3


def test_the_temporal_distance_is_that_of_the_end_and_if_asked_of_the_way():
    ahead = candidates([STRAIGHT, BACK, STAY])
    assert np.allclose(TemporalDistanceCritic(WORLD).cost(HERE, ahead), [2, 7.5, 5], atol=1e-4)  # backwards the workspace ends after 2.5 steps
    along = TemporalDistanceCritic(WORLD, along=0.5).cost(HERE, ahead)
    assert along[0] == pytest.approx(2 + 0.5 * (4 + 3 + 2) / 3, abs=1e-4)


def test_the_latent_distance_is_squared_and_mean_over_dimensions():
    assert LatentDistanceCritic().cost(HERE, candidates([STAY]))[0] == pytest.approx(0.2**2 / 2, rel=1e-4)


def test_effort_is_the_mean_square_of_all_actions():
    assert np.allclose(EffortCritic().cost(HERE, candidates([STRAIGHT, STAY, [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]])), [0.5, 0.0, 1 / 3])


def test_the_latent_distance_may_count_every_step():
    """At 0.16, 0.12 and 0.08 m from the goal, squared and halved for two dimensions."""
    ahead, every = candidates([STRAIGHT]), np.array([0.16, 0.12, 0.08]) ** 2 / 2
    assert LatentDistanceCritic(over="summed").cost(HERE, ahead)[0] == pytest.approx(every.sum(), rel=1e-4)
    assert LatentDistanceCritic(over="weighted", growth=1.0).cost(HERE, ahead)[0] == pytest.approx(every.mean(), rel=1e-4)
    assert LatentDistanceCritic(over="weighted", growth=3.0).cost(HERE, ahead)[0] == pytest.approx((every @ [1, 3, 9]) / 13, rel=1e-4)
    assert LatentDistanceCritic(over="weighted", growth=1e9).cost(HERE, ahead)[0] == pytest.approx(every[-1], rel=1e-4)


def test_a_terminal_value_is_what_steps_cost_when_each_counts_less_than_the_one_before():
    """Two whole steps from the goal, 1 + 0.9; far away it levels off at ten."""
    critic = TerminalValueCritic(WORLD, discount=0.9)
    assert critic.cost(HERE, candidates([STRAIGHT]))[0] == pytest.approx(1.9, rel=1e-3)
    far = Candidates(np.zeros((1, 1, 2), np.float32), np.full((1, 1, 2), 1e3, np.float32), np.zeros((1, 2, 3)))
    assert critic.cost(HERE, far)[0] == pytest.approx(10.0)


def test_smoothness_counts_changes_from_the_action_before():
    started = replace(HERE, context=Context(HERE.context.latents, np.array([[[0.0, 0.0], [1.0, 0.0]]], np.float32)))
    ahead = candidates([STRAIGHT, BACK, [[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]])
    assert np.allclose(SmoothnessCritic().cost(started, ahead), [0.0, 4 / 6, 2 / 6])
    assert SmoothnessCritic().cost(HERE, ahead)[0] == pytest.approx(1 / 6), "from rest"
    alone = replace(HERE, context=Context(HERE.context.latents[:, -1:], np.zeros((1, 0, 2), np.float32)))
    assert SmoothnessCritic().cost(alone, ahead)[0] == pytest.approx(1 / 6), "a model without past actions"


def test_a_goal_cost_head_judges_the_end_and_if_asked_the_way():
    class Head:
        name = "eastward"

        def values(self, latents: np.ndarray) -> np.ndarray:
            return 10 * latents[:, :1]

    ahead = candidates([STRAIGHT, STAY])
    assert np.allclose(GoalCostCritic(Head()).cost(HERE, ahead), [5.2, 4.0], atol=1e-4)
    assert GoalCostCritic(Head(), along=2.0).cost(HERE, ahead)[0] == pytest.approx(5.2 + 2 * 4.8, abs=1e-4)


def test_what_lies_beyond_the_data_is_unfamiliar():
    """Length squared per dimension 1, 4, 9; half a unit is free."""
    latents = np.array([[[1.0, 1.0], [2.0, 2.0], [3.0, -3.0]], [[0.1, 0.0], [1.0, -1.0], [1.2, 1.2]]], np.float32)
    ahead = Candidates(np.zeros((2, 3, 2), np.float32), latents, np.zeros((2, 4, 3)))
    assert np.allclose(UnfamiliarityCritic(room=0.5).cost(HERE, ahead), [(2.5 + 7.5) / 3, 0.0])


def test_guardrails_that_do_not_know_rank_last():
    class Silent:
        name = "silent"

        def margins(self, path: np.ndarray) -> np.ndarray:
            return np.where(path[..., 0] > 0.45, np.nan, 1.0)

    scores = Objective([], [Silent()]).score(HERE, candidates([STRAIGHT, STAY]))
    assert scores.margin[0] == -np.inf and scores.margin[1] == 1.0


def test_guardrails_of_one_name_are_told_apart():
    scores = Objective([], [PILLAR, PILLAR, WorkspaceGuardrail(FLAT)]).score(HERE, candidates([STRAIGHT, STAY]))
    assert list(scores.margins) == ["zone", "zone_2", "workspace"]
    assert scores.margins["zone"].shape == (2, 3) and np.array_equal(scores.margins["zone"], scores.margins["zone_2"])
    assert scores.margins["zone"][0] == pytest.approx([0.0, -0.04, -0.06], abs=1e-6), "at 0.44, 0.48 and beyond the middle"


def test_the_actor_prior_judges_the_first_action_only_and_up_to_a_ceiling():
    critic = ActorPriorCritic(WORLD, ceiling=6.0)
    first_same = candidates([STRAIGHT, [[1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]], BACK])
    cost = critic.cost(HERE, first_same)
    assert cost[0] == cost[1] == pytest.approx(2 * np.log(0.3), rel=1e-5)
    assert cost[2] == 6.0


class Counting:
    """An objective's critic for tests: a given cost for each candidate."""

    def __init__(self, name: str, weight: float, costs: list[float]) -> None:
        self.name, self.weight, self.costs = name, weight, np.array(costs)

    def cost(self, problem: Problem, candidates: Candidates) -> np.ndarray:
        return self.costs


def test_the_cost_is_the_weighted_sum_and_its_terms_are_told():
    scores = Objective([Counting("a", 2.0, [1, 2]), Counting("b", -1.0, [0.5, 0])], []).score(HERE, candidates([STRAIGHT, STAY]))
    assert np.allclose(scores.cost, [1.5, 4.0])
    assert np.allclose(scores.terms["a"], [2, 4]) and np.allclose(scores.terms["b"], [-0.5, 0])
    assert np.all(scores.margin == np.inf)


def test_an_objective_without_critics_costs_nothing():
    assert np.array_equal(Objective([], []).score(HERE, candidates([STRAIGHT, STAY])).cost, [0.0, 0.0])


def test_the_margin_is_the_smallest_along_the_path_of_every_guardrail():
    objective = Objective([], [WorkspaceGuardrail(FLAT), PILLAR])
    margin = objective.score(HERE, candidates([STRAIGHT, STAY, BACK])).margin
    assert margin[0] == pytest.approx(-0.06, abs=1e-6), "through the middle of the pillar, between two steps"
    assert margin[1] == pytest.approx(0.04, abs=1e-6)
    assert margin[2] == pytest.approx(0.0, abs=1e-5), "at the edge of the workspace"


def test_a_tool_that_stands_too_close_may_leave_or_stay_but_not_go_deeper():
    close = problem(WORLD, (0.46, 0.0), (0.6, 0.0))
    scores = Objective([], [PILLAR]).score(close, candidates([BACK, STAY, STRAIGHT], close))
    assert scores.margin[0] >= 0 and scores.margin[1] >= 0 and scores.margin[2] < 0


def test_feasible_beats_infeasible_whatever_the_cost():
    scores = Scores(np.array([-1e9, 5.0, 3.0, -2e9]), np.array([-0.001, 0.0, 0.02, -0.5]), {})
    assert scores.ranking().tolist() == [2, 1, 0, 3], "then the cheapest; among the infeasible the least violation"


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1.0, 1.0)), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_ranking_is_feasible_by_cost_then_infeasible_by_violation(pairs):
    """Beside plain sorting by hand."""
    cost, margin = np.array(pairs).T
    order = Scores(cost, margin, {}).ranking().tolist()
    safe = [row for row in range(len(pairs)) if margin[row] >= 0]
    unsafe = [row for row in range(len(pairs)) if margin[row] < 0]
    assert sorted(order) == list(range(len(pairs)))
    assert [cost[row] for row in order[: len(safe)]] == sorted(cost[row] for row in safe)
    assert [margin[row] for row in order[len(safe) :]] == sorted((margin[row] for row in unsafe), reverse=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["cost", "latents", "points", "actions"])
def test_what_is_not_finite_ranks_last_and_is_infeasible(value, where):
    whole = candidates([STAY, STAY, BACK])
    spoiled = {name: getattr(whole, name).copy() for name in ("actions", "latents", "points")}
    costs = [0.0, 1.0, 2.0]
    if where == "cost":
        costs[0] = value
    else:
        spoiled[where][0, -1, 0] = value
    scores = Objective([Counting("given", 1.0, costs)], [WorkspaceGuardrail(FLAT), PILLAR]).score(HERE, Candidates(**spoiled))
    assert scores.ranking().tolist() == [1, 2, 0]
    assert scores.margin[0] == -np.inf and scores.cost[0] == np.inf
    assert np.isfinite(scores.cost[1:]).all()


def test_taken_and_joined_scores_keep_rows_together():
    scores = Scores(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]), {"a": np.array([4.0, 5.0, 6.0])})
    both = scores.taken(np.array([2, 0])).joined(scores.taken(np.array([1])))
    assert both.cost.tolist() == [3, 1, 2] and both.margin.tolist() == [0.3, 0.1, 0.2] and both.terms["a"].tolist() == [6, 4, 5]
    rows = candidates([STRAIGHT, STAY]).taken(np.array([1])).joined(candidates([BACK]))
    assert rows.actions.shape == (2, 3, 2) and np.array_equal(rows.actions[1], np.array(BACK, np.float32)) and rows.points.shape == (2, 4, 3)


@pytest.mark.parametrize(("margin", "feasible"), [(0.0, True), (-1e-9, False), (np.nan, False), (-np.inf, False), (np.inf, True)])
def test_a_plan_is_feasible_when_its_margin_is_not_negative(margin, feasible):
    plan = Plan(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), np.zeros((2, 3)), 0.0, margin, 1, 1, 0.0)
    assert plan.feasible is feasible


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_plans(mode):
    plan = build_solver(WORLD, FLAT, [], PlannerConfig(mode=mode)).plan(HERE, Deadline.after(60.0))
    assert plan.feasible and plan.actions[0, 0] > 0.5


def test_an_unknown_mode_lists_those_that_exist():
    with pytest.raises(UnknownSolverError, match="unknown solver 'fly'; there are actor_rollouts, actor, cem"):
        build_solver(WORLD, FLAT, [], PlannerConfig(mode="fly"))
