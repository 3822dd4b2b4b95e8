"""Guardrails of the search: against coal, PyBullet, inverse kinematics solved exactly, and plain numpy."""

from __future__ import annotations

import coal
import numpy as np
import pinocchio as pin
import pybullet
import pytest
from bullet_arm import BulletArm
from hypothesis import given, settings
from hypothesis import strategies as st

from arm_model import ArmError, Kinematics, SceneError, ToolStep, load_arm
from arm_model.scene import Box, Capsule, HalfSpace, Sphere, read_scene
from planner_node.action import PlainAction
from planner_node.guardrails.guardrail import SAMPLES_PER_STEP, Guardrail, is_timed, sampled
from planner_node.guardrails.keep_out import KeepOutGuardrail
from planner_node.guardrails.lattice import Lattice
from planner_node.guardrails.options import GuardrailError
from planner_node.guardrails.registry import BUILDERS, build_guardrails, build_posture_check
from planner_node.guardrails.tool_speed import ToolSpeedGuardrail
from planner_node.guardrails.zone import ZoneError
from planner_node.joint_path import JointPathError
from planner_node.objective import Objective
from planner_node.plan import Candidates

SOLIDS = """
- {name: box, box: [0.2, 0.1, 0.3], xyz: [0.5, 0.1, 0.2], rpy: [0.3, -0.5, 1.0]}
- {name: ball, sphere: 0.1, xyz: [0.3, -0.1, 0.1]}
- {name: stick, capsule: [0.05, 0.3], xyz: [0.2, 0.1, 0.3], rpy: [0.9, 0.4, -0.2]}
- {name: floor, half_space: {normal: [0.1, 0.2, 1.0], offset: 0.05}}
"""
STEP = ToolStep(length_m=0.04, period_s=0.2, lower=(0.38, -0.16, 0.08), upper=(0.62, 0.16, 0.24))
SCENE = "[{name: post, box: {min: [0.42, 0.14, 0.0], max: [0.48, 0.34, 0.35]}}, {name: roof, half_space: {normal: [0, 0, -1], offset: -0.9}}]"
EVERYTHING = f"""
zones: [{{centre: [0.5, -0.1], half: [0.05, 0.02], yaw: 0.3}}]
keep_out: [{{name: ball, sphere: 0.05, xyz: [0.6, 0.0, 0.2]}}]
clearance: 0.01
tool_speed: {{limit: 0.3}}
joint_position: {{margin: 0.1}}
joint_velocity: {{scale: 0.5, joints: {{panda_joint1: 0.2}}}}
joint_acceleration: {{scale: 0.3}}
collision: {{clearance: 0.01, scene: {SCENE}}}
singularity: {{least: 0.05}}
lattice: {{spacing: 0.04}}
"""


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(load_arm())


@pytest.fixture(scope="module")
def built(kinematics) -> dict[str, Guardrail]:
    return {guardrail.name: guardrail for guardrail in build_guardrails(EVERYTHING, kinematics.arm, kinematics, STEP)}


def random_points(count: int, horizon: int, seed: int = 0) -> np.ndarray:
    """Commanded points ``(N, H+1, 3)`` of random actions inside the workspace."""
    rng = np.random.default_rng(seed)
    points = [rng.uniform(STEP.lower, STEP.upper, (count, 3))]
    for _ in range(horizon):
        points.append(STEP.advance(points[-1], rng.uniform(-1, 1, (count, 3))))
    return np.stack(points, axis=1)


def solved(kinematics: Kinematics, path: np.ndarray) -> np.ndarray:
    """Joints of tool points ``(..., 3)``, without interpolation."""
    q, rows = None, []
    for point in path.reshape(-1, 3):
        q = kinematics.solve(point, q)
        rows.append(q)
    return np.array(rows).reshape(*path.shape[:-1], -1)


# Analytic margins on the tool point.


def test_signed_distances_to_solids_are_those_of_a_geometry_library():
    points = np.random.default_rng(0).uniform([-0.1, -0.4, -0.2], [0.9, 0.5, 0.6], (400, 3))
    for obstacle in read_scene(SOLIDS).obstacles:
        shape, tiny = obstacle.shape, coal.Sphere(1e-7)
        solid = {
            Box: lambda s: coal.Box(*s.size),
            Sphere: lambda s: coal.Sphere(s.radius),
            Capsule: lambda s: coal.Capsule(s.radius, s.length),
            HalfSpace: lambda s: coal.Halfspace(np.array(s.normal), s.offset),
        }[type(shape)](shape)
        where = coal.Transform3s(pin.rpy.rpyToMatrix(*obstacle.rpy), np.array(obstacle.xyz))
        theirs = []
        for point in points:
            result = coal.DistanceResult()
            coal.distance(tiny, coal.Transform3s(np.eye(3), point), solid, where, coal.DistanceRequest(), result)
            theirs.append(result.min_distance)
        ours = KeepOutGuardrail(obstacle, clearance=0.03).margins(points.reshape(20, 20, 3))
        assert ours.shape == (20, 20)
        assert np.allclose(ours.ravel() + 0.03, theirs, atol=2e-5), obstacle.name
        assert min(theirs) < -0.01 < 0.01 < max(theirs)


def test_tool_speed_is_the_length_of_a_step_over_its_time():
    points = np.zeros((1, 3, 3))
    points[0, 1], points[0, 2] = [0.03, 0.0, 0.0], [0.03, 0.04, 0.0]
    margins = ToolSpeedGuardrail(limit=0.2, period_s=0.2).margins(sampled(points))
    assert np.allclose(margins[0, :SAMPLES_PER_STEP], 0.04 - 0.03) and np.allclose(margins[0, SAMPLES_PER_STEP:], 0.0)
    assert np.allclose(ToolSpeedGuardrail(0.2, 0.2).margins(points[:, :1]), 0.04), "a single point stands still"


@given(st.integers(0, 2**32 - 1), st.sampled_from([(2, 3, 4), (3, 2, 1), (5, 1, 1)]))
@settings(max_examples=30, deadline=None)
def test_interpolation_is_exact_for_what_is_linear_along_each_axis(seed, counts):
    rng = np.random.default_rng(seed)
    lower = rng.uniform(-1, 0, 3)
    upper = lower + np.where(np.array(counts) > 1, rng.uniform(0.1, 1, 3), 0.0)
    lattice = Lattice(tuple(lower), tuple(upper), counts)
    weights = rng.normal(size=(2, 2, 2, 2))

    def value(points: np.ndarray) -> np.ndarray:
        x, y, z = (np.stack([np.ones_like(points[..., 0]), points[..., axis]], -1) for axis in range(3))
        return np.einsum("...a,...b,...c,abcv->...v", x, y, z, weights)

    points = rng.uniform(lower, upper, (3, 7, 3))
    table = lattice.table(value(lattice.nodes()))
    assert np.allclose(lattice.interpolate(table, *lattice.locate(points)), value(points))
    ends = np.stack([lower, upper])
    assert np.allclose(lattice.interpolate(table, *lattice.locate(ends)), value(ends))
    assert np.allclose(lattice.beyond(points), 0.0) and np.allclose(lattice.beyond(upper + np.array([0.3, 0.0, 0.4])), 0.5)


def test_a_lattice_is_as_fine_as_asked_and_has_its_middles_in_the_middle():
    lattice = Lattice.over((0.0, 0.0, 0.1), (0.1, 0.3, 0.1), 0.03)
    assert lattice.counts == (5, 11, 1) and lattice.cells == (4, 10, 1)
    nodes, centres = lattice.nodes(), lattice.centres()
    assert np.diff(nodes[:, 0, 0, 0]).max() <= 0.03 and nodes[-1, -1, 0].tolist() == [0.1, 0.3, 0.1]
    assert np.allclose(centres[0, 0, 0], (nodes[0, 0, 0] + nodes[1, 1, 0]) / 2)


# Margins on joints.


def test_joint_position_is_never_overestimated_and_seldom_far_off(kinematics, built):
    path = sampled(random_points(6, 4))
    q, soft = solved(kinematics, path), kinematics.arm.soft_limits
    exact = np.minimum(q - soft.lower, soft.upper - q).min(-1) - 0.1
    ours = built["joint_position"].margins(path)
    assert ours.shape == path.shape[:2] and np.all(ours <= exact + 1e-4)
    assert np.quantile(exact - ours, 0.9) < 0.05


def test_joint_velocity_is_never_underestimated(kinematics, built):
    path = sampled(random_points(6, 4, seed=1))
    limit = 0.5 * kinematics.arm.limits.velocity
    limit[0] = 0.2
    dt = STEP.period_s / SAMPLES_PER_STEP
    speed = np.abs(np.diff(solved(kinematics, path), axis=1)) / dt
    exact = STEP.period_s * (limit - speed).min(-1)
    ours = built["joint_velocity"].margins(path)[:, 1:]
    assert np.all(ours <= exact + 2e-3) and np.quantile(exact - ours, 0.9) < 0.05
    assert np.any(ours < 0) and np.any(ours > 0)


def test_joint_acceleration_is_the_change_of_mean_velocity_between_steps(kinematics, built):
    points = random_points(8, 4, seed=2)
    q = solved(kinematics, points)
    change = np.abs(np.diff(q, n=2, axis=1)) / STEP.period_s**2
    exact = 0.5 * STEP.period_s**2 * (0.3 * kinematics.arm.limits.acceleration - change).min(-1)
    ours = built["joint_acceleration"].margins(sampled(points)).reshape(8, 4, SAMPLES_PER_STEP)
    assert np.all(ours[:, 0] > 0) and np.allclose(ours, ours[..., :1])
    assert np.allclose(ours[:, 1:, 0], exact, atol=0.02)
    assert np.any(exact < 0) and np.mean(np.sign(exact) == np.sign(ours[:, 1:, 0])) > 0.9


def test_singularity_is_the_smallest_singular_value_of_the_simulators_jacobian(kinematics, built):
    arm = kinematics.arm
    bullet, path = BulletArm(arm), sampled(random_points(4, 2, seed=3))
    free = [joint for joint in range(7) if joint != arm.held_joint]
    exact = []
    for q in solved(kinematics, path).reshape(-1, 7):
        bullet.place(q)
        zero = [0.0] * 7
        rows = bullet.client.calculateJacobian(bullet.body, bullet.links[arm.tool_frame], [0.0, 0.0, 0.0], q.tolist(), zero, zero)
        exact.append(np.linalg.svd(np.vstack(rows)[:, free], compute_uv=False)[-1] - 0.05)
    bullet.close()
    ours = built["singularity"].margins(path).ravel()
    assert np.all(ours <= np.array(exact) + 1e-4) and np.allclose(ours, exact, atol=0.01)


def test_what_is_clear_is_clear_in_the_simulator(kinematics, built):
    """A path whose margin is at least 0 keeps the clearance from the arm itself, from a post and from a roof, by PyBullet."""
    bullet = BulletArm(kinematics.arm)
    post = bullet.client.createCollisionShape(pybullet.GEOM_BOX, halfExtents=[0.03, 0.1, 0.175])
    bodies = [bullet.client.createMultiBody(0.0, post, -1, [0.45, 0.24, 0.175])]
    roof = bullet.client.createCollisionShape(pybullet.GEOM_BOX, halfExtents=[2.0, 2.0, 0.5])
    bodies.append(bullet.client.createMultiBody(0.0, roof, -1, [0.0, 0.0, 1.4]))
    collision, rng, clear, tight = built["collision"], np.random.default_rng(4), 0, 0
    path = sampled(random_points(12, 3, seed=5))
    margins = collision.margins(path)
    for row in range(len(path)):
        for index in rng.choice(path.shape[1], 8, replace=False):
            bullet.place(kinematics.solve(path[row, index]))
            least = min(
                (found[8] for body in bodies for found in bullet.client.getClosestPoints(bullet.body, body, 1.0) if found[3] >= 0), default=1.0
            )
            assert margins[row, index] <= least - 0.01 + 1.5e-3, f"{path[row, index]}: {margins[row, index]} but {least}"
            clear += margins[row, index] >= 0
            tight += margins[row, index] < 0
    bullet.close()
    assert clear > 5 and tight > 5


def test_a_point_that_is_no_number_is_not_safe(built):
    nowhere = np.array([[[np.nan, 0.0, 0.2], [0.5, np.nan, 0.2], [0.5, 0.0, 0.2]]])
    for guardrail in built.values():
        margins = guardrail.margins(nowhere)
        assert not np.any(margins[0, :2] >= 0) or guardrail.name == "joint_acceleration", guardrail.name
    assert not built["joint_acceleration"].margins(np.full((1, 2 * SAMPLES_PER_STEP, 3), np.nan))[0, -1] >= 0


def test_outside_the_workspace_nothing_is_promised(built):
    beyond = np.array([[[0.7, -0.1, 0.2], [0.5, -0.1, 0.2]]])
    for name in ("collision", "joint_position", "singularity"):
        margins = built[name].margins(beyond)
        assert margins[0, 0] < 0 <= margins[0, 1]


def test_where_the_arm_has_no_posture_nothing_is_promised(kinematics):
    far = ToolStep(length_m=0.04, period_s=0.2, lower=(0.6, 0.0, 0.2), upper=(1.0, 0.0, 0.2))
    guardrails = build_guardrails("{collision: {}, lattice: {spacing: 0.05}}", kinematics.arm, kinematics, far)
    margins = guardrails[-1].margins(np.array([[[0.62, 0.0, 0.2], [0.98, 0.0, 0.2]]]))
    assert margins[0, 0] > 0 > margins[0, 1]
    nowhere = ToolStep(length_m=0.04, period_s=0.2, lower=(1.6, 0.0, 0.2), upper=(1.7, 0.0, 0.2))
    with pytest.raises(GuardrailError, match="reaches nothing of the workspace"):
        build_guardrails("singularity: {}", kinematics.arm, kinematics, nowhere)


def test_a_six_joint_arm_has_the_same_guardrails():
    arm = load_arm("ur5e")
    kinematics = Kinematics(arm)
    step = ToolStep(length_m=0.04, period_s=0.2, lower=(0.35, -0.1, 0.2), upper=(0.5, 0.1, 0.2))
    guardrails = build_guardrails("{joint_velocity: {}, collision: {}, singularity: {}}", arm, kinematics, step)
    path = sampled(np.array([[[0.4, 0.0, 0.2], [0.42, 0.02, 0.2]]]))
    assert [guardrail.name for guardrail in guardrails] == ["workspace", "joint_velocity", "collision", "singularity"]
    assert all(np.all(guardrail.margins(path) >= 0) for guardrail in guardrails)


# Built by name.


def test_only_what_depends_on_time_needs_points_equally_far_apart(built):
    """The same way with five times as many points is as safe, for all that say so."""
    points = random_points(3, 2, seed=7)
    fine = points[:, :-1, None] + np.diff(points, axis=1)[:, :, None] * ((np.arange(40) + 1) / 40)[:, None]
    for guardrail in built.values():
        coarse, finer = guardrail.margins(sampled(points)), guardrail.margins(fine.reshape(3, -1, 3))
        assert np.allclose(finer[:, 4::5], coarse) != is_timed(guardrail), guardrail.name
    assert sum(map(is_timed, built.values())) == 3


def test_guardrails_come_by_name_in_a_fixed_order(built, kinematics):
    assert list(built) == [
        "workspace",
        "zone",
        "ball",
        "tool_speed",
        "joint_position",
        "joint_velocity",
        "joint_acceleration",
        "collision",
        "singularity",
    ]
    assert len(BUILDERS) == len(built)
    assert [guardrail.name for guardrail in build_guardrails("", kinematics.arm, kinematics, STEP)] == ["workspace"]
    assert built["zone"].clearance == built["ball"].clearance == 0.01


def test_the_search_prefers_what_keeps_every_margin(built):
    """One candidate goes through the ball, one is too fast, one is fine: only the last is feasible."""
    ways = [[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.01, 0.01, 0.0]]
    start, shares = np.array([0.52, 0.0, 0.2]), np.linspace(0, 1, 3)[:, None]
    points = np.array([start + shares * np.array(way) for way in ways])
    points[0] = start + shares * np.array([0.07, 0.0, 0.0])
    candidates = Candidates(np.zeros((3, 2, 3), np.float32), np.zeros((3, 2, 1), np.float32), points)
    scores = Objective([], [built[name] for name in ("ball", "tool_speed", "joint_position", "collision")]).score(None, candidates)
    assert (scores.margin >= 0).tolist() == [False, False, True] and scores.ranking()[0] == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("colision: {}", "unknown guardrail 'colision'; did you mean 'collision'"),
        ("[1, 2]", "must be a mapping"),
        ("a: [", "not YAML"),
        ("missing.yaml", "cannot read guardrails"),
        ("zones: [{min: [0.5, 0.1], max: [0.4, 0.2]}]", "min > max in x"),
        ("zones: [{centre: [0, 0]}]", "a zone is"),
        ("zones: wall", "must be a list"),
        ("keep_out: [{name: a, box: {min: [1, 0, 0], max: [0, 1, 1]}}]", "min >= max in x"),
        ("clearance: -0.1", "clearance is -0.1, must be at least 0"),
        ("clearance: wide", "must be a finite number"),
        ("tool_speed: {}", "tool_speed: needs limit"),
        ("tool_speed: {limit: 0}", "must be more than 0"),
        ("tool_speed: 0.3", "give its options as a mapping"),
        ("tool_speed: {limt: 0.3}", "unknown option 'limt'; did you mean 'limit'"),
        ("joint_position: {margin: -0.1}", "margin is -0.1"),
        ("joint_position: {margin: 2.0}", "margin is 2.0, must be at least 0 and at most"),
        ("joint_velocity: {joints: {panda_joint9: 1.0}}", "unknown joint 'panda_joint9'; did you mean 'panda_joint"),
        ("joint_velocity: {joints: {panda_joint1: 9.0}}", "panda_joint1 is 9.0, must be a number above 0 and at most 2.175"),
        ("joint_velocity: {joints: [1]}", "must map joints to numbers"),
        ("joint_acceleration: {scale: 1.5}", "scale is 1.5, must be more than 0 and at most 1"),
        ("joint_acceleration: {scale: .nan}", "must be a finite number"),
        ("collision: {clearance: -1}", "clearance is -1"),
        ("collision: {scene: gone.yaml}", "cannot read scene"),
        ("collision: {scene: [{name: a, sphere: 1.0, allowed: [nose]}]}", "has no link 'nose'"),
        ("singularity: {least: -1}", "least is -1"),
        ("lattice: {spacing: 0}", "must be more than 0"),
        ("{singularity: {}, lattice: {spacing: 0.0001}}", "choose it larger"),
        ("workspace: {lower: [0.9, 0.9, 0.9], upper: [1, 1, 1]}", "lies outside the task's"),
        ("workspace: {lower: [0.6, 0, 0], upper: [0.5, 1, 1]}", "min > max"),
        ("workspace: {low: 3}", "unknown option 'low'; did you mean 'lower'"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(kinematics, monkeypatch, text, reason):
    monkeypatch.setattr("planner_node.guardrails.registry.solve_map", lambda *_: pytest.fail("solved before it was read"))
    if "collision" in text and "clearance" in text:
        monkeypatch.undo()
    with pytest.raises((GuardrailError, ZoneError, SceneError, ArmError), match=reason) as caught:
        build_guardrails(text, kinematics.arm, kinematics, STEP)
    assert "\n" not in str(caught.value)


def test_a_workspace_may_be_tighter_but_not_wider(kinematics):
    (tight,) = build_guardrails("workspace: {lower: [0.45, -1.0, 0.1], upper: [0.55, 1.0, 0.2]}", kinematics.arm, kinematics, STEP)
    at = np.array([[[0.44, 0.0, 0.15], [0.5, 0.159, 0.15], [0.5, 0.17, 0.15]]])
    assert (tight.margins(at)[0] >= 0).tolist() == [False, True, False]


def test_a_scene_lies_beside_the_file_that_names_it(kinematics, tmp_path):
    (tmp_path / "scene.yaml").write_text(SCENE)
    (tmp_path / "guardrails.yaml").write_text("collision: {scene: scene.yaml}\nlattice: {spacing: 0.1}\n")
    guardrails = build_guardrails(tmp_path / "guardrails.yaml", kinematics.arm, kinematics, STEP)
    assert guardrails[-1].margins(np.array([[[0.45, 0.159, 0.15]]]))[0, 0] < 0


def test_the_joints_of_a_plan_are_measured_before_it_leaves(kinematics):
    """Straight through the post: refused by the pair that meets; out of it again: allowed, but no deeper."""
    text = f"collision: {{clearance: 0.02, scene: {SCENE}}}"
    check = build_posture_check(text, kinematics.arm)
    assert build_posture_check("tool_speed: {limit: 1.0}", kinematics.arm) is None
    ways = np.linspace([0.45, -0.1, 0.15], [0.45, 0.155, 0.15], 40)
    q = solved(kinematics, ways)
    check.require_clear(q[:15])
    with pytest.raises(JointPathError, match=r"(tool_stick|finger|hand) would come within -?\d+ mm of post"):
        check.require_clear(q)
    check.require_clear(q[::-1])
    with pytest.raises(JointPathError, match="of post"):
        check.require_clear(q[-3:])


def test_actions_that_move_no_tool_have_no_guardrails(kinematics):
    assert build_guardrails("", kinematics.arm, kinematics, PlainAction(3)) == []
    with pytest.raises(GuardrailError, match="these actions move no tool point"):
        build_guardrails("tool_speed: {limit: 1.0}", kinematics.arm, kinematics, PlainAction(3))
