"""The guardrail in shadow: it guards as ever, and nothing can reach the arm."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import arm_by, wait_until

pytest.importorskip("rclpy")

from rclpy.qos import QoSProfile
from test_guardrail_node import ARM, MODULE, PATIENT, arm  # noqa: F401  (a fixture)
from trajectory_msgs.msg import JointTrajectory

from planner_node.guardrail_node import TRAJECTORY_TOPIC
from ros_bridge.diagnostics import status_values

# A plan is followed for long.
SHADOW = (*PATIENT, "-p", "shadow:=true", "-p", "plan_timeout_s:=10.0")


def test_the_arm_stands_while_the_shadow_follows_plans_and_stops(arm, start_node):  # noqa: F811
    shadow = []
    arm.node.create_subscription(JointTrajectory, "/guardrail/shadow", shadow.append, QoSProfile(depth=1000))
    node = start_node(MODULE, *SHADOW)
    arm.wait_for("DISARMED")
    arm_by(arm.call)
    stood = arm.position.copy()

    def far():
        # Farther from the arm than any tracking tolerance would let it.
        return arm.state == "TRACKING" and bool(shadow) and np.abs(np.array(shadow[-1].points[0].positions) - stood).max() > 0.3

    arm.plan_until(far, 0.5, what="a shadow that moves")
    assert np.array_equal(arm.position, stood)
    assert not arm.commands and arm.node.count_publishers(TRAJECTORY_TOPIC) == 0
    assert arm.call("stop").success
    arm.wait_for("STOPPED")
    assert arm.call("reset").success
    assert node.stop() == 0, node.output


def test_a_replayed_arm_that_is_put_elsewhere_is_a_stop_that_is_counted_and_not_the_end(arm, start_node):  # noqa: F811
    # However late joint states come, no arm gets half a radian far in this time.
    node = start_node(MODULE, *SHADOW, "-p", "joint_timeout_s:=0.15", "-p", "auto_arm:=true")
    arm.wait_for("HOLDING")
    arm.position = ARM.home - 0.5
    # The stop is counted before it takes effect: HOLDING may be said once more of the arming before.
    wait_until(lambda: any(status.message == "DISARMED" and status_values(status)["stops"] == "1" for status in arm.statuses), what="a stop")
    arm.wait_for("HOLDING")
    arm.plan_until(lambda: arm.state == "TRACKING", 0.3)
    assert arm.values["stops"] == "1"
    assert not arm.commands
    assert node.stop() == 0, node.output
