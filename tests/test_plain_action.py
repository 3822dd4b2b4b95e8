"""Actions without a body: the planner needs no tool point, no workspace and no arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from planner_node.action import PlainAction
from planner_node.assembly import MODES, PlannerConfig, build_solver
from planner_node.controller import LatentController
from planner_node.guardrails.zone import Zone, ZoneError
from planner_node.history import History
from planner_node.solvers.solver import Deadline
from world_model.protocol import ActionMixture

GAIN = 0.1


@dataclass
class Adding:
    """A world in which the latent (5,) adds up five actions, far more than three, times ``GAIN``; the actor knows the way."""

    history: int = 3
    latent_dim: int = 5
    action_dim: int = 5

    def encode(self, frames):
        raise NotImplementedError("a planner sees latents only")

    def rollout(self, context, actions):
        return (context.latents[:, -1:, :] + GAIN * np.cumsum(actions, axis=1)).astype(np.float32)

    def distance(self, latents, goal):
        return (np.abs(latents - goal).max(-1) / GAIN).astype(np.float32)

    def propose(self, latents, goal, steps_left):
        mean = np.clip((goal - latents) / GAIN, -1, 1)[:, None].astype(np.float32)
        return ActionMixture(np.zeros((len(latents), 1), np.float32), mean, np.full_like(mean, 0.2))


def test_points_are_the_actions_added_up_and_give_them_back():
    meaning = PlainAction(5)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 5)).astype(np.float32)
    points = [np.zeros(5)]
    for action in actions:
        points.append(meaning.advance(points[-1], action))
    assert np.allclose(points[-1], actions.sum(0), atol=1e-5)
    assert np.allclose(meaning.between(np.array(points[:-1]), np.array(points[1:])), actions, atol=1e-6)
    assert np.array_equal(meaning.advance(np.zeros(5), np.full(5, 7.0)), np.ones(5)), "actions are clipped, as they are by the environment"


def test_history_hears_the_actions_that_were_taken():
    meaning = PlainAction(5)
    history = History(3, meaning)
    actions = np.random.default_rng(1).uniform(-1, 1, (4, 5)).astype(np.float32)
    points = np.concatenate([np.zeros((1, 5)), np.cumsum(actions, 0)])
    for step, point in enumerate(points):
        history.add(float(step), np.full(5, step, np.float32), point)
    context = history.context()
    assert np.allclose(context.actions[0], actions[-2:], atol=1e-6) and context.latents[0, :, 0].tolist() == [2, 3, 4]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_reaches_a_goal_without_an_arm(mode):
    meaning, world, goal = PlainAction(5), Adding(), np.array([0.3, -0.2, 0.5, 0.0, -0.4], np.float32)
    controller = LatentController(world, meaning, PlannerConfig(mode=mode))
    controller.start(goal, 12)
    latent, point = np.zeros(5, np.float32), np.zeros(5)
    for step in range(12):
        controller.see(float(step), latent, point)
        plan = controller.plan(float(step), point, Deadline.after(60.0))
        assert plan.feasible and plan.points.shape[1] == 5 and np.abs(plan.actions).max() <= 1
        point = meaning.advance(point, plan.actions[0])
        latent = (latent + GAIN * plan.actions[0]).astype(np.float32)
    assert np.abs(latent - goal).max() < (0.05 if mode != "cem" else 0.1)


def test_a_zone_needs_a_tool_point():
    with pytest.raises(ZoneError, match="zones are for arms"):
        build_solver(Adding(), PlainAction(5), [Zone((0.0, 0.0), (0.1, 0.1))], PlannerConfig())
