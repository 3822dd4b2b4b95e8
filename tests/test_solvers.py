"""Solvers on a world whose best plan is known: bounds, seeds, deadlines, warm starts, zones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_world import FLAT, ROOM, LinearWorld, problem

from planner_node.assembly import MODES, PlannerConfig, build_solver
from planner_node.critics.latent_distance import LatentDistanceCritic
from planner_node.guardrails.workspace import WorkspaceGuardrail
from planner_node.guardrails.zone import Zone
from planner_node.objective import Objective
from planner_node.plan import Plan
from planner_node.solvers.actor_rollouts import ActorRolloutsConfig
from planner_node.solvers.cem import Cem, CemConfig
from planner_node.solvers.search import Imagination
from planner_node.solvers.solver import AnytimeSolver, Deadline

PILLAR = Zone((0.5, 0.0), (0.0, 0.0), radius=0.05)
WALL = Zone((0.5, 0.0), (0.01, 0.09), yaw=0.2)
TURNED_OUT = Zone((0.5, 0.03), (0.06, 0.03), yaw=0.7, radius=0.02)
CLEARANCE_M = 0.012
SMALL = PlannerConfig(clearance_m=CLEARANCE_M, solvers={"cem": CemConfig(samples=60, iterations=4, elites=8)})


def unhurried() -> Deadline:
    return Deadline.after(60.0)


def ticking(step_s: float = 1.0) -> Callable[[], float]:
    """A clock that advances each time it is read."""
    ticks = itertools.count()
    return lambda: step_s * next(ticks)


def solve(mode: str, tool: tuple[float, ...], goal: tuple[float, ...], zones: tuple[Zone, ...] = (), world: LinearWorld | None = None, **kw) -> Plan:
    world = world or LinearWorld()
    config = replace(SMALL, mode=mode, seed=kw.pop("seed", 0))
    return build_solver(world, world.tool_step, zones, config).plan(problem(world, tool, goal, **kw), unhurried())


def finely(points: np.ndarray, count: int = 200) -> np.ndarray:
    """A path ``(H+1, 3)`` sampled ``count`` times a step, ends included."""
    shares = np.linspace(0, 1, count)[:, None]
    return np.concatenate([a + (b - a) * shares for a, b in itertools.pairwise(points)])


def assert_consistent(plan: Plan, world: LinearWorld) -> None:
    step = world.tool_step
    assert np.isfinite(plan.actions).all() and np.abs(plan.actions).max() <= 1.0 and plan.actions.dtype == np.float32
    assert np.all(plan.points >= np.array(step.lower) - 1e-9) and np.all(plan.points <= np.array(step.upper) + 1e-9)
    assert plan.points.shape == (len(plan.actions) + 1, 3) and plan.latents.shape == (len(plan.actions), world.latent_dim)
    for before, action, after in zip(plan.points[:-1], plan.actions, plan.points[1:], strict=True):
        assert np.allclose(step.advance(before, action), after)


@given(st.sampled_from(MODES), st.booleans(), st.floats(0.3, 0.9), st.floats(-0.3, 0.3), st.floats(0.3, 0.9), st.floats(-0.3, 0.3), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_bounds_hold_whatever_is_asked(mode, fenced, x, y, gx, gy, seed):
    world = LinearWorld(spread=3.0)
    plan = solve(mode, (x, y), (gx, gy), (WALL,) if fenced else (), world, seed=seed)
    assert_consistent(plan, world)


@pytest.mark.parametrize("mode", MODES)
def test_plans_move_in_three_dimensions(mode):
    world = LinearWorld(ROOM)
    plan = solve(mode, (0.4, 0.0, 0.2), (0.5, 0.1, 0.35), (), world)
    assert_consistent(plan, world)
    assert np.linalg.norm(plan.points[-1] - [0.5, 0.1, 0.35]) < 0.02


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("zones", [(), (WALL,)])
def test_the_same_seed_gives_the_same_plan_at_any_speed(mode, zones):
    """Slow or fast, an injected clock changes nothing as long as the deadline is not reached."""
    plans = []
    for pace in (0.0, 1e-3, 0.5):
        solver = build_solver(LinearWorld(), FLAT, zones, replace(SMALL, mode=mode, seed=3))
        world = LinearWorld()
        plans.append([solver.plan(problem(world, (0.4, 0.02), (0.6, 0.0)), Deadline.after(1e6, ticking(pace))) for _ in range(2)])
    for other in plans[1:]:
        for a, b in zip(plans[0], other, strict=True):
            assert np.array_equal(a.actions, b.actions) and a.cost == b.cost and a.iterations == b.iterations


def test_another_seed_searches_elsewhere():
    assert not np.array_equal(solve("cem", (0.4, 0.0), (0.6, 0.0), seed=1).actions, solve("cem", (0.4, 0.0), (0.6, 0.0), seed=2).actions)


def test_the_deadline_ends_a_cem_search_after_whole_iterations():
    """By this clock each takes 1 s; one that would end too late is not begun."""
    world = LinearWorld()
    for reads, iterations in ((0.5, 1), (1.5, 1), (2.0, 2), (2.9, 2), (3.0, 3), (1e9, 4)):
        solver = build_solver(world, FLAT, [], replace(SMALL, mode="cem"))
        plan = solver.plan(problem(world, (0.4, 0.0), (0.6, 0.0)), Deadline.after(reads, ticking()))
        assert plan.iterations == iterations
        assert plan.candidates == 60 + 52 * (iterations - 1)
        assert_consistent(plan, world)


def test_the_deadline_ends_imagining_along_the_actor_and_candidates_are_judged_as_far_as_they_got():
    world = LinearWorld()
    for reads, steps in ((0.5, 1), (2.5, 3), (1e9, 16)):
        solver = build_solver(world, FLAT, [WALL], replace(SMALL, solvers={"actor_rollouts": ActorRolloutsConfig(fenced_horizon=16)}))
        plan = solver.plan(problem(world, (0.4, 0.0), (0.6, 0.0)), Deadline.after(reads, ticking()))
        assert plan.iterations == len(plan.actions) == steps
        assert_consistent(plan, world)


def test_a_deadline_counts_from_when_it_was_made():
    clock = ticking()
    deadline = Deadline.after(3.0, clock)
    assert [deadline.passed() for _ in range(4)] == [False, False, True, True]
    assert Deadline.after(3.0, lambda: 7.0).elapsed() == 0.0


def test_no_search_looks_beyond_the_end_of_the_task():
    for mode in MODES:
        for steps_left, horizon in ((1.0, 1), (2.5, 3), (4.0, 4)):
            assert len(solve(mode, (0.4, 0.0), (0.6, 0.0), steps_left=steps_left).actions) == horizon


# What is not feasible or not finite.


@pytest.mark.parametrize("mode", ["planner", "cem"])
@pytest.mark.parametrize("zone", [WALL, PILLAR, TURNED_OUT])
def test_no_commanded_point_comes_closer_to_a_zone_than_its_clearance(mode, zone):
    """Along the whole planned path, checked 25 times as finely as the guardrail does. Its own grid may miss by half a sample on a curve's chord."""
    for seed, (start, goal) in enumerate([((0.4, 0.0), (0.62, 0.01)), ((0.42, 0.1), (0.58, -0.1)), ((0.6, -0.02), (0.4, 0.03))]):
        plan = solve(mode, start, goal, (zone,), seed=seed)
        assert plan.feasible
        assert zone.signed_distance(finely(plan.points)).min() > CLEARANCE_M - 3e-4
        assert_consistent(plan, LinearWorld())


@pytest.mark.parametrize("zone", [WALL, PILLAR])
def test_replanning_leads_round_a_zone_to_the_goal(zone):
    world = LinearWorld()
    solver = build_solver(world, FLAT, [zone], replace(SMALL, mode="planner"))
    tool, goal, previous = np.array([0.4, 0.0, 0.02]), (0.62, 0.0), None
    for step in range(24):
        plan = solver.plan(replace(problem(world, tuple(tool[:2]), goal, 24.0 - step), previous=previous), unhurried())
        assert plan.feasible
        assert zone.signed_distance(finely(plan.points[:2])).min() > CLEARANCE_M - 3e-4
        tool, previous = plan.points[1], plan.actions[1:]
    assert np.linalg.norm(tool[:2] - goal) < 0.02


@pytest.mark.parametrize("mode", ["planner", "cem"])
def test_a_tool_inside_a_zone_is_led_out_or_held(mode):
    start = (0.47, 0.0)
    plan = solve(mode, start, (0.62, 0.0), (PILLAR,))
    depth = PILLAR.signed_distance(finely(plan.points))
    assert plan.feasible and depth.min() > float(PILLAR.signed_distance(np.array(start))) - 1e-6


def test_a_feasible_plan_is_taken_however_much_dearer_it_is():
    """The goal lies inside the zone: every cheaper end is infeasible."""
    plan = solve("cem", (0.4, 0.0), (0.5, 0.0), (PILLAR,))
    assert plan.feasible and PILLAR.signed_distance(finely(plan.points)).min() > CLEARANCE_M - 3e-4


@pytest.mark.parametrize("mode", ["planner", "cem"])
def test_imagined_futures_that_are_not_finite_are_never_chosen(mode):
    """The actor's own future breaks the model, and so does whatever is fast; a slower plan is taken."""
    world = LinearWorld(broken=0.4, spread=0.5)
    assert not solve("actor", (0.4, 0.0), (0.424, 0.0), (), world).feasible
    plan = solve(mode, (0.4, 0.0), (0.424, 0.0), (), world)
    assert plan.feasible and np.isfinite(plan.latents).all() and np.isfinite(plan.cost)
    assert plan.actions[:, 0].max() <= 0.4


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_says_nothing_finite_gives_no_feasible_plan(mode):
    plan = solve(mode, (0.4, 0.0), (0.6, 0.1), (), LinearWorld(broken=-np.inf))
    assert not plan.feasible


@pytest.mark.parametrize("mode", MODES)
def test_a_tool_point_that_is_not_finite_gives_no_feasible_plan(mode):
    world = LinearWorld()
    asked = replace(problem(world, (0.4, 0.0), (0.6, 0.0)), tool=np.array([np.nan, 0.0, 0.02]))
    assert not build_solver(world, FLAT, [WALL], replace(SMALL, mode=mode)).plan(asked, unhurried()).feasible


# The actor's own future.


def test_the_actor_s_own_future_is_a_candidate_and_wins_when_it_is_best():
    plan = solve("planner", (0.4, 0.0), (0.6, 0.0))
    alone = solve("actor", (0.4, 0.0), (0.6, 0.0))
    assert np.array_equal(plan.actions, alone.actions)
    assert alone.candidates == 1 and plan.candidates == 24


def test_without_zones_the_planner_is_never_worse_than_the_actor_in_its_own_eyes():
    for seed in range(10):
        world = LinearWorld(bias=1.2, spread=0.8)
        config = replace(SMALL, seed=seed, solvers={"actor_rollouts": ActorRolloutsConfig(horizon=4)})
        asked = problem(world, (0.4, 0.1), (0.6, 0.0))
        best = build_solver(world, FLAT, [], config).plan(asked, unhurried())
        actor = build_solver(world, FLAT, [], replace(config, solvers={"actor_rollouts": ActorRolloutsConfig(samples=0, horizon=4)})).plan(
            asked, unhurried()
        )
        assert best.cost <= actor.cost


def test_a_misled_actor_is_put_right_by_the_search():
    """The actor heads 70 degrees to the side; a sampled first action that leads nearer wins."""
    world = LinearWorld(bias=1.2, spread=0.8)
    config = replace(
        SMALL,
        critics={"temporal_distance": 1.0, "actor_prior": 0.1},
        solvers={"actor_rollouts": {"samples": 60, "horizon": 2}, "actor": {"horizon": 2}},
    )
    asked = problem(world, (0.4, 0.0), (0.6, 0.0))
    plan = build_solver(world, FLAT, [], config).plan(asked, unhurried())
    actor = build_solver(world, FLAT, [], replace(config, mode="actor")).plan(asked, unhurried())
    assert plan.terms["temporal_distance"] < actor.terms["temporal_distance"] - 0.3


def test_with_zones_the_actor_is_only_given_up_for_a_gain():
    far_zone = Zone((0.85, 0.28), (0.01, 0.01))
    kept = solve("planner", (0.4, 0.0), (0.6, 0.0), (far_zone,))
    alone = solve("actor", (0.4, 0.0), (0.6, 0.0)).actions
    assert np.array_equal(kept.actions[: len(alone)], alone) and len(kept.actions) == 20
    assert kept.candidates == 24 + 32 + 16


def test_what_is_left_of_the_last_plan_is_among_the_candidates():
    """A detour that no candidate of this poor search would find is kept because it is there already."""
    world = LinearWorld(spread=0.2)
    wall = Zone((0.5, 0.0), (0.01, 0.2))
    config = replace(
        SMALL,
        critics={"temporal_distance": 1.0},
        solvers={"actor_rollouts": ActorRolloutsConfig(samples=0, fenced_horizon=16, directions=1, held=1, rounding=0)},
    )
    detour = np.array([[0.0, 1.0]] * 6 + [[1.0, 0.0]] * 5 + [[0.0, -1.0]], dtype=np.float32)
    start = problem(world, (0.44, 0.0), (0.6, 0.0))
    without = build_solver(world, FLAT, [wall], config).plan(start, unhurried())
    warm = build_solver(world, FLAT, [wall], config).plan(replace(start, previous=detour), unhurried())
    assert warm.candidates == without.candidates + 1
    assert warm.feasible and np.allclose(warm.actions[:6], detour[:6], atol=1e-6) and warm.cost < without.cost - 1


@pytest.mark.parametrize(("goal_x", "steps_left", "told"), [(0.8, 20.0, 6.0), (0.8, 4.0, 4.0), (0.4, 20.0, 1.0)])
def test_the_actor_is_hurried_by_the_critic_but_never_given_more_than_is_left(goal_x, steps_left, told):
    """Ten, ten and no steps away, at half the critic's count and one."""
    world = LinearWorld()
    asked = problem(world, (0.4, 0.0), (goal_x, 0.0), steps_left)
    build_solver(world, FLAT, [], replace(SMALL, mode="actor", pace=0.5)).plan(asked, unhurried())
    assert world.told[0] == pytest.approx(told, rel=1e-4)
    assert all(np.all(steps <= steps_left - step) for step, steps in enumerate(world.told[: int(steps_left)]))


def test_a_pace_without_steps_is_refused():
    with pytest.raises(ValueError, match="pace is 0"):
        build_solver(LinearWorld(), FLAT, [], replace(SMALL, pace=0))


# CEM.


def quadratic_cem(world: LinearWorld, config: CemConfig, seed: int = 0) -> AnytimeSolver:
    objective = Objective([LatentDistanceCritic(weight=1e4)], [WorkspaceGuardrail(world.tool_step)])
    return AnytimeSolver("cem", Cem(config, np.random.default_rng(seed)), Imagination(world, world.tool_step, objective))


@pytest.mark.parametrize(
    ("world", "tool", "goal"), [(LinearWorld(), (0.45, 0.0), (0.5, 0.08)), (LinearWorld(ROOM), (0.5, 0.0, 0.2), (0.44, 0.05, 0.3))]
)
def test_cem_finds_the_optimum_of_a_linear_world(world, tool, goal):
    """Four steps can reach the goal exactly: the least cost is 0."""
    plan = quadratic_cem(world, CemConfig(samples=200, iterations=12, elites=20, horizon=4)).plan(problem(world, tool, goal), unhurried())
    assert np.linalg.norm(plan.latents[-1] - goal) < 2e-3
    assert plan.cost < 0.05


def test_cem_finds_the_optimum_on_the_edge_of_what_actions_can_do():
    """The goal is out of reach: the best is full speed in both axes."""
    plan = quadratic_cem(LinearWorld(), CemConfig(samples=200, iterations=12, elites=20, horizon=3)).plan(
        problem(LinearWorld(), (0.4, 0.0), (0.8, 0.28)), unhurried()
    )
    assert plan.actions.min() > 0.97


def test_more_iterations_are_never_worse():
    """The elites stay among the candidates."""
    costs = [
        quadratic_cem(LinearWorld(), CemConfig(iterations=n)).plan(problem(LinearWorld(), (0.4, 0.0), (0.55, 0.1)), unhurried()).cost
        for n in (1, 2, 4, 8)
    ]
    assert all(after <= before for before, after in itertools.pairwise(costs)) and costs[-1] < costs[0]


def test_a_warm_start_is_a_candidate_as_it_is():
    """With one iteration and hardly any noise, the best of the last plan can only be found because it was handed over."""
    world = LinearWorld()
    best = np.array([[1.0, 0.5]] * 4, dtype=np.float32)
    goal = (0.4 + 0.16, 0.08)
    config = CemConfig(samples=3, iterations=1, elites=1, horizon=4, std=1e-3)
    cold = quadratic_cem(world, config).plan(problem(world, (0.4, 0.0), goal), unhurried())
    warm = quadratic_cem(world, config).plan(problem(world, (0.4, 0.0), goal, previous=best), unhurried())
    assert warm.cost < 1e-2 < cold.cost
    short = quadratic_cem(world, config).plan(problem(world, (0.4, 0.0), goal, previous=best[:2]), unhurried())
    assert warm.cost < short.cost < cold.cost
    empty = quadratic_cem(world, config).plan(problem(world, (0.4, 0.0), goal, previous=best[:0]), unhurried())
    assert np.array_equal(empty.actions, cold.actions)


def test_standing_still_is_always_a_candidate():
    world = LinearWorld()
    plan = quadratic_cem(world, CemConfig(samples=10, iterations=1, elites=2)).plan(problem(world, (0.4, 0.0), (0.4, 0.0)), unhurried())
    assert np.array_equal(plan.actions, np.zeros_like(plan.actions))


@pytest.mark.parametrize("bad", [{"elites": 0}, {"elites": 60, "samples": 60}, {"iterations": 0}, {"horizon": 0}])
def test_a_cem_that_cannot_search_is_refused(bad):
    with pytest.raises(ValueError, match="CEM needs"):
        quadratic_cem(LinearWorld(), CemConfig(**bad))
