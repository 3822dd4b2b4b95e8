"""Gradients: every critic's slope, the objective's, the bundle's and the whole chain beside finite differences."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from linear_world import FLAT, DescendableWorld, LinearWorld, problem

from planner_node.assembly import PlannerConfig, build_solver
from planner_node.critics.actor_prior import ActorPriorCritic
from planner_node.critics.effort import EffortCritic
from planner_node.critics.latent_distance import LatentDistanceCritic
from planner_node.critics.smoothness import SmoothnessCritic
from planner_node.critics.temporal_distance import TemporalDistanceCritic
from planner_node.critics.terminal_value import TerminalValueCritic
from planner_node.critics.unfamiliarity import UnfamiliarityCritic
from planner_node.objective import NoGradientError, Objective
from planner_node.plan import Candidates, Problem
from planner_node.solvers.registry import NotDifferentiableError
from planner_node.solvers.solver import Deadline
from world_model.bundle import BundleError
from world_model.differentiable import DifferentiableModel
from world_model.protocol import ActionMixture, Context

PUSH = Path(__file__).resolve().parents[1] / "models/push"
WORLD = DescendableWorld()


class ManyMinds:
    """An actor of three components of different weight, width and place."""

    def propose(self, latents, goal, steps_left) -> ActionMixture:
        mean = np.array([[[0.3, -0.2], [-0.4, 0.1], [0.0, 0.5]]], np.float32)
        std = np.array([[[0.3, 0.5], [0.4, 0.3], [0.6, 0.25]]], np.float32)
        return ActionMixture(np.array([[0.0, 1.2, -0.7]], np.float32), mean, std)


CRITICS = {
    "effort": EffortCritic(),
    "smoothness": SmoothnessCritic(),
    "last": LatentDistanceCritic(),
    "summed": LatentDistanceCritic(over="summed"),
    "weighted": LatentDistanceCritic(over="weighted", growth=2.0),
    "temporal": TemporalDistanceCritic(WORLD),
    "temporal along": TemporalDistanceCritic(WORLD, along=0.7),
    "terminal value": TerminalValueCritic(WORLD, discount=0.9),
    "unfamiliarity": UnfamiliarityCritic(room=0.1),
    "actor prior": ActorPriorCritic(ManyMinds(), ceiling=50.0),
}


def drawn(count: int = 5, horizon: int = 4) -> tuple[Problem, Candidates]:
    """Latents and actions of no relation, which is what a slope takes them to be; some latents are unfamiliar, some are not."""
    rng = np.random.default_rng(3)
    asked = problem(WORLD, (0.4, 0.0), (0.6, 0.1))
    past = rng.uniform(-1, 1, (1, 2, 2)).astype(np.float32)
    asked = replace(asked, context=Context(asked.context.latents, past))
    latents = rng.standard_normal((count, horizon, 2)).astype(np.float32) * 1.2
    return asked, Candidates(rng.uniform(-1, 1, (count, horizon, 2)).astype(np.float32), latents, np.zeros((count, horizon + 1, 3)))


@pytest.mark.parametrize("name", CRITICS)
def test_a_critic_s_slope_is_the_derivative_of_its_cost(name):
    critic, (asked, candidates) = CRITICS[name], drawn()
    slope = critic.slope(asked, candidates)
    rng, step = np.random.default_rng(0), 2e-3
    for part in ("latents", "actions"):
        for _ in range(6):
            way = rng.standard_normal(getattr(candidates, part).shape).astype(np.float32)
            ahead, behind = (critic.cost(asked, replace(candidates, **{part: getattr(candidates, part) + sign * step * way})) for sign in (1, -1))
            measured = (np.asarray(ahead, np.float64) - behind) / (2 * step)
            assert np.allclose((getattr(slope, part) * way).sum((1, 2)), measured, rtol=2e-2, atol=2e-2 * max(1.0, float(np.abs(measured).max())))
    touched = float(np.abs(slope.latents).max()) + float(np.abs(slope.actions).max())
    assert touched > 0


def test_beyond_its_ceiling_the_actor_prior_pulls_nowhere():
    asked, candidates = drawn()
    assert not ActorPriorCritic(ManyMinds(), ceiling=-50.0).slope(asked, candidates).actions.any()


def test_the_objective_s_slope_is_the_weighted_sum():
    asked, candidates = drawn()
    effort, last = EffortCritic(weight=3.0), LatentDistanceCritic(weight=0.5)
    slope = Objective([effort, last], []).slope(asked, candidates)
    assert np.allclose(slope.actions, 3.0 * effort.slope(asked, candidates).actions)
    assert np.allclose(slope.latents, 0.5 * last.slope(asked, candidates).latents)


# The bundle's own, by torch.


@pytest.fixture(scope="module")
def push() -> DifferentiableModel:
    pytest.importorskip("torch")
    return DifferentiableModel(PUSH)


def scene(model: DifferentiableModel, count: int) -> tuple[Context, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    latents = 0.7 * rng.standard_normal((count, model.history, model.latent_dim)).astype(np.float32)
    past = rng.uniform(-1, 1, (count, model.history - 1, model.action_dim)).astype(np.float32)
    goal = 0.7 * rng.standard_normal(model.latent_dim).astype(np.float32)
    return Context(latents, past), rng.uniform(-0.9, 0.9, (count, 5, model.action_dim)).astype(np.float32), goal


def test_torch_imagines_what_onnx_imagines_and_pulls_back_its_derivative(push):
    context, actions, _ = scene(push, 4)
    latents, pull = push.pullback(context, actions)
    assert np.allclose(latents, push.rollout(context, actions), atol=1e-4)
    rng, step = np.random.default_rng(2), 1e-2
    blame = rng.standard_normal(latents.shape).astype(np.float32)
    gradient = pull(blame)
    for _ in range(4):
        way = rng.standard_normal(actions.shape).astype(np.float32)
        ahead, behind = (push.rollout(context, actions + sign * step * way).astype(np.float64) for sign in (1, -1))
        measured = ((ahead - behind) * blame).sum((1, 2)) / (2 * step)
        assert np.allclose((gradient * way).sum((1, 2)), measured, rtol=0.02, atol=0.05)


def test_the_distance_s_gradient_is_that_of_onnx(push):
    context, _, goal = scene(push, 6)
    latents, rng, step = np.ascontiguousarray(context.latents[:, -1]), np.random.default_rng(2), 1e-2
    gradient = push.distance_gradient(latents, goal)
    way = rng.standard_normal(latents.shape).astype(np.float32)
    measured = (push.distance(latents + step * way, goal).astype(np.float64) - push.distance(latents - step * way, goal)) / (2 * step)
    assert np.allclose((gradient * way).sum(1), measured, rtol=0.02, atol=0.02)


def test_the_gradient_solver_descends_on_the_bundle_s_cost(push):
    """The chain from critics through the dynamics: the more iterations, the lower the cost, and lower than that of every start."""
    context, _, goal = scene(push, 1)
    asked = Problem(context, goal, np.array([0.5, 0.0, 0.02]), 12.0)
    step = FLAT if push.action_dim == 2 else None
    costs = [
        build_solver(push, step, (), PlannerConfig("gradient", solvers={"gradient": {"iterations": n}})).plan(asked, Deadline.after(60.0)).cost
        for n in (1, 5, 25)
    ]
    assert costs[2] < costs[1] < costs[0]


# What is missing is said in one line, before anything moves.


def test_without_torch_there_is_one_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "world_model.torch_gradients", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BundleError, match=r"gradients need torch .*: install requirements-train.txt, or choose a solver that samples"):
        build_solver(DifferentiableModel(PUSH), FLAT, (), PlannerConfig("gradient"))
    build_solver(DifferentiableModel(PUSH), FLAT, (), PlannerConfig("icem"))


def test_without_weights_there_is_one_line(tmp_path):
    pytest.importorskip("torch")
    model = DifferentiableModel(write_bundle(tmp_path / "bundle"))
    with pytest.raises(BundleError, match=r"weights.safetensors is missing or empty, and gradients need the weights"):
        model.prepare()


def test_a_model_without_gradients_is_refused():
    with pytest.raises(NotDifferentiableError, match="solver 'gradient' needs a model that gradients run through"):
        build_solver(LinearWorld(), FLAT, (), PlannerConfig("gradient"))
    with pytest.raises(NotDifferentiableError):
        build_solver(LinearWorld(), FLAT, (), PlannerConfig("mixture", solvers={"mixture": {"members": ["cem", "gradient"]}}))


def test_a_critic_without_a_gradient_is_refused_where_one_is_needed():
    class Head:
        name = "tidy"

        def values(self, latents: np.ndarray) -> np.ndarray:
            return latents[:, :1]

    config = PlannerConfig("gradient", critics={"goal_cost": {"head": "tidy"}}, cost_heads=(Head(),))
    with pytest.raises(NoGradientError, match="critic 'goal_cost' has no gradient"):
        build_solver(WORLD, FLAT, (), config)
    build_solver(WORLD, FLAT, (), replace(config, mode="icem"))
