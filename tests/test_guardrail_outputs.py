"""The guardrail over DDS: outputs that a controller would follow for ever, silent cameras, run-time parameters, and what stands in the way."""

from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import wait_until

pytest.importorskip("rclpy")

import signal

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Float64MultiArray
from test_guardrail_node import ARM, LIMITS, MODULE, PATIENT, arm  # noqa: F401  (a fixture)
from trajectory_msgs.msg import JointTrajectory

from arm_model import CollisionModel, read_scene
from ros_bridge import qos
from ros_bridge.stamps import header_at, now_ns

POSITION_TOPIC = "/forward_position_controller/commands"
VELOCITY_TOPIC = "/forward_velocity_controller/commands"
# The ideal arm follows trajectories only; what it does with arrays is not looked at.
BLIND = (*PATIENT, "-p", "tracking_tolerance_rad:=3.0", "-p", "plan_timeout_s:=10.0", "-p", "auto_arm:=true")


def hear(arm, topic, at=None):  # noqa: F811
    """Every array on ``topic`` from now on; and in ``at`` when it came, s."""
    heard = []

    def on_array(msg):
        if at is not None:
            at.append(time.monotonic())
        heard.append(np.array(msg.data))

    arm.node.create_subscription(Float64MultiArray, topic, on_array, QoSProfile(depth=1000))
    return heard


def set_double(arm, name, value):  # noqa: F811
    request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(type=3, double_value=value))])
    return arm.call("set_parameters", SetParameters, request).results[0]


def test_positions_end_at_rest_when_the_process_is_told_to_end(arm, start_node):  # noqa: F811
    at = []
    heard = hear(arm, POSITION_TOPIC, at)
    node = start_node(MODULE, *BLIND, "-p", "output:=position")
    arm.wait_for("HOLDING")
    wait_until(lambda: bool(heard), what="a position while it holds")
    assert heard[0] == pytest.approx(arm.position, abs=1e-3)
    arm.plan_until(lambda: len(heard) > 20 and np.abs(heard[-1] - heard[-2]).max() > 2e-3, 0.3, what="motion")
    assert node.stop(signal.SIGINT) == 0, node.output
    # The process has ended; what it said last may still wait in this one.
    wait_until(lambda: np.array_equal(heard[-1], heard[-2]), what="two positions that are the same: a controller was left in motion")
    positions = np.array(heard)
    assert np.isfinite(positions).all() and (positions >= LIMITS.lower).all() and (positions <= LIMITS.upper).all()
    steps = np.abs(np.diff(positions, axis=0)).max(axis=1)
    assert steps[-1] == 0.0 and steps.max() > 2e-3
    # A controller of positions stands where a cycle is missed: only without that is there a ramp.
    if np.diff(at[-15:]).max() < 0.015:
        assert (np.diff(steps[-4:]) <= 0.0).all() and 0.0 < steps[-3] < steps.max()
    assert "Traceback" not in node.output


def test_a_silent_camera_stops_the_arm_and_thresholds_may_change_while_it_runs(arm, start_node):  # noqa: F811
    heard = hear(arm, VELOCITY_TOPIC)
    node = start_node(MODULE, *BLIND, "-p", "output:=velocity", "-p", "frame_hold_s:=0.5", "-p", "frame_stop_s:=1.0")
    arm.wait_for("HOLDING")
    refused = set_double(arm, "frame_hold_s", 5.0)
    assert not refused.successful and "must not be the longer" in refused.reason
    fixed = set_double(arm, "velocity_scale", 1.0)
    assert not fixed.successful and "fixed at the start" in fixed.reason
    assert set_double(arm, "frame_stop_s", 1.5).successful

    camera = arm.node.create_publisher(CameraInfo, "/camera/camera_info", qos.CAMERA)

    def show(header=None):
        camera.publish(CameraInfo(header=header or header_at(now_ns(arm.node))))
        time.sleep(0.05)

    def shown_and_followed():
        show()
        if arm.state != "TRACKING":
            arm.plan(0.2, seconds=8.0)
            time.sleep(0.1)
        return arm.state == "TRACKING"

    followed_since = time.monotonic()

    def followed_for_two_seconds():
        nonlocal followed_since
        if not shown_and_followed():
            followed_since = time.monotonic()
        return time.monotonic() - followed_since > 2.0

    wait_until(followed_for_two_seconds, what="a plan that is followed for longer than a silent camera would let it")
    frozen = header_at(now_ns(arm.node))

    def stopped():
        show(frozen)  # it goes on talking, but its stamp stands still
        return arm.state == "HOLDING" and arm.values["reason"] == "the camera shows nothing new for 1500 ms"

    wait_until(stopped, what="a stop for a camera that shows nothing new")
    rejected = int(arm.values["rejected_plans"])
    arm.plan(0.2, seconds=8.0)
    wait_until(lambda: int(arm.values["rejected_plans"]) == rejected + 1, what="a plan refused while no frame comes")

    wait_until(lambda: shown_and_followed() and np.abs(heard[-1]).max() > 0.1, what="motion once it shows something again")
    assert node.stop(signal.SIGTERM) == 0, node.output
    # The process has ended; what it said last may still wait in this one.
    wait_until(lambda: not heard[-1].any(), what="a last velocity of zero: a controller of velocities was left in motion")
    assert (np.abs(heard) <= LIMITS.velocity * (1 + 1e-6)).all()


def test_a_wall_is_kept_away_from_and_a_rival_is_in_the_diagnostics_at_once(arm, start_node):  # noqa: F811
    # Where joint 1 swings the hand.
    wall = "[{name: wall, box: [0.4, 0.02, 0.4], xyz: [0.55, 0.23, 0.2]}]"
    node = start_node(MODULE, *PATIENT, "-p", f'scene:="{wall}"', "-p", "collision_margin_m:=0.015", "-p", "auto_arm:=true")
    arm.wait_for("HOLDING")
    model = CollisionModel(ARM, read_scene(wall))
    start = model.distances(arm.position).min()
    arm.track(3.0, velocity=0.3)

    def near():
        arm.track(0.5, velocity=0.3)
        return int(arm.values["filtered"]) > 0 and min(model.distances(points[0]).min() for _, points, _ in arm.commands[::5]) < start

    wait_until(near, what="a wall that is come near")
    sampled = [point for _, points, _ in arm.commands[::5] for point in points]
    distances = [model.distances(q).min() for q in sampled]
    assert min(distances) >= 0.015 - 1e-9
    assert min(distances) < start, "the wall was not come near"
    assert 0.0 <= float(arm.values["margin_m"]) < 0.1 and " and " in arm.values["closest"]
    arm.assert_limits_kept()

    rival = arm.node.create_publisher(JointTrajectory, "/joint_trajectory_controller/joint_trajectory", qos.COMMAND)
    wait_until(lambda: any(said.status[0].level == DiagnosticStatus.ERROR for said in arm.diagnostics[-1:]), what="an ERROR on /diagnostics")
    arm.wait_for("HOLDING")
    arm.node.destroy_publisher(rival)
    assert node.stop() == 0, node.output
