"""Who conducts a scenario over ROS: arms, shows goals, asks the saboteur, calls services, and writes down what was done and when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from latent_mpc.faults_scenario import Fault
from latent_mpc.faults_topics import EVENTS, INJECT, behind
from ros_bridge import qos
from ros_bridge.diagnostics import status_values
from ros_bridge.stamps import stamp_ns

COMMANDS = "/joint_trajectory_controller/joint_trajectory"
_CALL_S = 10.0
_MOVING_RAD_PER_S = 0.1


class ConductorError(RuntimeError):
    """The scenario cannot be played: a node does not do what it must be able to do without any fault."""


class Conductor:
    """One ROS node in this process. ``watch`` is called all the time while it waits and may raise."""

    def __init__(self, domain: int, watch: Callable[[], None]) -> None:
        self._watch = watch
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("faults_conductor", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.guard_state = ""
        self._guard_reason = ""
        self._guard_heard_s = 0.0
        self._speed = 0.0
        self._joints_heard_s = 0.0
        self._latents = 0
        self._goal: Image | None = None
        self.acting: list[dict[str, Any]] = []
        create = self._node.create_subscription
        create(DiagnosticStatus, "/guardrail/status", self._on_guard, qos.STATUS)
        create(JointState, behind("/joint_states"), self._on_joints, qos.JOINT_STATES)
        create(Image, "/perception/latent", self._on_latent, qos.LATENT)
        create(Image, "/sim/goal_image", self._on_goal, qos.GOAL)
        create(String, EVENTS, self._on_event, qos.STATUS)
        self._inject = self._node.create_publisher(String, INJECT, qos.STATUS)
        self._events = self._node.create_publisher(String, EVENTS, qos.STATUS)
        self._shown = self._node.create_publisher(Image, "/goal/image", qos.GOAL)
        self._clients: dict[str, Client] = {}

    def __enter__(self) -> Conductor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _on_guard(self, msg: DiagnosticStatus) -> None:
        self.guard_state, self._guard_heard_s = msg.message, time.monotonic()
        self._guard_reason = status_values(msg).get("reason", "")

    def _on_joints(self, msg: JointState) -> None:
        self._joints_heard_s = time.monotonic()
        self._speed = float(np.abs(msg.velocity).max()) if len(msg.velocity) else 0.0

    def _on_latent(self, _: Image) -> None:
        self._latents += 1

    def _on_goal(self, msg: Image) -> None:
        self._goal = msg

    def _on_event(self, msg: String) -> None:
        event = json.loads(msg.data)
        if event.get("by") == "saboteur":
            self.acting.append(event)

    # Waiting.

    def spin(self, seconds: float) -> None:
        """Listen for that long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0.0:
            self._watch()
            self._executor.spin_once(timeout_sec=min(0.02, left))

    def until(self, done: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Listen until ``done``.

        Raises:
            ConductorError: it takes longer than ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise ConductorError(f"{what} within {timeout_s:.0f} s (the guardrail says {self.guard_state or 'nothing'})")
            self.spin(0.01)

    def wait_for_nodes(self, relays: int, listeners: int, latents: bool, timeout_s: float = 60.0) -> None:
        """Everybody who is needed is heard, ``listeners`` hear the commands, and the recorder hears what is done."""
        hearing = self._node.count_subscribers
        self.until(lambda: self._heard_guard() and hearing(COMMANDS) >= listeners, timeout_s, "no guardrail, or nobody listens to it")
        self.until(lambda: hearing(INJECT) >= relays and hearing(EVENTS) >= 2, timeout_s, "no saboteur or no recorder")
        before = self._latents
        self.until(lambda: not latents or self._latents > before + 2, timeout_s, "no latents")
        self.spin(0.3)  # the writer's half of a match may lag behind the reader's

    def wait_for_joints(self, timeout_s: float = 30.0) -> None:
        """The arm says where it is, and the guardrail has heard it for a moment: an arm that was started anew may be elsewhere."""
        since_s = time.monotonic()
        self.until(lambda: self._joints_heard_s > since_s, timeout_s, "no joint states")
        self.spin(0.3)
        self.until(lambda: "no joint states" not in self._guard_reason, timeout_s, "the guardrail hears no joint states")
        self.spin(0.2)

    def _heard_guard(self) -> bool:
        return time.monotonic() - self._guard_heard_s < 0.5

    # What is done.

    def tell(self, what: str, **values: object) -> None:
        """Write down what is done, for those who read the recording."""
        self._events.publish(String(data=json.dumps({"what": what, "by": "conductor", "time_ns": time.time_ns(), **values})))

    def ask_saboteur(self, fault: Fault, on: bool) -> None:
        """Let a fault begin or end on a link; returns when it acts."""
        before = len(self.acting)
        request = {"kind": fault.kind, "target": fault.target, "on": on, "amount": fault.amount}
        self._inject.publish(String(data=json.dumps(request)))
        self.until(lambda: len(self.acting) > before, 5.0, f"the saboteur does not begin '{fault.kind}'")

    def teleport(self, amount: float) -> None:
        """Put the ideal arm elsewhere, by ``amount`` rad in every joint."""
        self._inject.publish(String(data=json.dumps({"kind": "teleport", "target": "", "on": True, "amount": amount})))

    def call(self, name: str, kind: Any = Trigger, request: Any = None, told: Fault | None = None) -> Any:
        """Call a service and return its answer; a fault that the call itself is, is told as it is made."""
        client = self._clients.setdefault(name, self._clients.get(name) or self._node.create_client(kind, name))
        self.until(client.service_is_ready, _CALL_S, f"service {name} does not appear")
        begun_ns = time.time_ns()
        future = client.call_async(request or kind.Request())
        if told is not None:
            # Told afterwards, as of when it was made: to tell takes time too.
            self.tell("fault", kind=told.kind, target=told.target, time_ns=begun_ns)
        self.until(future.done, _CALL_S, f"service {name} does not answer")
        return future.result()

    def transition(self, number: int) -> None:
        """Change the guardrail's lifecycle state."""
        request = ChangeState.Request(transition=Transition(id=number))
        if not self.call("/guardrail_node/change_state", ChangeState, request).success:
            raise ConductorError(f"the guardrail refuses transition {number}")

    def new_episode(self, seed: int) -> None:
        """Stop the arm, reset the simulator to ``seed`` and wait for the goal picture."""
        self.call("/guardrail_node/stop")
        self.reset_simulator(seed)
        self.spin(0.3)

    def reset_simulator(self, seed: int) -> None:
        """Put the simulated arm where the episode of ``seed`` begins, whatever it does now."""
        parameter = Parameter("episode_seed", value=seed).to_parameter_msg()
        self.call("/sim_node/set_parameters", SetParameters, SetParameters.Request(parameters=[parameter]))
        answer = json.loads(self.call("/sim_node/reset").message)
        stamp = int(answer["goal_stamp_ns"])
        self.until(lambda: self._goal is not None and stamp_ns(self._goal.header.stamp) == stamp, 5.0, "no goal picture")

    def show_goal(self) -> None:
        """Show the picture of the goal."""
        if self._goal is not None:
            self._shown.publish(self._goal)

    def arm(self, timeout_s: float = 10.0) -> None:
        """Release the latch where there is one, and arm.

        Raises:
            ConductorError: the guardrail does not arm.
        """
        deadline, answer = time.monotonic() + timeout_s, "nothing"
        while time.monotonic() < deadline:
            if self.guard_state == "STOPPED":
                self.call("/guardrail_node/reset")
                self.spin(0.15)
            if self.guard_state == "DISARMED":
                self.tell("arm_asked")
                response = self.call("/guardrail_node/arm")
                answer = response.message
                if response.success:
                    return
            elif self.guard_state in ("HOLDING", "TRACKING"):
                return
            self.spin(0.15)
        raise ConductorError(f"the guardrail does not arm: {answer} (it says {self.guard_state})")

    def wait_moving(self, timeout_s: float = 20.0) -> None:
        """Wait until the guardrail tracks plans and the joints move.

        Raises:
            ConductorError: they do not.
        """
        self.until(lambda: self.guard_state == "TRACKING" and self._speed > _MOVING_RAD_PER_S, timeout_s, "the arm does not move")
