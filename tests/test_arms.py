"""Every shipped arm: kinematics and distances against PyBullet, limits against what the makers publish, and descriptions that say what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import yaml
from bullet_arm import BulletArm
from latent_mpc.cli import run
from test_collision import check_gradients

from arm_model import ArmDescription, ArmError, CollisionModel, Kinematics, LimitsError, UnreachableError, load_arm, shipped_arms
from arm_model.allowed import examine_pairs
from arm_model.description import ROBOTS
from arm_model.packages import locate
from arm_model.urdf import resolved_urdf

# Boxes in front of each arm that its tool reaches pointing as described.
REACHED = {
    "franka_panda": ((0.4, -0.25, 0.05), (0.6, 0.25, 0.4)),
    "kuka_iiwa": ((0.5, -0.25, 0.1), (0.65, 0.25, 0.4)),
    "panda_stick": ((0.35, -0.25, 0.02), (0.65, 0.25, 0.4)),
    "ur5e": ((0.3, -0.25, 0.1), (0.55, 0.25, 0.4)),
    "xarm6": ((0.25, -0.25, 0.1), (0.5, 0.25, 0.4)),
}
# Meshes of several convex parts, which PyBullet keeps apart: our one hull can only be nearer.
IN_PARTS = {"xarm6"}


@pytest.fixture(scope="module", params=shipped_arms())
def arm(request) -> ArmDescription:
    return load_arm(request.param)


@pytest.fixture(scope="module")
def bullet(arm) -> Iterator[BulletArm]:
    oracle = BulletArm(arm)
    yield oracle
    oracle.close()


def test_every_arm_that_the_issue_names_is_shipped():
    assert set(shipped_arms()) == {"franka_panda", "kuka_iiwa", "panda_stick", "ur5e", "xarm6"} == set(REACHED)


def test_limits_are_finite_and_ordered(arm):
    limits, soft = arm.limits, arm.soft_limits
    for values in (limits.lower, limits.upper, limits.velocity, limits.acceleration, limits.jerk):
        assert values.shape == (len(arm.joints),) and np.all(np.isfinite(values))
    assert np.all(limits.lower <= soft.lower) and np.all(soft.lower < soft.upper) and np.all(soft.upper <= limits.upper)
    assert min(limits.velocity.min(), limits.acceleration.min(), limits.jerk.min()) > 0
    assert limits.velocity.max() < 4.0, "rad/s: no arm here is faster; a URDF's placeholder would be"


def test_forward_kinematics_are_those_of_the_simulator(arm, bullet):
    kinematics, rng = Kinematics(arm), np.random.default_rng(0)
    for _ in range(20):
        q = rng.uniform(arm.limits.lower, arm.limits.upper)
        bullet.place(q)
        assert np.allclose(kinematics.tool_point(q), bullet.tool(), atol=1e-5)


def test_the_jacobian_is_the_slope_of_the_tool_point(arm):
    kinematics, rng, step = Kinematics(arm), np.random.default_rng(1), 1e-6
    for _ in range(5):
        q = rng.uniform(arm.limits.lower, arm.limits.upper)
        slope = np.array([kinematics.tool_point(q + d) - kinematics.tool_point(q - d) for d in step * np.eye(len(q))]).T / (2 * step)
        assert np.allclose(kinematics.jacobian(q)[:3], slope, atol=1e-6)
        assert np.allclose(np.linalg.norm(kinematics.jacobian(q)[3:], axis=0), 1.0), "each joint turns the tool by its own angle"


def test_inverse_kinematics_find_every_point_of_a_box(arm, bullet):
    kinematics, rng = Kinematics(arm), np.random.default_rng(2)
    lower, upper = REACHED[arm.name]
    for point in rng.uniform(lower, upper, (25, 3)):
        q = kinematics.solve(point)
        bullet.place(q)
        assert np.allclose(bullet.tool(), point, atol=1e-4)
        assert np.all(q >= arm.limits.lower) and np.all(q <= arm.limits.upper)
        quaternion = bullet.client.getLinkState(bullet.body, bullet.links[arm.tool_frame], computeForwardKinematics=True)[5]
        down = np.array(bullet.client.getMatrixFromQuaternion(quaternion)).reshape(3, 3)[:, 2]
        assert np.allclose(down, [0.0, 0.0, -1.0], atol=1e-4)
        if arm.held_joint is not None:
            assert q[arm.held_joint] == arm.home[arm.held_joint]


def test_a_six_joint_arm_has_no_joint_to_hold(arm):
    assert (arm.held_joint is None) == (len(arm.joints) == 6)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        Kinematics(arm).solve(np.array([3.0, 0.0, 0.2]))


def test_home_is_free_with_room_to_spare(arm, bullet):
    model = CollisionModel(arm)
    assert model.distances(arm.home).min() > 0.02
    bullet.place(arm.home)
    assert min(bullet.distance(*pair) for pair in set(model.pairs)) > 0.02


def test_distances_are_those_of_the_simulator(arm, bullet):
    """Bullet rounds hulls by about a millimetre, and says little of how deep shapes overlap: separate ones are compared."""
    model, rng, compared = CollisionModel(arm), np.random.default_rng(3), 0
    pairs = list(dict.fromkeys(model.pairs))
    for _ in range(25):
        q = rng.uniform(arm.limits.lower, arm.limits.upper)
        bullet.place(q)
        ours = {pair: np.inf for pair in pairs}
        for pair, distance in zip(model.pairs, model.distances(q), strict=True):
            ours[pair] = min(ours[pair], distance)
        for pair in pairs:
            theirs = bullet.distance(*pair)
            if 0.002 < theirs < 0.5:
                compared += 1
                assert ours[pair] < theirs + 0.003, f"{pair} at {q.tolist()}"
                assert arm.name in IN_PARTS or ours[pair] > theirs - 0.003, f"{pair} at {q.tolist()}"
            elif theirs < -0.002:
                assert ours[pair] < 0
    assert compared > 30


def test_what_is_allowed_does_not_touch_in_the_simulator(arm, bullet):
    rng = np.random.default_rng(4)
    assert arm.allowed_collisions
    for _ in range(60):
        bullet.place(rng.uniform(arm.limits.lower, arm.limits.upper))
        assert min(bullet.distance(*pair) for pair in arm.allowed_collisions) > 0.0


def test_gradients_are_the_slopes_of_the_distances(arm):
    assert check_gradients(CollisionModel(arm), 30, within_m=0.4) > 30


def test_a_depth_that_could_not_be_found_is_still_a_number():
    arm = load_arm("ur5e")
    model, rng = CollisionModel(arm), np.random.default_rng(0)
    for _ in range(800):
        near = model.near(rng.uniform(arm.limits.lower, arm.limits.upper), 0.0)
        assert np.all(np.isfinite(near.distances)) and np.all(np.isfinite(near.gradients))


def test_the_ur5e_is_what_its_published_parameters_say():
    """Denavit-Hartenberg parameters from Universal Robots' page, multiplied out; the URDF's base looks the other way."""
    d, a, alpha = (0.1625, 0, 0, 0.1333, 0.0997, 0.0996), (0, -0.425, -0.3922, 0, 0, 0), (np.pi / 2, 0, 0, np.pi / 2, -np.pi / 2, 0)
    arm = load_arm("ur5e")
    kinematics, rng = Kinematics(arm), np.random.default_rng(5)
    for _ in range(10):
        q = rng.uniform(-np.pi, np.pi, 6)
        pose = np.diag([-1.0, -1.0, 1.0, 1.0])
        for angle, offset, length, twist in zip(q, d, a, alpha, strict=True):
            c, s, ct, st = np.cos(angle), np.sin(angle), np.cos(twist), np.sin(twist)
            pose = pose @ np.array([[c, -s * ct, s * st, length * c], [s, c * ct, -c * st, length * s], [0, st, ct, offset], [0, 0, 0, 1]])
        assert np.allclose(kinematics.tool_point(q), pose[:3, 3], atol=1e-6)


def test_pairs_that_cannot_touch_are_found_and_those_that_can_are_not():
    """On the description without its list: what is found must hold everything that is stored, and nothing that overlaps somewhere."""
    arm = load_arm("xarm6")
    reports = {report.pair: report for report in examine_pairs(CollisionModel(replace(arm, allowed_collisions=())), 800, np.random.default_rng(1))}
    assert {pair for pair, report in reports.items() if report.never} == set(arm.allowed_collisions)
    assert all(report.share == 0.0 for report in reports.values() if report.never)
    assert not any(report.always for report in reports.values())


def test_check_arm_says_what_an_arm_is(capsys):
    assert run(["check-arm", "kuka_iiwa", "--samples", "20"]) == 0
    printed = capsys.readouterr().out
    assert "7 joints, 4 pairs" in printed and "1.484 rad/s" in printed and "home: tool at [0.561, 0.0, 0.39]" in printed
    assert "allowed_collisions" not in printed, "twenty samples are not enough to leave a pair out"


def test_check_arm_refuses_a_home_that_touches(capsys):
    assert run(["check-arm", "ur5e", "--samples", "5", "--scene", "[{name: roof, half_space: {normal: [0, 0, -1], offset: -0.45}}]"]) == 2
    assert "home touches: " in (error := capsys.readouterr().err) and "roof" in error and error.count("\n") == 1


# Descriptions.


def described(tmp_path, name: str = "kuka_iiwa", **changes: object):
    """A shipped description with keys changed, or left out where the value is None."""
    content = yaml.safe_load((ROBOTS / f"{name}.yaml").read_text()) | changes
    file = tmp_path / "arm.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return file


LIMITS = {"acceleration": 7.0, "jerk": 140.0}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"limits": None}, r"joint 'lbr_iiwa_joint_1' has no acceleration limit; add acceleration=.* or 'acceleration' under limits in .*arm.yaml"),
        ({"limits": LIMITS | {"velocity": 11}}, "joint 'lbr_iiwa_joint_1' would get velocity 11.0, wider than its URDF's 10.0"),
        ({"limits": LIMITS | {"lower": [-2.0, -2.5, -2, -2, -2, -2, -2]}}, "joint 'lbr_iiwa_joint_2' would get lower -2.5, wider"),
        ({"limits": LIMITS | {"jerk": [1, 2]}}, "jerk needs one number or 7"),
        ({"limits": LIMITS | {"jerk": "much"}}, "jerk needs one number or 7"),
        ({"limits": LIMITS | {"jerk": -1}}, "jerk limit that is not positive"),
        ({"limits": LIMITS | {"jerk": float("nan")}}, "not finite"),
        ({"limits": LIMITS | {"jolt": 3}}, "give some of lower, upper"),
        ({"limits": LIMITS | {"lower": 1.0, "upper": 0.5}}, "lower >= upper"),
        ({"soft_limits": {"margin": 3.0}}, "soft_limits: position margin is 3.0 rad"),
        ({"soft_limits": {"lower": [-3] * 7}}, "joint 'lbr_iiwa_joint_1' would get a wider lower limit"),
        ({"soft_limits": {"lower": [0.1] * 7}}, "home lies outside soft_limits"),
        ({"soft_limits": [0.1]}, "write {margin: rad} or"),
        ({"allowed_collisions": [["a"]]}, "list of pairs of links"),
        ({"allowed_collisions": "a, b"}, "list of pairs of links"),
        ({"tool_pitch": "down"}, "tool_pitch must be an angle"),
        ({"tool_yaw": 7.0}, "tool_yaw must be an angle"),
        ({"topics": {"camera": "/x"}}, "topics may name joint_states"),
        ({"topics": {"velocity": "commands"}}, "topics.velocity must be an absolute topic name"),
        ({"tool_frane": "x"}, "unknown key 'tool_frane'; did you mean 'tool_frame'"),
        ({"urdf": "package://pybullet_data/kuka_iiwa/gone.urdf"}, "cannot read URDF"),
    ],
)
def test_a_malformed_description_is_one_line(tmp_path, changes, reason):
    with pytest.raises((ArmError, LimitsError), match=reason) as caught:
        load_arm(described(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_an_allowed_pair_of_links_that_do_not_exist_is_one_line(tmp_path):
    with pytest.raises(ArmError, match="has no link 'elbow'"):
        CollisionModel(load_arm(described(tmp_path, allowed_collisions=[["elbow", "lbr_iiwa_link_0"]])))


def test_an_arm_without_collision_shapes_is_refused(tmp_path):
    text = resolved_urdf(load_arm("ur5e").urdf)
    (tmp_path / "bare.urdf").write_text(text.replace("collision>", "shadow>"))
    with pytest.raises(ArmError, match="has no collision shapes"):
        CollisionModel(load_arm(described(tmp_path, "ur5e", urdf="bare.urdf")))


def test_a_joint_without_ends_is_refused_before_anything_moves(tmp_path):
    text = resolved_urdf(load_arm("ur5e").urdf)
    assert text.count('type="revolute"') == 6
    (tmp_path / "endless.urdf").write_text(text.replace('type="revolute"', 'type="continuous"', 1))
    with pytest.raises(ArmError, match="joint 'shoulder_pan_joint' is continuous"):
        CollisionModel(load_arm(described(tmp_path, "ur5e", urdf="endless.urdf")))


def test_a_mesh_that_is_gone_is_one_line(tmp_path):
    text = (locate("package://pybullet_data/kuka_iiwa/model.urdf", tmp_path)).read_text()
    (tmp_path / "model.urdf").write_text(text)
    with pytest.raises(ArmError, match=r"mesh meshes/link_0.obj does not exist"):
        CollisionModel(load_arm(described(tmp_path, urdf="model.urdf")))


def test_topics_come_from_the_description(tmp_path):
    arm = load_arm(described(tmp_path, topics={"joint_states": "/iiwa/joint_states"}))
    assert arm.topics.joint_states == "/iiwa/joint_states"
    assert arm.topics.trajectory == "/joint_trajectory_controller/joint_trajectory"


def test_a_tilted_tool_reaches_its_point_at_its_angle(tmp_path):
    arm = load_arm(described(tmp_path, "panda_stick", tool_pitch=0.5, urdf=str(ROBOTS / "panda_stick.urdf")))
    bullet, point = BulletArm(arm), np.array([0.5, 0.1, 0.3])
    bullet.place(Kinematics(arm).solve(point))
    assert np.allclose(bullet.tool(), point, atol=1e-4)
    quaternion = bullet.client.getLinkState(bullet.body, bullet.links[arm.tool_frame], computeForwardKinematics=True)[5]
    axis = np.array(bullet.client.getMatrixFromQuaternion(quaternion)).reshape(3, 3)[:, 2]
    bullet.close()
    assert np.allclose(axis, [np.sin(0.5), 0.0, -np.cos(0.5)], atol=1e-4)


def test_files_are_found_in_packages_beside_and_by_scheme(tmp_path, monkeypatch):
    share = tmp_path / "share" / "some_description"
    share.mkdir(parents=True)
    (share / "arm.urdf").write_text("")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert locate("package://some_description/arm.urdf", tmp_path / "elsewhere") == share / "arm.urdf"
    assert locate("package://some_description/arm.urdf", tmp_path / "share") == share / "arm.urdf"
    assert locate(f"file://{share}/arm.urdf", tmp_path) == share / "arm.urdf"
    assert locate("some_description/arm.urdf", tmp_path / "share") == share / "arm.urdf"
