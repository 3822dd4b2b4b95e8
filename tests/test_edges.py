"""Candidates at the edge of a zone: which way round, for how long, and what they are good for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from linear_world import FLAT, LinearWorld, problem

from planner_node.assembly import PlannerConfig, build_solver
from planner_node.guardrails.zone import Zone, ZoneGuardrail
from planner_node.solvers.actor_rollouts import ActorRolloutsConfig
from planner_node.solvers.edges import Detours, Edges
from planner_node.solvers.solver import Deadline

DISC = ZoneGuardrail(Zone((0.6, 0.0), (0.0, 0.0), radius=0.05), 0.012)
WALL = ZoneGuardrail(Zone((0.6, 0.0), (0.01, 0.1)), 0.012)
# Its only open end is far from where the straight way meets it, and a corner holds whoever slides.
BAY = (Zone((0.56, 0.06), (0.01, 0.2)), Zone((0.50, -0.135), (0.07, 0.01)))


def test_the_way_round_has_the_zone_on_the_left_hand_or_on_the_right():
    """Checked against the sign of the angular momentum about the disc's centre, and against the wall's long side."""
    rng = np.random.default_rng(0)
    bearing = rng.uniform(-np.pi, np.pi, 20)
    points = np.stack([0.6 + 0.08 * np.cos(bearing), 0.08 * np.sin(bearing), np.zeros(20)], axis=1)
    turns = np.where(np.arange(20) % 2, 1.0, -1.0)
    way = Edges([DISC], FLAT).round(points, turns)
    arm = points[:, :2] - [0.6, 0.0]
    assert np.allclose(np.linalg.norm(way, axis=1), 1.0) and np.allclose((way * arm).sum(1), 0.0, atol=1e-9)
    assert np.array_equal(np.sign(arm[:, 0] * way[:, 1] - arm[:, 1] * way[:, 0]), turns)
    before = np.array([[0.57, 0.02, 0.0]])
    assert np.allclose(Edges([WALL, DISC], FLAT).round(np.array([[0.55, 0.09, 0.0]]), np.ones(1)), [[0.0, -1.0]], atol=1e-6), "the nearest counts"
    assert np.allclose(Edges([WALL], FLAT).round(before, -np.ones(1)), [[0.0, 1.0]], atol=1e-9)


def test_a_detour_begins_where_the_way_is_blocked_and_ends_after_its_steps():
    edges, detours = Edges([WALL], FLAT), Detours.drawn(4, np.random.default_rng(1))
    assert detours.turns.tolist() == [-1, 1, -1, 1] and detours.steps.tolist() == [2, 2, 12, 12]
    points = np.repeat(np.array([[0.45, 0.0, 0.02]]), 4, axis=0)
    turned, ends = [], np.zeros(4)
    for _ in range(16):
        actions = np.tile(np.array([1.0, 0.0], np.float32), (4, 1))
        detours.turn(edges, points, actions)
        turned.append(np.abs(actions[:, 0] - 1.0) > 1e-6)
        kept = edges.kept_out(points, actions)
        path = points[:, None] + np.linspace(0, 1, 50)[:, None] * (FLAT.advance(points, kept) - points)[:, None]
        assert WALL.margins(path).min() > -1e-4
        points = FLAT.advance(points, kept)
        ends = np.where((ends == 0) & (np.abs(points[:, 1]) > 0.1), np.sign(points[:, 1]), ends)
    turned = np.array(turned)
    assert not turned[:2].any(), "8 cm of free way"
    assert turned[:, 0].sum() == turned[:, 1].sum() == 2 and turned[:, 2:].sum(0).min() >= 6
    assert ends[2] * ends[3] == -1, "one went round each end"


@pytest.mark.parametrize(("rounding", "arrives"), [(16, True), (0, False)])
def test_following_the_edge_leads_out_of_a_bay(rounding, arrives):
    """Held directions of a few steps and slides along the edge find no way out of here in any of their futures; following the edge does."""
    world = LinearWorld()
    settings = ActorRolloutsConfig(rounding=rounding, directions=8, held=2)
    solver = build_solver(world, FLAT, BAY, replace(PlannerConfig(), critics={"temporal_distance": 1.0}, solvers={"actor_rollouts": settings}))
    tool, goal, previous = np.array([0.5, 0.0, 0.02]), (0.66, 0.0), None
    for step in range(36):
        plan = solver.plan(replace(problem(world, tuple(tool[:2]), goal, 36.0 - step), previous=previous), Deadline.after(60.0))
        assert plan.feasible
        tool, previous = plan.points[1], plan.actions[1:]
    assert (np.linalg.norm(tool[:2] - goal) < 0.02) == arrives


def test_members_of_a_mixture_look_equally_far_where_there_are_zones():
    """Else those that look less far would be left out of the comparison."""
    world = LinearWorld()
    config = PlannerConfig(mode="mixture", solvers={"mixture": {"members": ["actor_rollouts", "icem"], "horizon": 7}})
    plan = build_solver(world, FLAT, [DISC.zone], config).plan(problem(world, (0.5, 0.0), (0.7, 0.0), 30.0), Deadline.after(60.0))
    assert len(plan.actions) == 7
