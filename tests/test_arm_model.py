"""The body: limits from a URDF, one arm as one YAML file, kinematics there and back, and what an action means."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from arm_model import ArmError, Kinematics, LimitsError, ToolStep, UnreachableError, load_arm
from arm_model.description import ROBOTS
from arm_model.limits import read_limits
from sim.tasks import TASKS

BOXES = sorted({(task.tool_step.lower, task.tool_step.upper) for task in TASKS.values()})


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(load_arm())


def grid(lower: tuple[float, ...], upper: tuple[float, ...], count: int = 4) -> np.ndarray:
    """Corners, edges and inside of a box ``(count^3, 3)``."""
    return np.array(list(itertools.product(*(np.linspace(a, b, count) for a, b in zip(lower, upper, strict=True)))))


@pytest.mark.parametrize(("lower", "upper"), BOXES)
def test_every_point_of_a_workspace_is_reached_inside_the_limits(kinematics, lower, upper):
    limits = kinematics.arm.limits
    for point in grid(lower, upper):
        q = kinematics.solve(point)
        assert np.allclose(kinematics.tool_point(q), point, atol=1e-5)
        assert np.all(q > limits.lower) and np.all(q < limits.upper)
        assert q[kinematics.arm.held_joint] == kinematics.arm.home[kinematics.arm.held_joint]


@pytest.mark.parametrize(("lower", "upper"), BOXES)
def test_a_point_has_one_configuration_wherever_the_arm_comes_from(kinematics, lower, upper):
    corners = [kinematics.solve(point) for point in grid(lower, upper, 2)]
    for point in grid(lower, upper, 3):
        answers = np.array([kinematics.solve(point, seed) for seed in (kinematics.arm.home, *corners)])
        assert np.ptp(answers, axis=0).max() < 1e-4


def test_a_seed_with_a_turned_elbow_gives_the_same_configuration(kinematics):
    turned = kinematics.arm.home + np.where(np.arange(7) == kinematics.arm.held_joint, 0.2, 0.0)
    point = np.array([0.5, 0.1, 0.2])
    assert np.allclose(kinematics.solve(point, turned), kinematics.solve(point), atol=1e-5)


def test_solving_does_not_change_its_seed(kinematics):
    seed = kinematics.arm.home.copy()
    kinematics.solve(np.array([0.5, 0.1, 0.2]), seed)
    assert np.array_equal(seed, kinematics.arm.home)


def test_tool_points_are_those_of_each_configuration(kinematics):
    qs = kinematics.arm.home + np.linspace(-0.1, 0.1, 3)[:, None]
    assert np.array_equal(kinematics.tool_points(qs), np.array([kinematics.tool_point(q) for q in qs]))
    assert kinematics.tool_points(qs[:0]).shape == (0, 3)


@pytest.mark.parametrize("point", [(2.0, 0.0, 0.2), (0.0, 0.0, 0.0), (0.5, 0.0, -0.9), (np.nan, 0.0, 0.2), (np.inf, 0.0, 0.2)])
def test_what_cannot_be_reached_is_refused_in_one_line(kinematics, point):
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        kinematics.solve(np.array(point))
    assert "\n" not in str(caught.value)


# An arm's files.


@pytest.fixture
def arm_files(tmp_path) -> Path:
    """The shipped arm as files that a test may spoil."""
    for name in ("panda_stick.urdf", "panda_stick.yaml"):
        (tmp_path / name).write_text((ROBOTS / name).read_text())
    return tmp_path


def spoil(file: Path, **changes: object) -> Path:
    """``file`` with keys changed, or left out where the value is None."""
    content = yaml.safe_load(file.read_text()) | changes
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return file


def test_an_arm_is_found_by_name_and_by_path(arm_files):
    assert load_arm("panda_stick").joints == load_arm(arm_files / "panda_stick.yaml").joints


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"home": None}, "missing home"),
        ({"home": [0.0, 1.0]}, "2 angles for 7 joints"),
        ({"home": ["a"] * 7}, "home must be a list of angles"),
        ({"home": [9.0] * 7}, "outside the position limits"),
        ({"home": [float("nan")] * 7}, "outside the position limits"),
        ({"joints": "panda_joint1"}, "joints must be a list"),
        ({"joints": ["panda_joint1"] * 7}, "given twice"),
        ({"joints": [*(f"panda_joint{n}" for n in range(1, 7)), "elbow"]}, "'elbow' has no <limit>"),
        ({"held_joint": "panda_joint9"}, "is not one of the joints"),
        ({"urdf": "gone.urdf"}, "cannot read URDF"),
        ({"urdf": 3}, "cannot read URDF"),
    ],
)
def test_a_malformed_description_is_one_line(arm_files, changes, reason):
    with pytest.raises((ArmError, LimitsError), match=reason) as caught:
        load_arm(spoil(arm_files / "panda_stick.yaml", **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "reason"), [("- a\n- b\n", "not a mapping"), ("{home: [", "not YAML")])
def test_what_is_no_mapping_is_refused(arm_files, text, reason):
    file = arm_files / "panda_stick.yaml"
    file.write_text(text)
    with pytest.raises(ArmError, match=reason) as caught:
        load_arm(file)
    assert "\n" not in str(caught.value)


def test_an_unknown_arm_lists_the_shipped_ones():
    with pytest.raises(ArmError, match="no arm description 'ur5'; shipped ones: franka_panda, kuka_iiwa, panda_stick, "):
        load_arm("ur5")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('jerk="', 'jolt="', "has no jerk limit"),
        ('velocity="', 'velocity="fast', "is not a number"),
        ('acceleration="', 'acceleration="-', "is not positive"),
        ('lower="', 'lower="inf" was="', "is not finite"),
        ("</robot>", "", "cannot read URDF"),
    ],
)
def test_a_urdf_without_usable_limits_is_refused(arm_files, before, after, reason):
    file = arm_files / "panda_stick.urdf"
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(LimitsError, match=reason) as caught:
        load_arm(arm_files / "panda_stick.yaml")
    assert "\n" not in str(caught.value)


def test_a_tool_frame_that_the_urdf_lacks_is_refused(arm_files):
    with pytest.raises(ArmError, match="no frame 'gripper'"):
        Kinematics(load_arm(spoil(arm_files / "panda_stick.yaml", tool_frame="gripper")))


def test_a_urdf_whose_links_do_not_connect_is_refused(arm_files):
    file = arm_files / "panda_stick.urdf"
    file.write_text(file.read_text().replace('<parent link="panda_link3"', '<parent link="nowhere"'))
    with pytest.raises(ArmError, match="is not a URDF") as caught:
        Kinematics(load_arm(arm_files / "panda_stick.yaml"))
    assert "\n" not in str(caught.value)


def test_a_base_frame_that_is_not_the_root_is_refused(arm_files):
    with pytest.raises(ArmError, match="'panda_link1' is not the root"):
        Kinematics(load_arm(spoil(arm_files / "panda_stick.yaml", base_frame="panda_link1")))


def test_joints_in_another_order_than_the_urdf_are_refused(arm_files):
    names = [f"panda_joint{n}" for n in (2, 1, 3, 4, 5, 6, 7)]
    home = load_arm().home[[1, 0, 2, 3, 4, 5, 6]].tolist()
    with pytest.raises(ArmError, match="in the order of the URDF"):
        Kinematics(load_arm(spoil(arm_files / "panda_stick.yaml", joints=names, home=home)))


def test_limits_come_in_the_order_that_was_asked_for():
    urdf = load_arm().urdf
    forth, back = read_limits(urdf, ("panda_joint1", "panda_joint4")), read_limits(urdf, ("panda_joint4", "panda_joint1"))
    assert np.array_equal(forth.upper, back.upper[::-1]) and forth.upper[0] != forth.upper[1]


def test_scaled_limits_are_tighter_and_bad_scales_are_refused():
    limits = load_arm().limits
    tight = limits.scaled(velocity=0.5, margin=0.1)
    assert (
        np.allclose(tight.velocity, limits.velocity / 2)
        and np.allclose(tight.lower, limits.lower + 0.1)
        and np.allclose(tight.upper, limits.upper - 0.1)
    )
    assert np.array_equal(tight.jerk, limits.jerk)
    for bad in ({"velocity": 1.1}, {"jerk": 0.0}, {"acceleration": float("nan")}, {"margin": 9.0}, {"margin": -0.1}):
        with pytest.raises(LimitsError):
            limits.scaled(**bad)


# What an action means.

FLAT = ToolStep(length_m=0.04, period_s=0.2, lower=(0.3, -0.2, 0.02), upper=(0.7, 0.2, 0.02))
ROOM = ToolStep(length_m=0.04, period_s=0.2, lower=(0.3, -0.2, 0.1), upper=(0.7, 0.2, 0.4))


def test_driven_axes_are_those_with_room():
    assert FLAT.action_dim == 2 and ROOM.action_dim == 3


@given(st.sampled_from([FLAT, ROOM]), st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.lists(st.floats(-1, 2), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_a_step_is_bounded_stays_in_the_box_and_can_be_read_back(step, action, start):
    point = step.clamp(np.array(start))
    after = step.advance(point, np.array(action[: step.action_dim]))
    assert np.all(after >= step.lower) and np.all(after <= step.upper)
    assert np.abs(after - point).max() <= step.length_m + 1e-12
    again = step.advance(point, step.between(point, after))
    assert np.allclose(again, after, atol=1e-8)
    assert step.between(point, after).dtype == np.float32


def test_a_step_works_on_many_points_at_once_and_leaves_them_as_they_are():
    points = np.tile([0.5, 0.0, 0.2], (4, 2, 1))
    before = points.copy()
    after = ROOM.advance(points, np.ones((4, 2, 3)))
    assert np.allclose(after - before, 0.04) and np.array_equal(points, before)


def test_a_tool_step_is_read_back_from_a_manifest():
    assert ToolStep.from_json(asdict(ROOM)) == ROOM


@pytest.mark.parametrize(
    "change",
    [
        {"length_m": 0.0},
        {"length_m": float("nan")},
        {"period_s": -1.0},
        {"period_s": float("inf")},
        {"period_s": "soon"},
        {"lower": [0.3, -0.2]},
        {"lower": [0.3, float("nan"), 0.1]},
        {"lower": [0.8, -0.2, 0.1]},
        {"upper": [0.3, 0.2, 0.4]},
        {"lower": [0.7, 0.2, 0.4]},
        {"upper": None},
    ],
)
def test_a_malformed_tool_step_is_refused(change):
    with pytest.raises(ValueError, match=r"."):
        ToolStep.from_json(asdict(ROOM) | change)


def test_a_tool_step_without_a_key_is_refused():
    with pytest.raises(ValueError, match="not a tool step"):
        ToolStep.from_json({"length_m": 0.04})
