"""Looks: they change pictures and nothing else, by as much as they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from sim.appearance import FACTORS, NOMINAL, Appearance, draw_appearance
from sim.camera import Camera
from sim.tasks import PicturedGoalEnv, make_env

SEEDS = range(40)


@pytest.fixture(scope="module")
def push() -> Iterator[PicturedGoalEnv]:
    env = make_env("push")
    yield env
    env.close()


def draw(seed: int, *factors: str, least: float = 1.0) -> Appearance:
    return draw_appearance(np.random.default_rng(seed), factors, least=least)


def view(camera: Camera) -> np.ndarray:
    """The axes of a camera, forward, right and up, as rows."""
    forward = np.subtract(camera.target, camera.eye)
    right = np.cross(forward, camera.up)
    up = np.cross(right, forward)
    return np.stack([axis / np.linalg.norm(axis) for axis in (forward, right, up)])


def test_a_camera_at_full_strength_is_moved_by_3_cm_and_turned_by_3_degrees():
    camera = make_env("push").task.camera
    for seed in SEEDS:
        moved = draw(seed, "camera").seen_by(camera)
        assert np.linalg.norm(np.subtract(moved.eye, camera.eye)) == pytest.approx(0.03)
        turned = view(moved).T @ view(camera)
        assert np.degrees(np.arccos((np.trace(turned) - 1) / 2)) == pytest.approx(3.0)


def test_the_turned_camera_projects_what_it_renders(push):
    appearance = replace(NOMINAL, camera_shift_m=(0.02, -0.01, 0.02), camera_turn_rad=(0.02, 0.04, -0.03))
    push.reset(seed=3)
    large = appearance.seen_by(push.task.camera).resized(320, 320)
    picture = large.render(push.world.client).astype(int)
    red = (picture[..., 0] > 120) & (picture[..., 1] < 60) & (picture[..., 2] < 60)
    rows, columns = np.nonzero(red)
    block = push.world.block()
    corners = np.array([[block.x + x, block.y + y, z] for x in (-0.07, 0.07) for y in (-0.07, 0.07) for z in (0.0, 0.06)])
    low, high = large.project(corners).min(0), large.project(corners).max(0)
    assert len(columns) > 100
    assert low[0] <= columns.min() and columns.max() <= high[0] and low[1] <= rows.min() and rows.max() <= high[1]


@pytest.mark.parametrize("factor", FACTORS)
def test_every_factor_changes_the_picture_and_none_the_physics(push, factor):
    ends = []
    for appearance in (NOMINAL, draw(1, factor)):
        push.appear(appearance)
        first, _ = push.reset(seed=5)
        for action in np.random.default_rng(0).uniform(-1, 1, (6, 2)).astype(np.float32):
            last, *_ = push.step(action)
        ends.append((first["image"], first["goal"], last["image"], push.state()))
    push.appear(NOMINAL)
    (*nominal, state), (*changed, same) = ends
    for before, after in zip(nominal, changed, strict=True):
        assert np.abs(before.astype(int) - after).mean() > 0.1
    assert np.array_equal(state.tool, same.tool) and state.block == same.block


def test_nominal_comes_back(push):
    push.reset(seed=5)
    before = push.render()
    push.appear(draw(2, *FACTORS))
    push.reset(seed=5)
    assert not np.array_equal(push.render(), before)
    push.appear(NOMINAL)
    push.reset(seed=5)
    assert np.array_equal(push.render(), before)


def test_two_sets_of_factors_agree_in_those_that_they_share():
    for seed in SEEDS:
        alone, all_of_them = draw(seed, "light"), draw(seed, *FACTORS)
        assert alone == replace(NOMINAL, light=all_of_them.light)
        assert draw(seed) == NOMINAL


def test_strength_zero_is_nominal_but_for_the_distractor():
    weakest = draw_appearance(np.random.default_rng(0), ("camera", "light"), most=0.0)
    assert weakest.camera_shift_m == pytest.approx((0, 0, 0)) and weakest.camera_turn_rad == pytest.approx((0, 0, 0))
    assert weakest.light.ambient == NOMINAL.light.ambient and weakest.light.direction == pytest.approx((0, 0, 1))


def test_an_unknown_factor_is_named():
    with pytest.raises(ValueError, match="unknown factor 'colour' of appearance; choose among camera, light, colours, distractor"):
        draw_appearance(np.random.default_rng(0), ("colour",))


def test_a_goal_picture_without_the_arm_shows_the_block_alone(push):
    push.appear(NOMINAL)
    with_arm, _ = push.reset(seed=5)
    push.arm_in_goal = False
    without, _ = push.reset(seed=5)
    push.arm_in_goal = True
    assert np.array_equal(with_arm["image"], without["image"])
    goal = without["goal"].astype(int)
    blue_tool = (goal[..., 2] > 120) & (goal[..., 0] < 80)
    red = (goal[..., 0] > 120) & (goal[..., 1] < 60) & (goal[..., 2] < 60)
    assert not blue_tool.any() and red.sum() > 20
    assert not np.array_equal(with_arm["goal"], without["goal"])
