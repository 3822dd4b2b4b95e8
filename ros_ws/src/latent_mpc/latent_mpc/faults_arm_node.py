"""An ideal arm: its joints are where they were commanded to be, 100 times a second."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from arm_model import load_arm
from latent_mpc.faults_topics import INJECT
from ros_bridge import qos
from ros_bridge.joints import JointError, Trajectory, joint_state_message, read_trajectory
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import run_node
from ros_bridge.stamps import header_at, now_ns

_PERIOD_S = 0.01
_TELEPORT = "teleport"


@dataclass(frozen=True)
class IdealArmParameters:
    """Which arm it is."""

    robot: str = parameter("panda_stick", "name of a shipped arm, or path of an arm description in YAML")


class IdealArmNode(Node):
    """Follows the newest trajectory without error, and can be put elsewhere while nothing commands it."""

    def __init__(self) -> None:
        super().__init__("faults_arm")
        self._arm = load_arm(declare(self, IdealArmParameters).robot)
        self._position = self._arm.home.copy()
        self._last = self._position
        self._command: Trajectory | None = None
        self._states = self.create_publisher(JointState, "/joint_states", qos.JOINT_STATES)
        self.create_subscription(JointTrajectory, "/joint_trajectory_controller/joint_trajectory", self._on_command, qos.COMMAND)
        self.create_subscription(String, INJECT, self._on_inject, qos.STATUS)
        self.create_timer(_PERIOD_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_command(self, msg: JointTrajectory) -> None:
        try:
            self._command = read_trajectory(msg, self._arm.joints)
        except JointError as error:
            self.get_logger().warning(f"command refused: {error}", throttle_duration_sec=1.0)

    def _on_inject(self, msg: String) -> None:
        asked = json.loads(msg.data)
        if asked["kind"] == _TELEPORT:
            self._command = None
            self._position = self._last = self._position + asked["amount"]

    def _tick(self) -> None:
        ns = now_ns(self)
        if self._command is not None:
            at = (ns - self._command.stamp_ns) * 1e-9
            rows = self._command.positions
            self._position = rows[min(max(int(at / _PERIOD_S) - 1, 0), len(rows) - 1)]
        velocity = np.asarray((self._position - self._last) / _PERIOD_S, dtype=np.float64)
        self._last = self._position
        self._states.publish(joint_state_message(self._arm.joints, self._position, velocity, header_at(ns)))


def main() -> int:
    """Run the node; the exit status of the process."""
    return run_node(IdealArmNode)


if __name__ == "__main__":
    sys.exit(main())
