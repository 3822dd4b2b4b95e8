"""The controller: what was seen, as the predictor wants to hear it, and one decision after another until the goal is reached."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_world import FLAT, LinearWorld

from planner_node.assembly import MODES, PlannerConfig
from planner_node.controller import LatentController
from planner_node.guardrails.zone import Zone
from planner_node.guardrails.zones_in_force import ZoneSet, read_zone_set
from planner_node.history import History
from planner_node.plan import Plan, Problem
from planner_node.solvers.cem import CemConfig
from planner_node.solvers.solver import Deadline
from planner_node.validator import RefusedPlanError

START = np.array([0.4, 0.0, 0.02])
GOAL = np.array([0.6, 0.1], dtype=np.float32)
CONFIG = PlannerConfig(solvers={"cem": CemConfig(samples=60, iterations=4, elites=8)})


def tool_at(time_s: float) -> np.ndarray:
    """A tool that moves at half speed along x."""
    return START + np.array([0.1 * time_s, 0.0, 0.0])


def seen(stamps: list[float], length: int = 3) -> History:
    """A history whose latents are their own stamps."""
    history = History(length, FLAT)
    for stamp in stamps:
        history.add(stamp, np.array([stamp, -stamp], dtype=np.float32), tool_at(stamp))
    return history


def test_frames_at_the_model_s_own_rate_are_taken_as_they_are():
    context = seen([0.0, 0.2, 0.4, 0.6]).context()
    assert np.allclose(context.latents[0, :, 0], [0.2, 0.4, 0.6])
    assert np.allclose(context.actions[0], [[0.5, 0.0], [0.5, 0.0]], atol=1e-6)
    assert context.latents.dtype == context.actions.dtype == np.float32


def test_of_faster_frames_those_a_period_apart_are_taken():
    context = seen([0.05 * k for k in range(20)]).context()
    assert np.allclose(context.latents[0, :, 0], [0.55, 0.75, 0.95], atol=1e-6)
    assert np.allclose(context.actions[0, :, 0], 0.5, atol=1e-6)


def test_before_the_first_frame_the_arm_stood_still():
    context = seen([3.0]).context()
    assert np.all(context.latents[0, :, 0] == 3.0) and np.all(context.actions == 0)
    context = seen([3.0, 3.2]).context()
    assert np.allclose(context.latents[0, :, 0], [3.0, 3.0, 3.2]) and np.allclose(context.actions[0, :, 0], [0.0, 0.5], atol=1e-6)


@given(st.lists(st.floats(0.01, 0.45), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_irregular_frames_give_the_nearest_ones_and_the_motion_between_just_those(gaps):
    stamps = np.cumsum(gaps)
    context = seen(stamps.tolist()).context()
    wanted = stamps[-1] - np.array([0.4, 0.2, 0.0])
    taken = context.latents[0, :, 0]
    for want, got in zip(wanted, taken, strict=True):
        kept = stamps[stamps >= stamps[-1] - 2.0]
        assert abs(got - want) <= np.abs(kept - want).min() + 1e-5
    assert np.allclose(context.actions[0, :, 0], np.clip(0.1 * np.diff(taken) / FLAT.length_m, -1, 1), atol=1e-4)


def test_a_long_history_is_remembered_as_long_as_the_model_needs_it():
    context = seen([0.2 * k for k in range(40)], length=16).context()
    assert np.allclose(np.diff(context.latents[0, :, 0]), 0.2, atol=1e-5)


def test_old_frames_are_forgotten():
    assert len(seen([0.1 * k for k in range(100)])) == 21


@pytest.mark.parametrize("stamp", [1.0, 0.9])
def test_a_frame_that_is_not_newer_is_refused(stamp):
    with pytest.raises(ValueError, match="not newer than the last one"):
        seen([0.5, 1.0]).add(stamp, np.zeros(2, np.float32), START)


def test_a_latent_that_is_not_finite_is_refused_and_not_remembered():
    history = seen([0.5])
    with pytest.raises(ValueError, match="not finite"):
        history.add(0.7, np.array([np.nan, 0], np.float32), START)
    assert len(history) == 1


def test_the_history_keeps_its_own_copy_of_the_tool():
    history, tool = History(2, FLAT), START.copy()
    history.add(0.0, np.zeros(2, np.float32), tool)
    tool += 0.01
    history.add(0.2, np.zeros(2, np.float32), tool)
    assert np.allclose(history.context().actions, 0.25, atol=1e-5)


# The controller.


def drive(
    mode: str, steps: int, period_s: float = 0.2, zones: tuple[Zone, ...] = (), seed: int = 0, see_every: int = 1
) -> tuple[np.ndarray, list[Plan]]:
    """Carry out first actions, or the part of them that fits between two decisions, in a world that does as it is told."""
    controller = LatentController(LinearWorld(), FLAT, replace(CONFIG, mode=mode, seed=seed))
    controller.start(GOAL, steps, zones)
    tool, plans, count = START.copy(), [], round(steps * FLAT.period_s / period_s)
    for tick in range(count):
        now = 100.0 + tick * period_s
        if tick % see_every == 0:
            controller.see(now, tool[:2].astype(np.float32), tool)
        plans.append(controller.plan(now, tool, Deadline.after(60.0)))
        tool = FLAT.advance(tool, plans[-1].actions[0] * period_s / FLAT.period_s)
    return tool, plans


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("period_s", [0.2, 0.05])
def test_the_goal_is_reached(mode, period_s):
    tool, _ = drive(mode, 12, period_s)
    assert np.linalg.norm(tool[:2] - GOAL) < 0.015


def test_it_goes_on_when_frames_are_missing():
    tool, _ = drive("planner", 12, 0.05, see_every=3)
    assert np.linalg.norm(tool[:2] - GOAL) < 0.015


def test_the_same_seed_gives_the_same_episode():
    first, again, other = (drive("cem", 4, seed=seed)[1] for seed in (5, 5, 6))
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].actions, other[0].actions)


def test_a_second_episode_does_not_depend_on_the_first():
    controller = LatentController(LinearWorld(), FLAT, CONFIG)
    plans = []
    for goal in (GOAL, -GOAL, GOAL):
        controller.start(goal, 10, [Zone((0.5, 0.05), (0.0, 0.0), radius=0.02)])
        controller.see(1.0, START[:2].astype(np.float32), START)
        plans.append(controller.plan(1.0, START, Deadline.after(60.0)))
    assert np.array_equal(plans[0].actions, plans[2].actions)


def test_a_warm_up_leaves_nothing_behind():
    plans = []
    for warm in (False, True):
        controller = LatentController(LinearWorld(), FLAT, CONFIG)
        if warm:
            controller.warm_up(START)
        controller.start(GOAL, 10)
        controller.see(0.0, START[:2].astype(np.float32), START)
        plans.append(controller.plan(0.0, START, Deadline.after(60.0)))
    assert np.array_equal(plans[0].actions, plans[1].actions)


def test_steps_are_counted_from_the_first_frame_and_end_at_zero():
    controller = LatentController(LinearWorld(), FLAT, CONFIG)
    controller.start(GOAL, 10)
    assert controller.steps_left(55.0) == 10
    controller.see(60.0, START[:2].astype(np.float32), START)
    assert controller.steps_left(60.0) == 10 and controller.steps_left(60.5) == pytest.approx(7.5) and controller.steps_left(99.0) == 0
    assert len(controller.plan(61.4, START, Deadline.after(60.0)).actions) == 3


class Listening:
    """A solver that remembers what it was asked."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def plan(self, problem: Problem, deadline: Deadline) -> Plan:
        self.problems.append(problem)
        actions = np.arange(8, dtype=np.float32).reshape(4, 2) / 10
        return Plan(actions, np.zeros((4, 2), np.float32), np.zeros((5, 3)), 0.0, 0.0, 1, 1, 0.0)


def test_what_is_left_of_a_plan_is_handed_to_the_next_search(monkeypatch):
    solver = Listening()
    monkeypatch.setattr("planner_node.controller.build_solver", lambda *_: solver)
    controller = LatentController(LinearWorld(), FLAT, CONFIG)
    controller.start(GOAL, 30)
    controller.see(0.0, START[:2].astype(np.float32), START)
    for now in (0.0, 0.05, 0.3, 0.5, 2.0):
        controller.plan(now, START, Deadline.after(60.0))
    previous = [problem.previous for problem in solver.problems]
    assert previous[0] is None and previous[4] is None, "nothing is left of a plan that is over"
    assert [len(p) for p in previous[1:4]] == [4, 3, 3]
    assert np.allclose(previous[2][0], [0.2, 0.3])
    controller.start(GOAL, 30)
    controller.see(9.0, START[:2].astype(np.float32), START)
    controller.plan(9.0, START, Deadline.after(60.0))
    assert solver.problems[-1].previous is None, "a new episode starts cold"


def test_a_plan_needs_a_goal_and_a_frame():
    controller = LatentController(LinearWorld(), FLAT, CONFIG)
    with pytest.raises(ValueError, match="needs a goal picture and at least one frame"):
        controller.plan(0.0, START, Deadline.after(1.0))
    controller.start(GOAL, 10)
    with pytest.raises(ValueError, match="needs a goal picture and at least one frame"):
        controller.plan(0.0, START, Deadline.after(1.0))


def test_the_latent_is_rolled_through_what_runs_meanwhile():
    """In the linear world the latent is the tool's place: what is imagined begins where the tool will be, not where the picture shows it."""
    world = LinearWorld()
    later = START + np.array([0.06, 0.02, 0.0])  # a step and a half away
    for left, expected in ((START, later), (None, START)):
        controller = LatentController(world, FLAT, replace(CONFIG, mode="actor"))
        controller.start(GOAL, 20)
        controller.see(0.0, START[:2].astype(np.float32), START)
        plan = controller.plan(0.0, later, Deadline.after(5.0), left)
        assert np.allclose(plan.latents[0], expected[:2] + FLAT.length_m * plan.actions[0], atol=1e-6)
        assert np.allclose(plan.points[0], later)


def test_what_runs_meanwhile_takes_its_time_from_the_episode():
    """Of four steps, one and a half are spent when the plan begins: nobody looks further ahead than the other two and a half."""
    later = START + np.array([0.06, 0.02, 0.0])
    for left, told, horizon in ((START, 2.5, 3), (None, 4.0, 4), (later, 4.0, 4)):
        world = LinearWorld()
        controller = LatentController(world, FLAT, replace(CONFIG, mode="actor", pace=100.0))
        controller.start(GOAL, 4)
        controller.see(0.0, START[:2].astype(np.float32), START)
        plan = controller.plan(0.0, later, Deadline.after(5.0), left)
        assert len(plan.actions) == horizon and world.told[0] == pytest.approx(told)


def test_a_motion_that_no_plan_made_is_rolled_for_a_few_steps_only():
    world = LinearWorld()
    controller = LatentController(world, FLAT, replace(CONFIG, mode="actor"))
    controller.start(GOAL, 20)
    controller.see(0.0, START[:2].astype(np.float32), START)
    far = START + np.array([0.4, 0.0, 0.0])
    plan = controller.plan(0.0, far, Deadline.after(5.0), START)
    assert plan.latents[0][0] <= START[0] + 5 * FLAT.length_m + 1e-6


def test_the_default_search_finds_its_way_around_a_solid_as_around_a_zone():
    solid = read_zone_set("{keep_out: [{name: wall, box: {min: [0.48, -0.1, 0.0], max: [0.5, 0.06, 0.3]}}]}", 0.012)
    controller = LatentController(LinearWorld(), FLAT, PlannerConfig())
    controller.start(np.array([0.6, 0.0], np.float32), 30)
    controller.fence(solid)
    tool = np.array([0.44, 0.0, 0.02])
    for tick in range(20):
        controller.see(0.2 * tick, tool[:2].astype(np.float32), tool)
        plan = controller.plan(0.2 * tick, tool, Deadline.after(60.0))
        assert plan.feasible and solid.solids[0].signed_distance(plan.points).min() >= 0.0
        tool = FLAT.advance(tool, plan.actions[0])
    assert np.linalg.norm(tool[:2] - [0.6, 0.0]) < 0.015


@pytest.mark.parametrize(("mode", "sees"), [("planner", True), ("actor", False), ("cem", True), ("mixture", True)])
def test_whether_it_sees_zones_is_its_solvers_business(mode, sees):
    assert LatentController(LinearWorld(), FLAT, replace(CONFIG, mode=mode)).sees_zones is sees


def test_new_zones_hold_in_the_middle_of_an_episode():
    world = LinearWorld()
    controller = LatentController(world, FLAT, CONFIG)
    controller.start(GOAL, 20)
    controller.see(0.0, START[:2].astype(np.float32), START)
    free = controller.plan(0.0, START, Deadline.after(5.0))
    zone = Zone((0.47, 0.03), (0.02, 0.02))
    assert zone.signed_distance(free.points).min() < 0, "the way would lead through"
    controller.fence(ZoneSet((zone,)))
    assert zone.signed_distance(controller.plan(0.0, START, Deadline.after(5.0)).points).min() > 0


def test_a_runner_up_is_looked_at_again_before_it_stands_in():
    world = LinearWorld()
    controller = LatentController(world, FLAT, CONFIG)
    controller.start(GOAL, 20)
    controller.see(0.0, START[:2].astype(np.float32), START)
    plan = controller.plan(0.0, START, Deadline.after(5.0))
    assert controller.sound(plan) is plan and len(plan.runners_up) > 0
    runner_up = plan.runners_up[0]
    assert controller.sound(runner_up) is runner_up
    with pytest.raises(RefusedPlanError, match="not where its actions lead"):
        controller.sound(replace(runner_up, points=runner_up.points + 0.05))
