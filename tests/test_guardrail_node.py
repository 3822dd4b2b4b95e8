"""The guardrail as it is shipped, a process of its own, over DDS, with an ideal arm on the other side."""

from __future__ import annotations

import threading
import time
from array import array

import numpy as np
import pytest
from conftest import arm_by, wait_until
from executed_stream import NONE, executed, violations

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from arm_model import load_arm
from planner_node.guardrail_node import TRAJECTORY_TOPIC, VELOCITY_TOPIC
from ros_bridge import qos
from ros_bridge.diagnostics import status_values
from ros_bridge.joints import Trajectory, joint_state_message, read_trajectory, trajectory_message
from ros_bridge.sign_of_life import SignOfLife
from ros_bridge.stamps import header_at, now_ns, stamp_ns

ARM = load_arm()
LIMITS = ARM.limits.scaled(0.5, 0.95, 0.5, margin=0.02)
CYCLE_NS = 10_000_000
MODULE = "planner_node.guardrail_node"
# The ideal arm of these tests shares two cores with whatever else runs: its joint states and its signs of life may come late.
JOINTS_LATE = ("-p", "joint_timeout_s:=1.0")
PATIENT = (*JOINTS_LATE, "-p", "planner_lease_s:=0.0")


class IdealArm:
    """Publishes joint states at 100 Hz that are exactly what was commanded, records every command, and sends plans."""

    def __init__(self):
        self.node = rclpy.create_node("ideal_arm")
        self.commands, self.velocities, self.statuses, self.diagnostics = [], [], [], []
        self.position = ARM.home + 0.05
        self.alive = True
        self._moving = threading.Lock()
        self._asking = {}
        record = QoSProfile(depth=1000)
        self._joints = self.node.create_publisher(JointState, "/joint_states", qos.JOINT_STATES)
        self.plans = self.node.create_publisher(JointTrajectory, "/planner/plan", qos.PLAN_OFFER)
        self._sign_of_life = SignOfLife(self.plans)
        self.node.create_subscription(JointTrajectory, TRAJECTORY_TOPIC, self._on_command, record)
        self.node.create_subscription(Float64MultiArray, VELOCITY_TOPIC, lambda msg: self.velocities.append(np.array(msg.data)), record)
        self.node.create_subscription(DiagnosticStatus, "/guardrail/status", self.statuses.append, qos.STATUS)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, qos.STATUS)
        self.node.create_timer(0.01, self._publish)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self):
        self._executor.shutdown()
        self._thread.join()
        self._sign_of_life.close()
        self.node.destroy_node()

    @property
    def state(self):
        return self.statuses[-1].message if self.statuses else "?"

    @property
    def values(self):
        return status_values(self.statuses[-1])

    def call(self, service, kind=Trigger, request=None):
        # One client for good: an answer is lost if whoever gives it has not matched a new one's reader yet.
        if service not in self._asking:
            self._asking[service] = self.node.create_client(kind, f"/guardrail_node/{service}")
        client = self._asking[service]
        assert client.wait_for_service(20.0), f"no service {service}"
        answer = client.call_async(request or kind.Request())
        wait_until(answer.done, what=f"answer of {service}")
        return answer.result()

    def wait_for(self, *states):
        wait_until(lambda: self.state in states, what=f"state {states}, is {self.state}")

    def wait_for_rest(self):
        """What was commanded last may still be under way when the status says so."""
        wait_until(lambda: np.ptp(self.commands[-1][1], axis=0).max() == 0.0, what="a last command at rest")

    def put_at(self, position):
        """Somebody puts the arm elsewhere: what was commanded before no longer holds it."""
        with self._moving:
            self.commands.clear()
            self.position = position

    def wait_for_listener(self):
        """The topic of plans is reliable: from when its writer knows a reader on, nothing is lost."""
        wait_until(lambda: self.plans.get_subscription_count() > 0, what="somebody who hears plans")

    def plan(self, velocity, seconds=1.0, order=None):
        """A plan from where the arm is, at ``velocity`` rad/s in every joint; ``order`` in which it names the joints."""
        self.wait_for_listener()
        order = range(len(ARM.joints)) if order is None else order
        times = np.arange(0.0, seconds + 1e-9, 0.05)
        positions = self.position[list(order)] + np.outer(times * velocity, np.ones(len(ARM.joints)))
        trajectory = Trajectory(now_ns(self.node), times, positions, np.full_like(positions, velocity))
        self.plans.publish(trajectory_message(trajectory, [ARM.joints[index] for index in order]))

    def plan_until(self, condition, velocity, seconds=8.0, what="a plan that is followed", order=None):
        """Plan, and plan anew when no plan is followed: a guardrail that hears a joint state or a plan late forgets what it followed."""

        def followed():
            if self.state != "TRACKING":
                self.plan(velocity, seconds, order)
                time.sleep(0.25)
            return condition()

        wait_until(followed, what=what)

    def track(self, seconds, velocity=0.3):
        """Plan at 10 Hz, to and fro, for that long."""
        start, deadline = self.position.copy(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.plan(velocity if (self.position - start).max() < 0.1 else -velocity)
            time.sleep(0.1)

    def assert_limits_kept(self):
        assert len(self.commands) > 10
        assert violations(executed([(slot, points) for slot, points, _ in self.commands]), LIMITS) == NONE
        for _, points, velocities in self.commands:
            assert np.isfinite(points).all() and np.isfinite(velocities).all()
            assert not velocities[-1].any(), "the trajectory does not end at rest"

    def _on_command(self, msg):
        sent = read_trajectory(msg, ARM.joints)
        assert sent.stamp_ns % CYCLE_NS == 0
        assert sent.times == pytest.approx(0.01 * np.arange(1, len(sent.times) + 1))
        self.commands.append((sent.stamp_ns // CYCLE_NS, sent.positions, sent.velocities))

    def _publish(self):
        if not self.alive:
            return
        ns = now_ns(self.node)
        with self._moving:
            if self.commands:
                slot, points, _ = self.commands[-1]
                self.position = points[min(max(ns // CYCLE_NS - slot - 1, 0), len(points) - 1)]
            position = self.position
        self._joints.publish(joint_state_message(ARM.joints, position, np.zeros(len(ARM.joints)), header_at(ns)))


@pytest.fixture
def arm(ros_context):
    ideal = IdealArm()
    yield ideal
    ideal.close()


def test_an_episode_from_arming_to_a_latched_stop(arm, start_node):
    node = start_node(MODULE, *PATIENT)
    arm.wait_for("DISARMED")
    assert not arm.commands, "it commands before it is armed"

    measured = arm.position.copy()
    arm_by(arm.call)
    wait_until(lambda: bool(arm.commands), what="a first command")
    assert np.abs(arm.commands[0][1][0] - measured).max() < 1e-3
    arm.wait_for("HOLDING")

    arm.track(3.0)
    arm.plan_until(lambda: arm.state == "TRACKING" and np.abs(arm.position - measured).max() > 0.05, 0.3, seconds=1.0)
    assert float(arm.values["frame_to_command_ms_p99"]) > 0.0

    # Silence of the planner: a smooth stop, then a hold.
    wait_until(lambda: arm.state == "HOLDING" and arm.values["reason"] == "no new plan in time", what="a hold for want of a plan")

    arm.plan_until(lambda: arm.state == "TRACKING", 0.3, seconds=1.0)
    assert arm.call("stop").success
    arm.wait_for("STOPPED")
    # By when they were sent: the last of them may come after the status.
    stopped_ns = now_ns(arm.node)
    assert not arm.call("arm").success
    arm.track(0.5)
    silent = len(arm.commands)
    arm.track(0.5)
    assert all(slot * CYCLE_NS <= stopped_ns for slot, *_ in arm.commands) and len(arm.commands) == silent, "it commands while stopped"
    assert arm.values["stops"] == "1"

    # Somebody puts the arm elsewhere; it is armed where it is now.
    arm.wait_for_rest()
    arm.assert_limits_kept()
    arm.put_at(ARM.home - 0.1)
    assert arm.call("reset").success
    arm.wait_for("DISARMED")
    arm_by(arm.call)
    wait_until(lambda: len(arm.commands) > 20, what="commands after the reset")
    assert np.abs(arm.commands[0][1][0] - (ARM.home - 0.1)).max() < 1e-3

    wait_until(lambda: bool(arm.diagnostics), what="/diagnostics")
    assert node.stop() == 0, node.output
    assert "Traceback" not in node.output
    arm.assert_limits_kept()


def test_bad_plans_are_counted_and_change_nothing(arm, start_node):
    node = start_node(MODULE, *PATIENT, "-p", "auto_arm:=true")
    arm.wait_for("HOLDING")
    start = arm.position.copy()

    def message():
        times = np.arange(0.0, 1.0, 0.05)
        positions = start + np.outer(0.3 * times, np.ones(len(ARM.joints)))
        return trajectory_message(Trajectory(now_ns(arm.node), times, positions, np.full_like(positions, 0.3)), ARM.joints)

    arm.wait_for_listener()
    nan, renamed, backwards, stale, short, empty = (message() for _ in range(6))
    nan.points[3].positions = array("d", [float("nan")] * len(ARM.joints))
    renamed.joint_names[0] = "elbow"
    backwards.points.reverse()
    stale.header = header_at(stamp_ns(stale.header.stamp) - 10**9)
    short.points[-1].velocities = array("d", [0.0])
    empty.points = []
    for count, bad in enumerate((nan, renamed, backwards, stale, short, empty), start=1):
        arm.plans.publish(bad)
        wait_until(lambda count=count: arm.values["rejected_plans"] == str(count), what=f"rejection {count}")
    assert arm.state == "HOLDING"
    assert np.abs(arm.position - start).max() < 1e-9

    shuffled = list(reversed(range(len(ARM.joints))))
    arm.plan_until(lambda: np.abs(arm.position - start).max() > 0.02, 0.3, 1.0, "motion after a plan in another order", order=shuffled)
    arm.wait_for("HOLDING")
    moved = arm.position - start
    assert np.ptp(moved) < 0.01, "every joint was to move alike"
    assert node.stop() == 0, node.output
    arm.assert_limits_kept()


def test_lost_joint_states_brake_the_arm(arm, start_node):
    node = start_node(MODULE, "-p", "joint_timeout_s:=0.3", "-p", "auto_arm:=true", "-p", "plan_timeout_s:=10.0", "-p", "planner_lease_s:=0.0")
    arm.wait_for("HOLDING")
    arm.plan_until(lambda: arm.state == "TRACKING", 0.2)
    arm.alive = False
    wait_until(lambda: arm.state in ("BRAKING", "HOLDING") and "no joint states" in arm.values["reason"], what="braking")
    arm.wait_for("HOLDING")
    arm.wait_for_rest()
    assert node.stop() == 0, node.output
    arm.assert_limits_kept()


def test_another_publisher_of_commands_is_noticed(arm, start_node):
    node = start_node(MODULE, *PATIENT, "-p", "auto_arm:=true")
    arm.wait_for("HOLDING")
    rival = arm.node.create_publisher(JointTrajectory, TRAJECTORY_TOPIC, qos.COMMAND)
    wait_until(lambda: arm.statuses[-1].level == DiagnosticStatus.ERROR, what="an ERROR status")
    assert "other publisher" in arm.values["reason"]
    arm.node.destroy_publisher(rival)
    wait_until(lambda: arm.statuses[-1].level == DiagnosticStatus.OK, what="an OK status")
    assert node.stop() == 0, node.output


def test_the_velocity_output_is_silent_until_active_and_ends_at_zero(arm, start_node):
    node = start_node(MODULE, *PATIENT, "-p", "output:=velocity", "-p", "autostart:=false")
    arm.wait_for("DISARMED")
    assert not arm.call("arm").success
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert arm.call("change_state", ChangeState, request).success
    arm_by(arm.call)
    arm.plan_until(lambda: any(np.abs(velocity).max() > 0.1 for velocity in arm.velocities), 0.2, seconds=1.0, what="motion")
    assert arm.call("stop").success
    arm.wait_for("STOPPED")
    # The status may be heard before the last velocity.
    wait_until(lambda: not arm.velocities[-1].any(), what="a last velocity of zero")
    deactivate = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    assert arm.call("change_state", ChangeState, deactivate).success
    assert node.stop() == 0, node.output
    velocities = np.array(arm.velocities)
    assert np.isfinite(velocities).all() and (np.abs(velocities) <= LIMITS.velocity * (1 + 1e-6)).all()
    assert not velocities[-1].any()


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("robot:=nobody", "nobody"),
        ("output:=force", "trajectory, velocity"),
        ("velocity_scale:=2.0", "velocity_scale"),
        ("position_margin:=.nan", "margin"),
        ("scene:=nowhere.yaml", "nowhere.yaml"),
        ("workspace:='{min: [0.5, 0.0, 0.0], max: [0.1, 1.0, 1.0]}'", "along x"),
        ("frame_hold_s:=0.5", "must not be the longer"),
    ],
)
def test_bad_parameters_end_the_process_with_one_line(start_node, argument, reason):
    node = start_node(MODULE, "-p", argument)
    assert node.process.wait(60) == 2
    assert reason in node.output and len(node.output.strip().splitlines()) == 1


def test_the_shipped_parameter_file_is_accepted(arm, start_node):
    node = start_node(MODULE, "--params-file", "launch/config/guardrail.yaml")
    arm.wait_for("DISARMED")
    assert node.stop() == 0, node.output
