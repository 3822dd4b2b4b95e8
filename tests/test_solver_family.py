"""What every solver keeps, whichever it is: bounds, seeds, batches, deadlines, feasible before cost, never worse than the best candidate seen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_world import FLAT, DescendableWorld, problem

from planner_node.assembly import PlannerConfig, build_solver
from planner_node.guardrails.zone import Zone
from planner_node.plan import Candidates, Plan, Problem, Scores
from planner_node.solvers.registry import SOLVERS, Parts, configured
from planner_node.solvers.search import Imagination, Search
from planner_node.solvers.solver import AnytimeSolver, Deadline
from planner_node.validator import ValidatedSolver
from planner_node.verdict import Outcome

ALL = tuple(SOLVERS)
SEARCHES = tuple(name for name in SOLVERS if name != "actor")
# They search around a mean, at a fixed horizon, with a cost of their own choice.
FREE = ("cem", "icem", "mppi", "predictive_sampling", "gradient")
SMALL = {
    "actor_rollouts": {"samples": 15, "horizon": 6, "fenced_horizon": 6, "directions": 24},
    "actor": {"horizon": 6},
    "cem": {"samples": 60, "iterations": 4, "elites": 8, "horizon": 6},
    "icem": {"samples": 60, "iterations": 4, "elites": 8, "horizon": 6},
    "mppi": {"samples": 60, "iterations": 5, "horizon": 6},
    "predictive_sampling": {"samples": 60, "iterations": 5, "horizon": 6},
    "gradient": {"starts": 6, "iterations": 30, "horizon": 6},
    "mixture": {"members": ["actor_rollouts", "icem", "gradient"], "horizon": 6},
}
PILLAR = Zone((0.5, 0.0), (0.0, 0.0), radius=0.05)
QUADRATIC = {"latent_distance": {"weight": 1e4}}
START, GOAL = (0.4, 0.02), (0.58, -0.05)


def config(name: str, **changes: object) -> PlannerConfig:
    return PlannerConfig(mode=name, solvers=SMALL, **changes)


def unhurried() -> Deadline:
    return Deadline.after(1e9, lambda: 0.0)


def ticking(step_s: float = 1.0) -> Callable[[], float]:
    ticks = itertools.count()
    return lambda: step_s * next(ticks)


@dataclass
class Witness:
    """Stands between a solver and its objective, and writes down everything that is judged."""

    objective: object
    seen: list[tuple[Candidates, Scores]] = field(default_factory=list)

    def score(self, asked: Problem, candidates: Candidates) -> Scores:
        scores = self.objective.score(asked, candidates)
        self.seen.append((candidates, scores))
        return scores

    def slope(self, asked: Problem, candidates: Candidates):
        return self.objective.slope(asked, candidates)


def witnessed(name: str, zones: tuple[Zone, ...] = (), **changes: object) -> tuple[AnytimeSolver, Witness]:
    whole = build_solver(DescendableWorld(), FLAT, zones, config(name, **changes))
    assert isinstance(whole, ValidatedSolver) and isinstance(whole.solver, AnytimeSolver)
    witness = Witness(whole.solver.imagination.objective)
    return replace(whole.solver, imagination=replace(whole.solver.imagination, objective=witness)), witness


def solve(name: str, start: tuple[float, ...] = START, goal: tuple[float, ...] = GOAL, zones: tuple[Zone, ...] = (), **changes: object) -> Plan:
    world = DescendableWorld()
    return build_solver(world, FLAT, zones, config(name, **changes)).plan(problem(world, start, goal), unhurried())


@given(st.sampled_from(ALL), st.booleans(), st.floats(0.3, 0.9), st.floats(-0.3, 0.3), st.floats(0.3, 0.9), st.floats(-0.3, 0.3), st.floats(1.0, 9.0))
@settings(max_examples=60, deadline=None)
def test_bounds_and_workspace_hold_whatever_is_asked(name, fenced, x, y, gx, gy, steps_left):
    world = DescendableWorld(spread=3.0)
    solver = build_solver(world, FLAT, (PILLAR,) if fenced else (), config(name, seed=3))
    previous = np.full((3, 2), 1.0, np.float32)
    plan = solver.plan(problem(world, (x, y), (gx, gy), steps_left, previous), unhurried())
    assert plan.actions.dtype == np.float32 and np.isfinite(plan.actions).all() and np.abs(plan.actions).max() <= 1.0
    assert len(plan.actions) == min(6, int(np.ceil(steps_left)))
    point = np.array([x, y, 0.02])
    for action, after in zip(plan.actions, plan.points[1:], strict=True):
        point = np.clip(point + np.append(0.04 * action, 0.0), FLAT.lower, FLAT.upper)
        assert np.allclose(point, after, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("zones", [(), (PILLAR,)])
def test_neither_clock_nor_batch_changes_a_plan_and_the_seed_alone_does(name, zones):
    """Two decisions each, the second warm: what a solver carries over is part of it."""
    world = DescendableWorld(spread=0.8, bias=0.4)

    def twice(batch: int, seed: int, clock: Callable[[], float]) -> list[Plan]:
        solver = build_solver(world, FLAT, zones, config(name, batch=batch, seed=seed))
        first = solver.plan(problem(world, START, GOAL), Deadline.after(1e9, clock))
        return [first, solver.plan(problem(world, START, GOAL, previous=first.actions[2:]), Deadline.after(1e9, clock))]

    usual = twice(0, 5, lambda: 0.0)
    for batch, step_s in ((1, 0.0), (7, 1e-3), (64, 0.5)):
        for a, b in zip(usual, twice(batch, 5, ticking(step_s)), strict=True):
            assert np.array_equal(a.actions, b.actions) and a.cost == b.cost and a.candidates == b.candidates and a.iterations == b.iterations
    other = twice(0, 6, lambda: 0.0)
    if name in FREE and name != "gradient":  # of its starts, the one that no noise was added to may well win
        assert not np.array_equal(usual[0].actions, other[0].actions)


@pytest.mark.parametrize("name", ALL)
def test_a_deadline_that_has_passed_still_gives_one_iteration(name):
    world = DescendableWorld()
    solver = build_solver(world, FLAT, (), config(name))
    plan = solver.plan(problem(world, START, GOAL), Deadline.after(0.0, ticking()))
    assert plan.iterations == 1 and plan.candidates >= 1 and plan.feasible


@pytest.mark.parametrize("name", FREE)
def test_more_time_is_more_iterations_and_never_a_worse_plan(name):
    plans = []
    for seconds in (0.0, 2.0, 3.0, 4.0, 1e9):
        world = DescendableWorld()
        plans.append(build_solver(world, FLAT, (), config(name)).plan(problem(world, START, GOAL), Deadline.after(seconds, ticking())))
    assert [plan.iterations for plan in plans[:4]] == [1, 2, 3, 4]
    costs = [plan.cost for plan in plans]
    assert all(after <= before for before, after in itertools.pairwise(costs)) and costs[-1] < costs[0]


def test_the_deadline_is_kept_when_iterations_take_as_long_as_before():
    """Each takes 7 s of a clock that the model drives: of 30 s, 28 are used."""
    now = [0.0]

    class Slow(DescendableWorld):
        def rollout(self, context, actions):
            now[0] += 7.0
            return super().rollout(context, actions)

    world = Slow()
    plan = build_solver(world, FLAT, (), config("cem")).plan(problem(world, START, GOAL), Deadline.after(30.0, lambda: now[0]))
    assert (plan.iterations, plan.seconds) == (4, 28.0)
    plan = build_solver(world, FLAT, (), config("cem")).plan(problem(world, START, GOAL), Deadline.after(20.9, lambda: now[0]))
    assert (plan.iterations, plan.seconds) == (2, 14.0)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("zones", [(), (PILLAR,)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_plan_is_worse_than_the_best_feasible_candidate_of_any_iteration(name, zones, seed):
    """With zones, a search along the actor gives the actor up only for a gain of `override`; without, for any."""
    solver, witness = witnessed(name, zones, seed=seed)
    world = DescendableWorld(spread=0.8)
    plan = solver.plan(problem(world, START, (0.6, 0.0)), unhurried())
    cost, margin = (np.concatenate([getattr(scores, what) for _, scores in witness.seen]) for what in ("cost", "margin"))
    # MPPI judges its last average as well, which is no iteration of its own.
    assert plan.candidates == len(cost)
    best = cost[margin >= 0].min()
    hysteresis = 1.0 if zones and name in ("actor_rollouts", "mixture") else 0.0
    assert plan.feasible and best <= plan.cost <= best + hysteresis + 1e-9
    assert all(best <= other.cost and other.feasible for other in plan.runners_up)
    runners = [other.cost for other in plan.runners_up]
    assert runners == sorted(runners)
    for one, other in itertools.combinations(plan.runners_up, 2):
        assert np.abs(one.actions - other.actions).max() >= 0.05, "a second choice that is the first again is none"


@pytest.mark.parametrize("name", FREE)
def test_where_nothing_is_feasible_the_least_violation_is_taken(name):
    """A guardrail that nobody can keep: the plan says that it is infeasible, and is the one that violates least of all iterations."""

    class Never:
        name = "never"

        def margins(self, path: np.ndarray) -> np.ndarray:
            where = np.zeros(path.shape[:-1]) if path.shape[-2] == 1 else -1.0 - np.abs(path[..., 1] - 0.05)
            return where  # nothing against where the tool stands: what it violates already is forgiven

    solver, witness = witnessed(name)
    witness.objective = replace(witness.objective, guardrails=[Never()])
    plan = solver.plan(problem(DescendableWorld(), START, GOAL), unhurried())
    margin = np.concatenate([scores.margin for _, scores in witness.seen])
    assert not plan.feasible and margin.max() < 0 and plan.margin == margin.max()
    assert plan.runners_up == ()
    if name in ("cem", "icem"):
        violation = -np.array([scores.margin.max() for _, scores in witness.seen])
        assert violation[-1] < violation[0], "elites are filled up by violation, so that the search leads out"


@pytest.mark.parametrize("name", SEARCHES)
def test_a_feasible_plan_is_taken_however_much_dearer_it_is(name):
    """The goal lies inside the zone, and every cheaper end with it."""
    plan = solve(name, (0.4, 0.0), (0.5, 0.0), (PILLAR,))
    shares = np.linspace(0, 1, 100)[:, None]
    path = np.concatenate([a + (b - a) * shares for a, b in itertools.pairwise(plan.points)])
    assert plan.feasible and plan.verdict.outcome is Outcome.SUCCESS
    assert PILLAR.signed_distance(path).min() > 0.012 - 1e-3


# Near the optimum that is known.


def quadratic_optimum(start: np.ndarray, goal: np.ndarray, horizon: int, weight: float, effort: float) -> tuple[np.ndarray, float]:
    """Of ``weight/D |start + L sum a - goal|^2 + effort/(H D) sum |a|^2``: by symmetry all actions are alike, and the derivative is zero at this."""
    length, dim, way = FLAT.length_m, len(goal), goal - start
    share = weight * length / (weight * length**2 * horizon + effort / horizon)
    action = share * way
    cost = weight / dim * ((length * horizon * action - way) ** 2).sum() + effort / dim * (action**2).sum()
    return action, float(cost)


@pytest.mark.parametrize("name", (*FREE, "mixture"))
def test_a_linear_world_is_solved_near_the_closed_form_and_better_than_at_random(name):
    critics = {"latent_distance": {"weight": 400.0}, "effort": {"weight": 1.0}}
    start, goal = np.array(START), np.array(GOAL)
    action, least = quadratic_optimum(start, goal, 6, 400.0, 1.0)
    assert np.abs(action).max() < 1, "no bound is in the way"
    costs, random = [], []
    for seed in range(3):
        world = DescendableWorld()
        solver = build_solver(world, FLAT, (), config(name, critics=critics, seed=seed))
        plan = solver.plan(problem(world, START, GOAL), unhurried())
        costs.append(plan.cost)
        drawn = np.random.default_rng(seed).uniform(-1, 1, (plan.candidates, 6, 2)).astype(np.float32)
        ends = start + 0.04 * drawn.sum(1)
        random.append(float((200.0 * ((ends - goal) ** 2).sum(1) + (drawn**2).mean((1, 2))).min()))
    assert min(costs) >= least - 1e-5, "the closed form is a lower bound"
    assert max(costs) < least + 0.15 * (float(200.0 * ((start - goal) ** 2).sum()) - least)
    assert max(costs) < min(random)


def test_gradients_come_closest():
    _, least = quadratic_optimum(np.array(START), np.array(GOAL), 6, 400.0, 1.0)
    settings_ = {**SMALL, "gradient": {"starts": 2, "iterations": 200, "horizon": 6, "rate": 0.03}}
    critics = {"latent_distance": {"weight": 400.0}, "effort": {"weight": 1.0}}
    world = DescendableWorld()
    solver = build_solver(world, FLAT, (), PlannerConfig("gradient", solvers=settings_, critics=critics))
    assert solver.plan(problem(world, START, GOAL), unhurried()).cost == pytest.approx(least, rel=1e-3)


# Warm starts, and what is carried over.


@pytest.mark.parametrize("name", FREE)
def test_a_warm_start_is_a_candidate_as_it_is_and_its_tail_is_filled(name):
    solver, witness = witnessed(name, critics=QUADRATIC)
    left = np.array([[0.9, -0.4], [0.8, -0.2], [0.6, -0.2]], np.float32)
    solver.plan(problem(DescendableWorld(), START, GOAL, previous=left), unhurried())
    first = witness.seen[0][0].actions[0]
    assert np.array_equal(first[:3], left) and np.allclose(first[3:], [0.3, -0.1])
    assert np.array_equal(witness.seen[0][0].actions[1], np.zeros((6, 2))), "standing still is a candidate, too"


def test_icem_carries_elites_over_as_many_steps_as_went_by():
    solver, witness = witnessed("icem", critics=QUADRATIC)
    world = DescendableWorld()
    first = solver.plan(problem(world, START, GOAL), unhurried())
    again = witness.seen[:]
    witness.seen.clear()
    solver.plan(problem(world, START, GOAL, previous=first.actions[2:]), unhurried())
    carried = witness.seen[0][0].actions[60:]
    assert len(carried) == round(0.3 * 8)
    every = np.concatenate([candidates.actions for candidates, _ in again])
    for elite in carried:
        assert any(np.array_equal(elite[:4], one[2:]) for one in every), "moved on by two steps"
        assert np.allclose(elite[4:], 0.5 * elite[3]), "and filled"
    witness.seen.clear()
    solver.plan(problem(world, START, GOAL), unhurried())
    assert len(witness.seen[0][0].actions) == 60, "a new episode starts cold"


# Mixtures.


def test_a_mixture_takes_turns_and_the_best_of_all_wins():
    critics = {"temporal_distance": 1.0, "actor_prior": 1.0}
    solver, witness = witnessed("mixture", critics=critics)
    world = DescendableWorld(bias=1.3)
    plan = solver.plan(problem(world, START, GOAL), unhurried())
    sizes = [len(candidates.actions) for candidates, _ in witness.seen]
    assert sizes[:3] == [16, 60, 6], "one turn each"
    assert sizes[3] == 48 and sizes[4] == 6
    assert plan.cost == min(scores.cost[scores.margin >= 0].min() for _, scores in witness.seen)
    alone = witnessed("actor_rollouts", critics=critics)[0].plan(problem(world, START, GOAL), unhurried())
    assert plan.cost <= alone.cost


def test_a_member_begins_where_those_before_it_have_come_to():
    solver, witness = witnessed("mixture")
    solver.plan(problem(DescendableWorld(), START, GOAL), unhurried())
    actor = witness.seen[0]
    best = actor[0].actions[actor[1].ranking()[0]]
    assert np.array_equal(witness.seen[1][0].actions[0], best)


def test_when_the_deadline_passes_after_the_first_member_its_plan_is_taken():
    world = DescendableWorld()
    solver = build_solver(world, FLAT, (), config("mixture"))
    plan = solver.plan(problem(world, START, GOAL), Deadline.after(0.5, ticking()))
    assert plan.candidates == 16 and len(plan.actions) == 1 and plan.solver == "mixture"


def test_what_looks_less_far_ahead_is_not_compared():
    """An end after two steps is dearer than one after six only because it is nearer: it does not enter the pool."""
    world = DescendableWorld()
    imagination = Imagination(world, FLAT, build_solver(world, FLAT, (), config("cem")).solver.imagination.objective)
    search = Search(problem(world, START, GOAL), imagination)
    search.judge(np.zeros((2, 6, 2), np.float32))
    search.judge(np.ones((3, 2, 2), np.float32))
    plan = search.plan("any", 0.0)
    assert plan.actions.shape == (6, 2) and plan.candidates == 5 and plan.iterations == 2


def test_settings_of_members_are_theirs_and_the_horizon_is_the_mixture_s():
    solver, witness = witnessed("mixture")
    solver.plan(problem(DescendableWorld(), START, GOAL), unhurried())
    assert {candidates.actions.shape[1] for candidates, _ in witness.seen} == {6}
    assert configured("icem", SMALL).samples == 60 and configured("icem", {}).samples == 64


# What a plan tells.


@pytest.mark.parametrize("name", ALL)
def test_a_plan_tells_what_the_critics_and_guardrails_said(name):
    zone = () if name == "actor" else (PILLAR, Zone((0.8, 0.2), (0.02, 0.02)))
    solver, witness = witnessed(name, zone)
    plan = solver.plan(problem(DescendableWorld(spread=0.6), START, GOAL), unhurried())
    assert plan.cost == pytest.approx(sum(plan.terms.values()))
    assert set(plan.margins) == ({"workspace"} if name == "actor" else {"workspace", "zone", "zone_2"})
    assert all(values.shape == (len(plan.actions),) for values in plan.margins.values())
    assert plan.margin == min(values.min() for values in plan.margins.values())
    for step, values in enumerate(plan.margins.get("zone_2", [])):
        shares = np.linspace(1 / 8, 1, 50)[:, None]
        way = plan.points[step] + (plan.points[step + 1] - plan.points[step]) * shares
        assert zone[1].signed_distance(way).min() - 0.012 == pytest.approx(values, abs=1e-3)
    for critic, found in plan.statistics.items():
        said = np.concatenate([scores.terms[critic] for _, scores in witness.seen])
        assert (found.mean, found.min, found.max) == pytest.approx((said.mean(), said.min(), said.max()), rel=1e-6)
    spread = {critic: np.concatenate([scores.terms[critic] for _, scores in witness.seen]).std() for critic in plan.terms}
    total = sum(spread.values())
    assert all(plan.statistics[critic].share == pytest.approx(value / total if total else 0.0, abs=1e-4) for critic, value in spread.items())
    flat = plan.values()
    assert flat["solver"] == name and flat["validation"] == "success" and np.isfinite([v for v in flat.values() if not isinstance(v, str)]).all()
    assert flat["critic_temporal_distance_mean"] == plan.statistics["temporal_distance"].mean


def test_a_strategy_of_one_s_own_needs_only_to_propose():
    """The protocol, as a newcomer would use it."""

    class Straight:
        def iterate(self, search: Search, deadline: Deadline) -> Iterator[None]:
            for speed in (0.2, 0.6, 1.0):
                search.judge(np.full((1, search.horizon(4), search.action_dim), [speed, 0.0], np.float32))
                yield

    world = DescendableWorld()
    objective = build_solver(world, FLAT, (), config("cem")).solver.imagination.objective
    solver = AnytimeSolver("straight", Straight(), Imagination(world, FLAT, objective))
    plan = solver.plan(problem(world, (0.4, 0.0), (0.56, 0.0)), unhurried())
    assert plan.iterations == 3 and np.allclose(plan.actions, [1.0, 0.0]) and plan.solver == "straight"


def test_parts_name_what_a_strategy_is_made_of():
    world = DescendableWorld()
    parts = Parts(world, world, (), False, np.random.default_rng(0), {"mixture": {"members": ["icem"]}})
    kind = SOLVERS["mixture"]
    assert kind.build(parts, configured("mixture", parts.settings)) is not None
