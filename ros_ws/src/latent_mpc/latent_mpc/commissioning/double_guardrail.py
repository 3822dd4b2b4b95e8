"""A guardrail that answers as ours does and commands nothing: what the check asks of it can go wrong on purpose."""

from __future__ import annotations

import json

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from ros_bridge import qos
from ros_bridge.diagnostics import status


class GuardrailDouble(Node):
    """``mistakes`` are names from :mod:`latent_mpc.commissioning.mistakes`."""

    def __init__(self, command_topic: str, mistakes: frozenset[str] = frozenset(), context: Context | None = None) -> None:
        super().__init__("guardrail_node", context=context)
        self._wrong = mistakes
        self._state = "HOLDING" if "armed_guardrail" in mistakes else "DISARMED"
        self._commands = self.create_publisher(JointTrajectory, command_topic, qos.COMMAND)
        self._status = self.create_publisher(DiagnosticStatus, "/guardrail/status", qos.STATUS)
        self._settings = self.create_publisher(String, "/guardrail/settings", qos.GOAL)
        robot = "franka_panda" if "guardrail_of_another_arm" in mistakes else "panda_stick"
        self._settings.publish(String(data=json.dumps({"robot": robot, "output": "trajectory"})))
        self._after_stop = 0
        self.create_service(GetState, "~/get_state", self._on_get_state)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_timer(0.05, self._publish)

    def _publish(self) -> None:
        if self._state == "STOPPED":
            self._after_stop += 1
            if "stop_does_not_latch" in self._wrong and self._after_stop > 6:
                self._state = "HOLDING"
        self._status.publish(status("guardrail_node", self._state, {"shadow": False}))

    def _on_get_state(self, request: GetState.Request, response: GetState.Response) -> GetState.Response:
        response.current_state = State(id=State.PRIMARY_STATE_ACTIVE, label="active")
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = "stop_refuses" not in self._wrong
        if response.success:
            self._state, self._after_stop = "STOPPED", 0
        else:
            response.message = "no"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._state, response.success = "DISARMED", True
        return response
