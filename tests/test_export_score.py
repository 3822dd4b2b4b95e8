"""The graph that scores whole plans says what the planner's own objective says: the two share no code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import tiny_bundle

from arm_model import ToolStep
from planner_node.critics.registry import Sources, build_critics
from planner_node.guardrails.workspace import WorkspaceGuardrail
from planner_node.guardrails.zone import Zone, ZoneGuardrail
from planner_node.objective import Objective
from planner_node.pace import PacedModel
from planner_node.plan import Candidates, Problem
from planner_node.solvers.registry import solver_kind
from world_model.bundle import BundleError, read_manifest
from world_model.networks import load_networks
from world_model.precision.running import opened
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.score import ScoreSettings, fixed_score, score_parts

CRITICS = {
    "temporal_distance": {"weight": 1.0, "along": 0.0},
    "latent_distance": {"weight": 2.0},
    "actor_prior": {"weight": 1.5, "ceiling": 4.0},
    "effort": 0.05,
}


@pytest.fixture(scope="module", params=["push", "tiny"])
def bundle(request, tmp_path_factory) -> Path:
    """A shipped one with two driven axes, and a small one with three."""
    return Path("models/push") if request.param == "push" else tiny_bundle(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(bundle) -> OnnxModel:
    return OnnxModel(bundle)


@pytest.fixture(scope="module")
def session(bundle):
    settings = ScoreSettings.of_critics(CRITICS, pace=0.5, clearance_m=0.012)
    return opened(score_parts(load_networks(bundle, read_manifest(bundle)), read_manifest(bundle), settings).whole())


def scene(model: OnnxModel, count: int, horizon: int, zones: int, seed: int) -> tuple[dict, list[Zone]]:
    rng = np.random.default_rng(seed)
    step = ToolStep.from_json(model.manifest.tool_step)
    lower, upper = np.array(step.lower), np.array(step.upper)
    fences = []
    for _ in range(zones):
        (x, y), (a, b), yaw = rng.uniform(lower[:2], upper[:2]), rng.uniform(0.01, 0.1, 2), rng.uniform(-3, 3)
        fences.append(Zone((x, y), (a, b), yaw, float(rng.uniform(0, 0.03))))
    rows = [[*zone.centre, *zone.half, zone.yaw, zone.radius] for zone in fences]
    return {
        "latents": rng.standard_normal((1, model.history, model.latent_dim)).astype(np.float32),
        "past_actions": rng.uniform(-1, 1, (1, model.history - 1, model.action_dim)).astype(np.float32),
        "actions": rng.uniform(-1.3, 1.3, (count, horizon, model.action_dim)).astype(np.float32),
        "goal": rng.standard_normal(model.latent_dim).astype(np.float32),
        "steps_left": np.array(rng.uniform(1, 20), np.float32),
        "tool": rng.uniform(lower, upper).astype(np.float32),
        "zones": np.array(rows, np.float32).reshape(zones, 6),
    }, fences


def by_the_planner(model: OnnxModel, feed: dict, fences: list[Zone], critics: dict = CRITICS):
    """What the planner computes, in float64 where it does."""
    step = ToolStep.from_json(model.manifest.tool_step)
    guardrails = [WorkspaceGuardrail(step), *(ZoneGuardrail(zone, 0.012) for zone in fences)]
    objective = Objective(build_critics(critics, Sources(model, PacedModel(model, 0.5))), guardrails)
    context = Context(feed["latents"], feed["past_actions"])
    actions = feed["actions"]
    points = [np.repeat(feed["tool"][None].astype(np.float64), len(actions), 0)]
    for action in actions.transpose(1, 0, 2):
        points.append(step.advance(points[-1], action))
    imagined = model.rollout(context.repeated(len(actions)), actions)
    problem = Problem(context, feed["goal"], feed["tool"].astype(np.float64), float(feed["steps_left"]))
    return imagined, objective.score(problem, Candidates(actions, imagined, np.stack(points, axis=1)))


@pytest.mark.parametrize(("count", "horizon", "zones"), [(40, 8, 3), (1, 1, 1), (7, 5, 0)])
def test_cost_and_margins_are_the_planners(model, session, count, horizon, zones):
    signs = set()
    for seed in range(4):
        feed, fences = scene(model, count, horizon, zones, seed)
        cost, margin, imagined = session.run(None, feed)
        expected, scores = by_the_planner(model, feed, fences)
        assert np.allclose(imagined, expected, atol=1e-5)
        assert np.allclose(cost, scores.cost, atol=1e-4), f"by {np.abs(cost - scores.cost).max()}"
        assert np.allclose(margin, scores.margin, atol=1e-6), f"by {np.abs(margin - scores.margin).max()} m"
        clear = np.abs(scores.margin) > 1e-6
        assert np.array_equal((margin >= 0)[clear], scores.feasible()[clear])
        signs |= set((scores.margin[clear] >= 0).tolist())
    assert zones == 0 or count == 1 or signs == {True, False}, "some candidates run into zones, some do not"


def test_a_tool_that_stands_in_a_zone_may_leave_it(model, session):
    feed, fences = scene(model, 30, 3, 1, 0)
    fences = [replace(fences[0], centre=(float(feed["tool"][0]) + 0.005, float(feed["tool"][1])))]
    feed["zones"][0, :2] = fences[0].centre
    _, scores = by_the_planner(model, feed, fences)
    assert np.allclose(session.run(None, feed)[1], scores.margin, atol=1e-6)
    assert scores.feasible().any() and not scores.feasible().all()


def test_what_is_not_finite_is_infeasible(model, session):
    feed, fences = scene(model, 4, 3, 1, 5)
    feed["actions"][1, 2, 0], feed["actions"][2, 0, 1] = np.nan, np.inf
    cost, margin, _ = session.run(None, feed)
    with np.errstate(all="ignore"):
        _, scores = by_the_planner(model, feed, fences)
    broken = ~np.isfinite(scores.cost)
    assert broken.tolist() == [False, True, True, False]
    assert np.array_equal(np.isposinf(cost), broken) and np.array_equal(np.isneginf(margin), broken)


@pytest.mark.parametrize("bundle", ["push"], indirect=True)
def test_a_graph_of_fixed_shape_says_the_same(bundle, model, session):
    settings = ScoreSettings.of_critics(CRITICS)
    fixed = fixed_score(load_networks(bundle, read_manifest(bundle)), read_manifest(bundle), settings, 6, 3, 2)
    assert {node.op_type for node in fixed.graph.node}.isdisjoint({"Scan", "Loop", "If"})
    dimensions = [dim for value in (*fixed.graph.input, *fixed.graph.output) for dim in value.type.tensor_type.shape.dim]
    assert all(dim.HasField("dim_value") for dim in dimensions), "every shape is known"
    feed, _ = scene(model, 6, 3, 2, 9)
    for found, expected in zip(opened(fixed).run(None, feed), session.run(None, feed), strict=True):
        assert np.allclose(found, expected, atol=2e-5)


def test_the_settings_are_those_of_the_planners_critics():
    default = ScoreSettings.of_critics(solver_kind("actor_rollouts").critics)
    assert (default.temporal_distance, default.actor_prior, default.effort, default.latent_distance) == (1.0, 1.0, 0.0, 0.0)
    assert ScoreSettings.from_json(default.as_json()) == default
    for critics, said in (({"smoothness": 1.0}, "knows no critic 'smoothness'"), ({"temporal_distance": {"along": 0.5}}, "cannot do {'along': 0.5}")):
        with pytest.raises(BundleError, match=said):
            ScoreSettings.of_critics(critics)


def test_actions_that_move_no_tool_have_no_score(bundle):
    manifest = replace(read_manifest(bundle), tool_step={})
    with pytest.raises(BundleError, match="move no tool"):
        score_parts(load_networks(bundle, read_manifest(bundle)), manifest, ScoreSettings())
