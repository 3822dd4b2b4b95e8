"""Distances to itself and to a scene: against PyBullet, against geometry done by hand, and gradients against finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from arm_model import ArmError, CollisionModel, Kinematics, Scene, SceneError, load_arm, read_scene

SCENE = """
- {name: floor, half_space: {normal: [0, 0, 2], offset: -0.1}, allowed: [tool_stick]}
- {name: wall, box: {min: [0.3, 0.3, 0.0], max: [0.8, 0.4, 0.5]}}
- {name: ball, sphere: 0.1, xyz: [0.3, -0.4, 0.5]}
- {name: post, capsule: [0.05, 0.4], xyz: [0.6, -0.4, 0.3], rpy: [0.4, 0.3, 0.2]}
"""


def check_gradients(model: CollisionModel, count: int, within_m: float = 0.2) -> int:
    """Compare gradients with central differences where the distance is smooth; return how many. Depths are known to a micrometre only."""
    limits, rng, step, seen = model.arm.limits, np.random.default_rng(0), 1e-4, 0
    for _ in range(count):
        q = rng.uniform(limits.lower, limits.upper)
        near = model.near(q, within_m)
        here = model.distances(q)[near.indices]
        assert np.allclose(here, near.distances, atol=5e-6) and np.all(near.distances < within_m)
        ahead, behind = (np.array([model.distances(q + sign * d)[near.indices] for d in step * np.eye(len(q))]).T for sign in (1, -1))
        tolerance = np.where(here > 0, 2e-3, 5e-2)
        smooth = np.abs(ahead - 2 * here[:, None] + behind).max(1, initial=0.0) < 5 * tolerance * step
        wrong = np.abs(near.gradients - (ahead - behind) / (2 * step)).max(1, initial=0.0) > tolerance
        assert not np.any(wrong & smooth), [model.pairs[index] for index in near.indices[wrong & smooth]]
        seen += int(smooth.sum())
    return seen


def test_gradients_are_the_slopes_of_the_distances():
    assert check_gradients(CollisionModel(load_arm(), read_scene(SCENE)), 25) > 200


def test_distances_to_a_scene_by_hand():
    """Shapes with a closed form against the stick, a cylinder that points straight down at home height."""
    arm = load_arm()
    scene = read_scene(
        "[{name: floor, half_space: {normal: [0, 0, 1], offset: -0.1}}, {name: ball, sphere: 0.1, xyz: [0.5, 0.0, -0.2]},"
        " {name: block, box: [0.2, 0.2, 0.1], xyz: [0.5, 0.0, -0.3]},"
        " {name: lying, capsule: [0.05, 2.0], xyz: [0.5, 0.3, 0.0], rpy: [0, 1.5707963268, 0]}]"
    )
    q = Kinematics(arm).solve(np.array([0.5, 0.0, 0.1]))
    model = CollisionModel(arm, scene)
    found = {pair: d for pair, d in zip(model.pairs, model.distances(q), strict=True) if pair[0] == "tool_stick"}
    assert found["tool_stick", "floor"] == pytest.approx(0.2, abs=1e-5)
    assert found["tool_stick", "ball"] == pytest.approx(0.2, abs=1e-5)
    assert found["tool_stick", "block"] == pytest.approx(0.35, abs=1e-5)
    # The capsule's axis lies at y = 0.3, z = 0; the stick's lower rim at y = 0.015, z = 0.1.
    assert found["tool_stick", "lying"] == pytest.approx(np.hypot(0.285, 0.1) - 0.05, abs=1e-5)


def test_penetration_is_negative_and_as_deep_as_it_is():
    arm = load_arm()
    q = arm.home
    free = CollisionModel(arm, read_scene("[{name: floor, half_space: {normal: [0, 0, 1], offset: -2.0}}]"))
    sunk = CollisionModel(arm, read_scene("[{name: floor, half_space: {normal: [0, 0, 1], offset: 0.9}}]"))
    index = free.pairs.index(("tool_stick", "floor"))
    assert free.distances(q)[index] - sunk.distances(q)[index] == pytest.approx(2.9, abs=1e-6)
    assert sunk.distances(q)[index] < 0


def test_what_is_allowed_and_what_cannot_move_is_not_checked():
    arm = load_arm()
    bare = CollisionModel(arm).pairs
    joined = {("panda_link1", "panda_link2"), ("panda_hand", "tool_stick"), ("panda_link6", "panda_hand")}
    assert not joined & set(bare)
    assert ("panda_link0", "panda_hand") in bare
    never = ("panda_link0", "panda_link2")
    assert never in arm.allowed_collisions and never not in bare
    assert never in CollisionModel(replace(arm, allowed_collisions=())).pairs
    pairs = CollisionModel(arm, read_scene(SCENE)).pairs
    assert ("tool_stick", "wall") in pairs and ("tool_stick", "floor") not in pairs
    assert not [pair for pair in pairs if pair[0] == "panda_link0" and pair[1] in ("floor", "wall", "ball", "post")]


@pytest.mark.parametrize("name", ["panda_link3", "panda_hand"])
def test_an_obstacle_called_like_a_link_is_refused(name):
    """By its name it would count as moving along with the arm, and a stop into it as clear."""
    with pytest.raises(ArmError, match=f"obstacle '{name}' is called like"):
        CollisionModel(load_arm(), read_scene(f"[{{name: {name}, sphere: 0.05, xyz: [0.5, 0.2, 0.1]}}]"))


def test_an_allowed_link_that_the_arm_has_not_is_one_line():
    with pytest.raises(ArmError, match="has no link 'elbow'") as caught:
        CollisionModel(load_arm(), read_scene("[{name: ball, sphere: 0.1, allowed: [elbow]}]"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{name: ball}", "is a list of obstacles"),
        ("[3]", "an obstacle is"),
        ("[{sphere: 1.0}]", "has no name"),
        ("[{name: a, sphere: 1.0}, {name: a, sphere: 1.0}]", "two obstacles are called 'a'"),
        ("[{name: a}]", "exactly one of"),
        ("[{name: a, sphere: 1.0, box: [1, 1, 1]}]", "exactly one of"),
        ("[{name: a, sphere: 1.0, colour: red}]", "unknown key colour"),
        ("[{name: a, sphere: -1.0}]", "must be positive"),
        ("[{name: a, sphere: .nan}]", "not finite"),
        ("[{name: a, sphere: big}]", "needs 1 number"),
        ("[{name: a, capsule: [0.1, -1]}]", "a capsule is"),
        ("[{name: a, box: [1, 1]}]", "needs 3 numbers"),
        ("[{name: a, box: [1, 0, 1]}]", "must be positive"),
        ("[{name: a, box: {min: [0, 0, 1], max: [1, 1, 0]}}]", "min >= max in z"),
        ("[{name: a, box: {min: [0, 0, 0]}}]", "a box is"),
        ("[{name: a, box: {min: [0, 0, 0], max: [1, 1, 1]}, xyz: [0, 0, 0]}]", "already says where it is"),
        ("[{name: a, half_space: {normal: [0, 0, 0], offset: 0}}]", "no direction"),
        ("[{name: a, half_space: {normal: [0, 0, 1]}}]", "a half space is"),
        ("[{name: a, sphere: 1.0, xyz: [0, 0, .inf]}]", "not finite"),
        ("[{name: a, sphere: 1.0, allowed: panda_hand}]", "list of link names"),
        ("[{name: [", "not YAML"),
        ("no_such_scene.yaml", "cannot read scene"),
    ],
)
def test_a_malformed_scene_is_one_line(text, reason):
    with pytest.raises(SceneError, match=reason) as caught:
        read_scene(text)
    assert "\n" not in str(caught.value)


def test_a_scene_is_read_from_a_file_too(tmp_path):
    file = tmp_path / "scene.yaml"
    file.write_text(SCENE)
    assert read_scene(file) == read_scene(str(file)) == read_scene(SCENE)
    assert [obstacle.name for obstacle in read_scene(SCENE).obstacles] == ["floor", "wall", "ball", "post"]
    assert read_scene("") == Scene()
