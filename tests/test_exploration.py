"""Exploration and the scripted teacher: bounded, repeatable, and rich in contact."""

from __future__ import annotations

import numpy as np
import pytest

from sim.arm_world import BLOCK_HALF_M, BlockPose
from sim.exploration import PushExploration, RandomWalk, ReachExploration, exploration_for
from sim.pushing import push_towards
from sim.tasks import task_named
from sim.tasks.task import State

STEP_M = 0.04


def reach_actions(seed: int, count: int = 60) -> np.ndarray:
    """Actions of an exploring reach in a world where the tool goes where it is sent."""
    task = task_named("reach")
    exploration = exploration_for(task, np.random.default_rng(seed))
    tool, _ = exploration.start()
    actions = []
    for _ in range(count):
        actions.append(exploration.act(State(tool, None), tool))
        tool = task.tool_step.advance(tool, actions[-1])
    return np.array(actions)


def test_actions_are_bounded_single_precision_and_repeatable():
    for seed in range(8):
        actions = reach_actions(seed)
        assert actions.dtype == np.float32 and np.abs(actions).max() <= 1.0
        assert np.array_equal(actions, reach_actions(seed))
    assert not np.array_equal(reach_actions(0), reach_actions(1))


def test_each_task_is_explored_in_its_own_way():
    rng = np.random.default_rng(0)
    assert isinstance(exploration_for(task_named("reach"), rng), ReachExploration)
    assert isinstance(exploration_for(task_named("push-far"), rng), PushExploration)


def test_a_given_goal_is_sought_first():
    task, goal = task_named("reach"), np.array([0.5, 0.1, 0.2])
    for seed in range(10):
        exploration = exploration_for(task, np.random.default_rng(seed), goal)
        assert np.array_equal(exploration.goal, goal) and exploration.walk is None
        assert np.allclose(exploration.seek(State(goal - np.array([0.02, 0.0, 0.0]), None)), [0.5, 0.0, 0.0])


def test_a_held_goal_is_replaced():
    task, goal = task_named("reach"), np.array([0.5, 0.1, 0.2])
    exploration = exploration_for(task, np.random.default_rng(3), goal)
    for _ in range(4):
        exploration.act(State(goal, None), goal)
    assert not np.array_equal(exploration.goal, goal)


@pytest.mark.parametrize("name", ["reach", "push"])
def test_a_random_walk_turns_back_at_the_edge_and_gets_everywhere(name):
    step = task_named(name).tool_step
    walk = RandomWalk(task_named(name), np.random.default_rng(0))
    tool, seen = np.array(step.upper), []
    for _ in range(1500):
        action = walk.act(tool)
        at_edge = (tool >= np.array(step.upper) - 1e-3)[: step.action_dim]
        assert np.all(action[at_edge] <= 0)
        tool = step.advance(tool, action)
        seen.append(tool)
    room = np.array(step.upper) - np.array(step.lower)
    assert np.all((np.ptp(seen, axis=0) > 0.8 * room)[: step.action_dim])


def test_pushing_starts_are_clear_of_the_block_and_two_in_five_beside_it():
    task, near = task_named("push"), 0
    for seed in range(200):
        tool, block = PushExploration(task, np.random.default_rng(seed)).start()
        gap = np.linalg.norm(tool[:2] - [block.x, block.y])
        assert gap > BLOCK_HALF_M[0] * 1.42 + 0.02
        assert np.array_equal(tool, task.tool_step.clamp(tool))
        near += bool(gap < 0.13)
    assert 0.35 < near / 200 < 0.65


# The scripted pusher.


def slide(tool: np.ndarray, block: np.ndarray, goal: np.ndarray, steps: int) -> np.ndarray:
    """A block that sticks to a tool that runs into it: where it ends. Crude, but enough to tell whether the script goes round."""
    half = BLOCK_HALF_M[0]
    for _ in range(steps):
        move = STEP_M * push_towards(tool, block, goal, STEP_M)
        for _ in range(8):
            tool = tool + move / 8
            if np.abs(tool - block).max() < half:
                block = block + move / 8
    return block


@pytest.mark.parametrize("angle", np.linspace(0, 2 * np.pi, 8, endpoint=False))
def test_the_pusher_goes_round_the_block_and_brings_it_to_the_goal(angle):
    block, goal = np.array([0.5, 0.0]), np.array([0.6, 0.03])
    start = block + 0.12 * np.array([np.cos(angle), np.sin(angle)])
    assert np.linalg.norm(slide(start, block, goal, 40) - goal) < 0.04


def test_the_pusher_rests_at_the_goal_and_never_exceeds_a_step():
    block = np.array([0.5, 0.0])
    assert np.array_equal(push_towards(np.array([0.4, 0.0]), block, block + 0.005, STEP_M), np.zeros(2))
    rng = np.random.default_rng(0)
    for _ in range(200):
        tool, block, goal = rng.uniform(0.3, 0.7, (3, 2))
        assert np.linalg.norm(push_towards(tool, block, goal, STEP_M)) <= 1.0 + 1e-12


def test_a_pushing_exploration_needs_no_more_than_the_state():
    exploration = PushExploration(task_named("push"), np.random.default_rng(0), np.array([0.6, 0.0]))
    state = State(np.array([0.4, 0.0, 0.02]), BlockPose(0.5, 0.0, 0.0))
    assert exploration.left_m(state) == pytest.approx(0.1)
    assert exploration.seek(state)[0] > 0
