"""From tool points to joints: straight between them, at the asked times, inside the limits or not at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from linear_world import FLAT, LinearWorld

from arm_model import Kinematics, UnreachableError, load_arm
from planner_node.assembly import PlannerConfig
from planner_node.commanded import Commanded
from planner_node.controller import LatentController
from planner_node.guardrails.zone import Zone
from planner_node.joint_path import JointPath, JointPathError, resolve
from planner_node.pursuit import PursuitConfig, pursue
from planner_node.solvers.solver import Deadline
from sim.tasks import TASKS

PERIOD_S, SPACING_S = 0.2, 0.05


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(load_arm())


def path(kinematics: Kinematics, points: list, limits=None, **kw) -> JointPath:
    seed = kinematics.solve(np.array(points[0]))
    return resolve(np.array(points), PERIOD_S, SPACING_S, kinematics, limits or kinematics.arm.limits, kw.pop("seed", seed))


CORNER = [[0.5, 0.0, 0.2], [0.54, 0.0, 0.2], [0.54, 0.03, 0.22], [0.54, 0.03, 0.22]]


def test_times_and_places_are_those_of_the_points(kinematics):
    resolved = path(kinematics, CORNER)
    assert np.allclose(resolved.times, np.arange(13) * SPACING_S)
    assert np.allclose(resolved.points[::4], CORNER)
    assert np.allclose(kinematics.tool_points(resolved.positions), resolved.points, atol=1e-5)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_the_tool_goes_straight_from_point_to_point(kinematics, task):
    """Joints are led straight between path points; the tool's deviation in between is the bow of a 50 ms piece."""
    rng = np.random.default_rng(0)
    points = [rng.uniform(task.tool_step.lower, task.tool_step.upper)]
    for _ in range(6):
        points.append(task.tool_step.advance(points[-1], rng.uniform(-1, 1, task.tool_step.action_dim)))
    resolved = path(kinematics, points)
    for k in range(len(resolved.times) - 1):
        middle = kinematics.tool_point((resolved.positions[k] + resolved.positions[k + 1]) / 2)
        assert np.linalg.norm(middle - (resolved.points[k] + resolved.points[k + 1]) / 2) < 2e-4


def test_velocities_are_the_slope_of_the_positions_and_end_at_rest(kinematics):
    resolved = path(kinematics, CORNER)
    assert np.allclose(resolved.velocities[1:-1], (resolved.positions[2:] - resolved.positions[:-2]) / (2 * SPACING_S), atol=1e-9)
    assert np.all(resolved.velocities[-1] == 0)


def test_commands_are_interpolated_and_held_outside(kinematics):
    resolved = path(kinematics, CORNER)
    assert np.allclose(resolved.tool_at(0.1), [0.52, 0.0, 0.2])
    assert np.allclose(resolved.tool_at(-1.0), CORNER[0]) and np.allclose(resolved.tool_at(9.0), CORNER[-1])
    assert np.allclose(kinematics.tool_point(resolved.joints_at(0.125)), resolved.tool_at(0.125), atol=1e-4)


def test_a_path_of_one_point_is_a_stand(kinematics):
    resolved = path(kinematics, CORNER[:1])
    assert resolved.times.tolist() == [0.0] and np.all(resolved.velocities == 0)


def test_a_path_beyond_reach_is_refused(kinematics):
    with pytest.raises(UnreachableError):
        path(kinematics, [[0.8, 0.0, 0.2], [1.2, 0.0, 0.2]], seed=kinematics.arm.home)
    with pytest.raises(UnreachableError):
        path(kinematics, [[0.5, 0.0, 0.2], [np.nan, 0.0, 0.2]])


def test_a_joint_that_would_be_too_fast_is_named(kinematics):
    with pytest.raises(JointPathError, match=r"panda_joint\d would move faster than its limit"):
        path(kinematics, [[0.4, -0.2, 0.2], [0.6, 0.2, 0.2]], limits=kinematics.arm.limits.scaled(velocity=0.5))


def test_a_joint_that_would_leave_its_range_is_named(kinematics):
    limits = kinematics.arm.limits
    here = path(kinematics, CORNER).positions
    tight = replace(limits, upper=np.where(np.arange(7) == 1, here[0, 1] + 1e-3, limits.upper))
    with pytest.raises(JointPathError, match="panda_joint2 would leave its range"):
        path(kinematics, CORNER, limits=tight)


# Which path is in force when.


def straight(start: float, end: float) -> JointPath:
    times = np.array([0.0, 1.0])
    positions = np.array([[start], [end]])
    return JointPath(times, positions, np.zeros_like(positions), np.array([[start, 0, 0], [end, 0, 0]]))


def test_a_path_is_in_force_from_its_beginning_to_that_of_the_next():
    commanded = Commanded(np.array([0.0]), np.zeros(3), 0)
    commanded.follow(straight(0.0, 1.0), 1_000_000_000)
    commanded.follow(straight(5.0, 6.0), 1_500_000_000)
    for ns, joint in (
        (-5, 0.0),
        (0, 0.0),
        (999_999_999, 0.0),
        (1_250_000_000, 0.25),
        (1_500_000_000, 5.0),
        (2_000_000_000, 5.5),
        (9_000_000_000, 6.0),
    ):
        assert commanded.joints_at(ns)[0] == pytest.approx(joint) and commanded.tool_at(ns)[0] == pytest.approx(joint)


def test_a_path_replaces_those_that_would_have_begun_later():
    commanded = Commanded(np.array([0.0]), np.zeros(3), 0)
    commanded.follow(straight(1.0, 1.0), 2_000_000_000)
    commanded.follow(straight(3.0, 3.0), 1_000_000_000)
    assert commanded.joints_at(3_000_000_000)[0] == 3.0


def test_only_the_last_few_paths_are_kept():
    commanded = Commanded(np.array([0.0]), np.zeros(3), 0)
    for second in range(1, 30):
        commanded.follow(straight(second, second), second * 1_000_000_000)
    assert commanded.joints_at(29_500_000_000)[0] == 29.0 and commanded.joints_at(25_500_000_000)[0] == 25.0
    assert commanded.joints_at(0)[0] > 15.0, "older ones are gone, the oldest that is left stands for them"


# How a tool that cannot change its velocity at once follows planned points.

AROUND = np.array([[0.4, 0.0, 0.02], [0.44, 0.0, 0.02], [0.44, 0.04, 0.02], [0.4, 0.04, 0.02]])
STILL = np.zeros(3)


@pytest.mark.parametrize("velocity", [STILL, np.array([0.2, 0.0, 0.0]), np.array([-0.2, -0.2, 0.0])])
def test_a_pursuit_accelerates_within_bounds_and_rests_at_the_last_point(velocity):
    config = PursuitConfig()
    times, tools = pursue(AROUND, FLAT, AROUND[0], velocity, config)
    speeds = np.concatenate([velocity[None], np.diff(tools, axis=0) / config.cycle_s])
    assert np.linalg.norm(np.diff(speeds, axis=0), axis=1).max() / config.cycle_s <= config.acceleration + 1e-6
    assert np.array_equal(tools[0], AROUND[0]) and len(times) == len(tools)
    assert np.linalg.norm(tools[-1] - AROUND[-1]) < 3e-3 and np.linalg.norm(speeds[-1]) < 0.03


def test_a_pursuit_stays_inside_the_workspace():
    edge = np.array([[0.32, 0.0, 0.02], [0.3, 0.0, 0.02], [0.3, 0.04, 0.02]])
    _, tools = pursue(edge, FLAT, edge[0], np.array([-0.3, 0.0, 0.0]), PursuitConfig())
    assert np.all(tools >= np.array(FLAT.lower)) and np.all(tools <= np.array(FLAT.upper))


def test_standing_still_is_pursued_by_standing_still():
    _, tools = pursue(np.stack([AROUND[0]] * 2), FLAT, AROUND[0], STILL, PursuitConfig())
    assert np.array_equal(tools, np.tile(AROUND[0], (len(tools), 1)))


@pytest.mark.parametrize("zone", [Zone((0.5, 0.0), (0.01, 0.09), 0.2), Zone((0.5, 0.0), (0.0, 0.0), radius=0.05)])
def test_pursued_and_replanned_20_times_a_second_the_tool_keeps_its_clearance(zone):
    """Corners are cut, but each plan starts where the tool is and clears the zone from there."""
    clearance_m, goal = 0.015, np.array([0.62, 0.03], np.float32)
    controller = LatentController(
        LinearWorld(), FLAT, PlannerConfig(clearance_m=clearance_m, critics={"temporal_distance": 1.0, "actor_prior": 0.25})
    )
    controller.start(goal, 30, [zone])
    tool, velocity, visited = np.array([0.4, 0.01, 0.02]), STILL, []
    for tick in range(100):
        controller.see(0.05 * tick, tool[:2].astype(np.float32), tool)
        plan = controller.plan(0.05 * tick, tool, Deadline.after(60.0))
        assert plan.feasible
        _, tools = pursue(plan.points[:4], FLAT, tool, velocity, PursuitConfig())
        tool, velocity = tools[5], (tools[6] - tools[4]) / 0.02
        visited += list(tools[1:6])
    assert zone.signed_distance(np.array(visited)).min() > clearance_m - 1e-3
    assert np.linalg.norm(tool[:2] - goal) < 0.01


def test_what_is_commanded_between_two_points_is_what_numpy_interpolates_to_the_bit():
    """A recorded run is planned again from it: another last digit would be another run."""
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 19, 40):
        for times in (np.arange(size) * SPACING_S, np.cumsum(rng.uniform(1e-3, 0.1, size))):
            joints, points = rng.normal(size=(size, 7)), rng.normal(size=(size, 3))
            commanded = JointPath(times, joints, joints, points)
            asked = [*rng.uniform(times[0] - 0.1, times[-1] + 0.1, 50), *times, *np.nextafter(times, np.inf), *np.nextafter(times, -np.inf)]
            for time_s in map(float, asked):
                assert commanded.joints_at(time_s).tobytes() == np.array([np.interp(time_s, times, column) for column in joints.T]).tobytes()
                assert commanded.tool_at(time_s).tobytes() == np.array([np.interp(time_s, times, column) for column in points.T]).tobytes()
