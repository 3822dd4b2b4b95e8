"""Checking a stop without measuring all of it, against measuring all of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spheres import ARM, REACH, TOOL, Balls

from planner_node.clearance import AllMargins, CollisionMargins, WorkspaceMargins
from planner_node.stop_check import _MOST_CREPT, SpeedLimit, StopCheck
from planner_node.workspace import read_workspace

MARGIN = 0.01
HOME_TOOL = TOOL.point(ARM.home)


def path_from(rng, speed, samples=18):
    """A smooth stop: joints that slow down from ``speed`` rad/s at most to nothing."""
    direction = rng.uniform(-1.0, 1.0, ARM.home.size)
    fade = np.linspace(1.0, 0.0, samples)[:, None]
    return ARM.home + np.cumsum(0.01 * speed * direction * fade, axis=0)


def densely(path, parts=10):
    """Twenty points of each straight piece of ``path``."""
    return np.concatenate([np.linspace(a, b, parts, endpoint=False) for a, b in itertools.pairwise(path)] + [path[-1:]])


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**6), speed=st.floats(0.0, 2.0), off=st.floats(0.02, 0.3), known=st.booleans())
def test_what_it_accepts_is_clear_everywhere_and_what_is_amply_clear_is_accepted(seed, speed, off, known):
    rng = np.random.default_rng(seed)
    path = path_from(rng, speed)
    directions = rng.normal(size=(2, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    balls = Balls(*[(HOME_TOOL + (off + 0.05) * direction, 0.05) for direction in directions])
    source = CollisionMargins(balls, balls.reach, MARGIN)
    check = StopCheck(source, 0.01, most_measured=100)
    if known:
        check.measure(ARM.home)
    refusal = check.refuse(path)
    everywhere = np.array([balls.distances(q) for q in densely(path)]) - MARGIN
    half_steps = 0.5 * np.abs(np.diff(path, axis=0)) @ REACH
    if not refusal:
        assert everywhere.min() >= -1e-12
    if everywhere.min() > half_steps.max() + 1e-9:
        assert refusal == ""


def test_far_from_everything_nothing_is_measured_again():
    balls = Balls((HOME_TOOL + np.array([0.0, 0.0, 0.8]), 0.05))
    check = StopCheck(CollisionMargins(balls, balls.reach, MARGIN), 0.01)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert check.refuse(path_from(rng, 0.3)) == ""
    assert balls.asked == 1


def test_a_refusal_names_what_is_too_close_and_an_undecided_check_refuses():
    path = path_from(np.random.default_rng(3), 1.5)
    end = TOOL.point(path[-1])
    balls = Balls((end, 0.02))
    source = CollisionMargins(balls, balls.reach, MARGIN)
    assert "tool and ball 0" in StopCheck(source, 0.01).refuse(path)
    near = Balls((end + np.array([0.0, 0.0, 0.06]), 0.02))
    assert StopCheck(CollisionMargins(near, near.reach, MARGIN), 0.01, most_measured=0).refuse(path) != ""


def test_a_measurement_that_is_not_finite_refuses():
    balls = Balls((HOME_TOOL + 0.5, 0.02))
    balls.distances = lambda q, among=None: np.array([np.nan])
    assert StopCheck(CollisionMargins(balls, balls.reach, MARGIN), 0.01).refuse(path_from(np.random.default_rng(0), 0.5)) != ""


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), speed=st.floats(0.0, 2.0), limit=st.floats(0.05, 1.0))
def test_the_tool_speed_is_that_of_the_published_points(seed, speed, limit):
    path = path_from(np.random.default_rng(seed), speed)
    check = StopCheck(AllMargins([], ARM.home.size), 0.01, SpeedLimit(TOOL, REACH, limit))
    fastest = np.linalg.norm(np.diff([TOOL.point(q) for q in path], axis=0), axis=1).max() / 0.01
    assert (check.refuse(path) != "") == bool(fastest > limit)


def test_margins_of_several_sources_stand_in_order_with_their_gradients():
    balls = Balls((HOME_TOOL + np.array([0.0, 0.1, 0.0]), 0.02), (HOME_TOOL + 2.0, 0.02))
    low, high = (HOME_TOOL - 0.05).tolist(), (HOME_TOOL + 1.0).tolist()
    workspace = read_workspace(f"{{min: {low}, max: {high}}}")
    source = AllMargins([CollisionMargins(balls, balls.reach, MARGIN), WorkspaceMargins(TOOL, REACH, workspace)], ARM.home.size)
    q = ARM.home + 0.01
    margins, near = source.margins(q), source.near(q, 0.2, np.arange(8))
    assert len(source.names) == len(margins) == 8
    assert near.indices.tolist() == np.flatnonzero(margins < 0.2).tolist()
    assert near.lowest[near.indices] == pytest.approx(margins[near.indices])
    assert (near.lowest <= margins + 1e-12).all()
    for index, gradient in zip(near.indices, near.gradients, strict=True):
        numeric = [(source.margins(q + step)[index] - source.margins(q - step)[index]) / 2e-6 for step in 1e-6 * np.eye(q.size)]
        assert gradient == pytest.approx(np.array(numeric), abs=1e-5)


@pytest.mark.parametrize("spare_m", [4e-5, 1e-6, 0.0])
def test_an_arm_at_its_very_margin_may_leave_it_but_not_come_closer(spare_m):
    balls = Balls((HOME_TOOL + np.array([0.0, 0.0, 0.06 + spare_m]), 0.05))
    check = StopCheck(CollisionMargins(balls, balls.reach, MARGIN), 0.01)
    assert check.measure(ARM.home) == pytest.approx(spare_m, abs=1e-12)
    gradient = balls.gradients(ARM.home, np.array([0]))[0]
    ramp = np.concatenate([np.linspace(0.0, 1.0, 8) ** 2, 1.0 + 0.3 * np.linspace(0.05, 1.0, 5)])[:, None]
    away = ARM.home + 1.5e-3 * ramp * gradient / np.linalg.norm(gradient)
    half_step = 0.5 * np.abs(away[1] - away[0]) @ REACH
    assert half_step < 0.003
    if spare_m > 1e-7:
        assert half_step > spare_m or spare_m > 1e-5
        assert check.refuse(away) == ""
        assert min(balls.distances(q).min() for q in densely(away, 50)) >= MARGIN
    towards = 2.0 * ARM.home - away
    assert "too close" in check.refuse(towards)


def test_a_long_slow_way_to_something_is_refused_after_as_many_measurements_as_creeping_may_take():
    path = ARM.home + np.linspace(0.0, 0.15, 400)[:, None] * np.ones(ARM.home.size)
    balls = Balls((TOOL.point(path[-1]), 0.02))
    check = StopCheck(CollisionMargins(balls, balls.reach, MARGIN), 0.01)
    assert "too close" in check.refuse(path)
    assert balls.asked <= _MOST_CREPT + 8 + 3, "a cycle would be late"
