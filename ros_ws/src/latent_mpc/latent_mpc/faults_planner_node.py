"""A planner that needs no pictures: it proposes the same motion for ever."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from arm_model import load_arm
from latent_mpc.faults_plans import MOTIONS, motion_at, plan_times
from ros_bridge import qos
from ros_bridge.joints import Trajectory, trajectory_message
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import run_node
from ros_bridge.sign_of_life import SignOfLife
from ros_bridge.stamps import now_ns


@dataclass(frozen=True)
class ScriptedPlannerParameters:
    """What is proposed, and how often."""

    robot: str = parameter("panda_stick", "name of a shipped arm, or path of an arm description in YAML")
    motion: str = parameter("sway", "what the joints are to do", choices=MOTIONS)
    burn: int = parameter(0, "threads that do nothing but keep a core busy", at_least=0, at_most=64)
    rate_hz: float = parameter(20.0, "plans a second", at_least=1.0, at_most=200.0)


class ScriptedPlannerNode(Node):
    """Publishes plans on ``/planner/plan``."""

    def __init__(self) -> None:
        super().__init__("faults_planner")
        parameters = declare(self, ScriptedPlannerParameters)
        self._motion = parameters.motion
        self._arm = load_arm(parameters.robot)
        self._plans = self.create_publisher(JointTrajectory, "/planner/plan", qos.PLAN_OFFER)
        self._sign_of_life = SignOfLife(self._plans)
        self._begun_s = time.monotonic()
        self._times = plan_times()
        for _ in range(parameters.burn):
            threading.Thread(target=_burn, daemon=True).start()
        self.create_timer(1.0 / parameters.rate_hz, self._propose, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _propose(self) -> None:
        positions, velocities = motion_at(self._motion, self._arm.home, time.monotonic() - self._begun_s + self._times)
        self._plans.publish(trajectory_message(Trajectory(now_ns(self), self._times, positions, velocities), self._arm.joints))


def _burn() -> None:
    """Multiply matrices for ever, outside Python's lock."""
    matrix = np.full((256, 256), 1e-3)
    while True:
        matrix @ matrix


def main() -> int:
    """Run the node; the exit status of the process."""
    return run_node(ScriptedPlannerNode)


if __name__ == "__main__":
    sys.exit(main())
