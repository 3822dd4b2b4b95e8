"""The guardrail as a process: ``python -m planner_node.guardrail_node --ros-args --params-file launch/config/guardrail.yaml``.

Wiring only: what is decided lies in :mod:`planner_node.guard`, what may be emitted in :mod:`planner_node.shield`.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from dataclasses import dataclass

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import uninstall_signal_handlers
from rclpy.task import Future
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from arm_model import load_arm, read_scene
from planner_node.barrier import BarrierConfig
from planner_node.grid import CYCLE_NS, Grid, stamp_of_slot
from planner_node.guard import Command, Guard, GuardConfig, GuardError, State
from planner_node.plan_gate import PlanGate, PlanGateConfig, PlanRejectedError, Proposal
from planner_node.shield import Shield, ShieldConfig
from planner_node.staleness import Staleness, StalenessConfig
from planner_node.surroundings import SurroundingsConfig, surroundings_of
from planner_node.workspace import read_workspace
from ros_bridge import diagnostics, qos
from ros_bridge.joints import JointError, Trajectory, read_joint_state, read_trajectory, trajectory_message
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import autostart, run_node
from ros_bridge.stamps import now_ns, stamp_ns

TRAJECTORY_TOPIC = "/joint_trajectory_controller/joint_trajectory"
VELOCITY_TOPIC = "/forward_velocity_controller/commands"
OUTPUTS = ("trajectory", "velocity", "position")
_S = 1e-9
_CYCLE_S = CYCLE_NS * _S
_STOP_LATE_S = 2.0
_LAST_HEARD_S = 0.3


@dataclass(frozen=True)
class GuardrailParameters:
    """Parameters of the guardrail node.

    What the watchdogs put up with may be set while it runs. What the promised stop was computed from may not: arm, limits and what is around.
    """

    robot: str = parameter("panda_stick", "name of a shipped arm, or path of an arm description in YAML", fixed=True)
    output: str = parameter("trajectory", "which controller is commanded", choices=OUTPUTS, fixed=True)
    autostart: bool = parameter(True, "configure and activate without being asked", fixed=True)
    auto_arm: bool = parameter(False, "arm without being asked, as soon as joint states arrive and the arm stands", fixed=True)
    position_margin: float = parameter(0.02, "rad kept from both ends of every joint", at_least=0.0, at_most=1.0, fixed=True)
    velocity_scale: float = parameter(0.5, "share of the URDF's velocity limits that may be used", at_least=0.01, at_most=1.0, fixed=True)
    acceleration_scale: float = parameter(0.95, "share of the URDF's acceleration limits that may be used", at_least=0.01, at_most=1.0, fixed=True)
    jerk_scale: float = parameter(0.5, "share of the URDF's jerk limits that may be used", at_least=0.01, at_most=1.0, fixed=True)
    scene: str = parameter("", "what stands around the arm: a YAML file, or the YAML itself; see docs/guardrail.md", fixed=True)
    collision_margin_m: float = parameter(0.01, "m kept between any two shapes that may not touch", at_least=0.0, at_most=0.2, fixed=True)
    workspace: str = parameter("", "where the tool may be, in YAML: {min: [x, y, z], max: [x, y, z], half_spaces: [{normal, offset}]}", fixed=True)
    tool_speed: float = parameter(0.0, "m/s of the tool point at most; 0 for no limit", at_least=0.0, at_most=10.0, fixed=True)
    barrier_gain: float = parameter(5.0, "1/s: share of a distance that may be used up in a second", at_least=0.1, at_most=50.0, fixed=True)
    plan_timeout_s: float = parameter(0.35, "s after its reception that a plan is followed", at_least=0.02, at_most=10.0)
    frame_timeout_s: float = parameter(0.3, "s of age at which a frame is too old to plan from", at_least=0.02, at_most=10.0)
    frame_hold_s: float = parameter(0.1, "s without a new frame or latent above which no new plan is let in", at_least=0.02, at_most=10.0)
    frame_stop_s: float = parameter(0.3, "s without a new frame or latent above which the arm ramps to a stop", at_least=0.02, at_most=10.0)
    joint_timeout_s: float = parameter(0.045, "s without joint states before the arm brakes", at_least=0.02, at_most=1.0)
    tracking_tolerance_rad: float = parameter(0.15, "rad between command and measurement that is too much", at_least=0.001, at_most=3.0)
    tracking_cycles: int = parameter(10, "cycles in a row of too much tracking error before a stop", at_least=1, at_most=1000)
    camera_info_topic: str = parameter("/camera/camera_info", "topic whose stamps show that the camera lives; empty: not watched", fixed=True)
    latent_topic: str = parameter("/perception/latent", "topic whose stamps show that perception lives; empty: not watched", fixed=True)

    def __post_init__(self) -> None:
        StalenessConfig(self.frame_hold_s, self.frame_stop_s)

    @property
    def gate(self) -> PlanGateConfig:
        """When a plan counts as too old."""
        return PlanGateConfig(plan_timeout_s=self.plan_timeout_s, frame_timeout_s=self.frame_timeout_s)

    @property
    def guard(self) -> GuardConfig:
        """What the guard puts up with."""
        return GuardConfig(
            joint_timeout_s=self.joint_timeout_s,
            tracking_tolerance_rad=self.tracking_tolerance_rad,
            tracking_cycles=self.tracking_cycles,
            auto_arm=self.auto_arm,
        )


class GuardrailNode(LifecycleNode):
    """Streams shielded commands at 100 Hz while active and armed."""

    def __init__(self) -> None:
        super().__init__("guardrail_node")
        self.parameters = declare(self, GuardrailParameters, self._on_parameters)
        p = self.parameters
        arm = load_arm(p.robot)
        self._joints = arm.joints
        limits = arm.limits.scaled(p.velocity_scale, p.acceleration_scale, p.jerk_scale, margin=p.position_margin)
        around = SurroundingsConfig(p.collision_margin_m, p.tool_speed, BarrierConfig(gain=p.barrier_gain))
        self._around = surroundings_of(arm, limits, read_scene(p.scene), read_workspace(p.workspace), around, _CYCLE_S)
        self._gate = PlanGate(p.gate)
        self._streams = Staleness(StalenessConfig(p.frame_hold_s, p.frame_stop_s))
        self._guard = Guard(p.guard, Shield(ShieldConfig(limits, _CYCLE_S), self._around), self._gate, self._streams)
        self._grid = Grid(time.monotonic_ns(), now_ns(self))
        self._frame_to_command = diagnostics.Latencies()
        self._cycle_ms = diagnostics.Latencies()
        self._joint_errors = 0
        self._arm_requests: list[Future] = []
        self._stop_requests: list[Future] = []
        self._cycle_timer: Timer | None = None
        self._ending = False

        kind = JointTrajectory if p.output == "trajectory" else Float64MultiArray
        self._commands = self.create_lifecycle_publisher(kind, getattr(arm.topics, p.output), qos.COMMAND)
        self._status_publisher = self.create_publisher(DiagnosticStatus, "/guardrail/status", qos.STATUS)
        self._report = diagnostics.DiagnosticsReport(self, lambda: [self._status()])
        self.create_subscription(JointTrajectory, "/planner/plan", self._on_plan, qos.PLAN)
        self.create_subscription(JointState, arm.topics.joint_states, self._on_joint_state, qos.JOINT_STATES)
        if p.camera_info_topic:
            self.create_subscription(CameraInfo, p.camera_info_topic, lambda msg: self._on_frame("the camera", msg), qos.CAMERA)
        if p.latent_topic:
            self.create_subscription(Image, p.latent_topic, lambda msg: self._on_frame("perception", msg), qos.LATENT)
        # These two wait for what the other callbacks do, which one group would keep from running meanwhile.
        waiting = ReentrantCallbackGroup()
        self.create_service(Trigger, "~/arm", self._on_arm, callback_group=waiting)
        self.create_service(Trigger, "~/stop", self._on_stop, callback_group=waiting)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.1, self._watch, clock=self._steady)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the cycle in phase with the 10 ms grid of ROS time."""
        time.sleep((CYCLE_NS - now_ns(self) % CYCLE_NS) * _S)
        self._grid = Grid(time.monotonic_ns(), now_ns(self))
        self._cycle_timer = self.create_timer(_CYCLE_S, self._cycle, clock=self._steady)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Brake to rest, then disarm."""
        self._halt()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Disarm for good."""
        self._halt()
        return super().on_shutdown(state)

    def _halt(self) -> None:
        if self._cycle_timer is not None:
            self.destroy_timer(self._cycle_timer)
            self._cycle_timer = None
            self._come_to_rest()
        self._guard.disarm("not active")
        self._answer_requests()

    def _come_to_rest(self) -> None:
        """Send the promised stop to its end, here and now: a controller of velocities would go on with the last one for ever."""
        self._guard.finish("not active")
        # A slow arm stops slowly: with a fifth of its acceleration a UR5e takes 2.5 s.
        deadline = time.monotonic() + _STOP_LATE_S + _CYCLE_S * self._guard.cycles_to_rest
        while not self._guard.silent and time.monotonic() < deadline:
            time.sleep(_CYCLE_S)
            self._cycle()
        # The last command is the one that counts: a publisher that is destroyed at once takes it along.
        self._commands.wait_for_all_acked(Duration(seconds=_LAST_HEARD_S))

    def end_on_signal(self) -> None:
        """Let SIGINT and SIGTERM bring the arm to rest before the process ends; ROS's own handlers would cut off the publisher first."""
        uninstall_signal_handlers()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._end())

    def _end(self) -> None:
        self._ending = True

    def _end_if_asked(self) -> None:
        if self._ending:
            self._halt()
            rclpy.try_shutdown()

    def _on_parameters(self, parameters: GuardrailParameters) -> None:
        """Take over what the watchdogs put up with."""
        self.parameters = parameters
        self._gate.config, self._guard.config = parameters.gate, parameters.guard
        self._streams.config = StalenessConfig(parameters.frame_hold_s, parameters.frame_stop_s)

    def _on_frame(self, stream: str, msg: CameraInfo | Image) -> None:
        self._streams.heard(stream, stamp_ns(msg.header.stamp), time.monotonic())

    def _on_plan(self, msg: JointTrajectory) -> None:
        try:
            trajectory = read_trajectory(msg, self._joints)
            plan = Proposal(trajectory.stamp_ns, trajectory.times, trajectory.positions, trajectory.velocities)
        except (JointError, PlanRejectedError) as error:
            self._log_rejection(self._gate.reject(str(error)))
            return
        try:
            self._guard.propose(plan, now_ns(self), time.monotonic())
        except PlanRejectedError as error:
            self._log_rejection(error)

    def _on_joint_state(self, msg: JointState) -> None:
        try:
            reading = read_joint_state(msg, self._joints)
        except JointError as error:
            self._joint_errors += 1
            self.get_logger().warning(f"joint state refused: {error}", throttle_duration_sec=1.0)
            return
        self._guard.measured(reading.position, reading.velocity, reading.stamp_ns, time.monotonic())
        self._answer_requests()

    def _cycle(self) -> None:
        steady_ns, ros_ns = time.monotonic_ns(), now_ns(self)
        jump = self._grid.follow(steady_ns, ros_ns)
        if jump:
            self._guard.clock_jumped(jump)
        command = self._guard.cycle(self._grid.slot(steady_ns), steady_ns * _S)
        if command is not None:
            self._commands.publish(self._message(command))
            self._cycle_ms.add((time.monotonic_ns() - steady_ns) * 1e-6)
            if command.new_plan_stamp_ns is not None:
                self._frame_to_command.add((now_ns(self) - command.new_plan_stamp_ns) * 1e-6)
        self._answer_requests()
        if self._ending and self._cycle_timer is not None:
            self._guard.finish("the process ends")

    def _message(self, command: Command) -> JointTrajectory | Float64MultiArray:
        braking = command.braking
        if self.parameters.output == "position":
            return Float64MultiArray(data=braking.positions[0].tolist())
        if self.parameters.output == "velocity":
            # The mean over the cycle: a controller that integrates it arrives where the set point is.
            return Float64MultiArray(data=((braking.positions[0] - command.start.position) / _CYCLE_S).tolist())
        times: NDArray[np.float64] = _CYCLE_S * np.arange(1, len(braking.positions) + 1, dtype=np.float64)
        trajectory = Trajectory(stamp_of_slot(command.slot), times, braking.positions, braking.velocities, braking.accelerations)
        return trajectory_message(trajectory, self._joints)

    async def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Arm at the next joint state, and answer when that is done."""
        if self._cycle_timer is None:
            response.message = "cannot arm: not active"
            return response
        try:
            self._guard.arm(time.monotonic())
        except GuardError as error:
            response.message = str(error)
            return response
        await self._until(self._arm_requests)
        response.success = self._guard.state not in (State.DISARMED, State.STOPPED)
        response.message = self._guard.reason
        return response

    async def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Brake at once and latch; answer when the arm is at rest."""
        self._guard.stop("stop requested")
        if self._guard.state is not State.STOPPED:
            await self._until(self._stop_requests)
        response.success = True
        response.message = self._guard.state.value
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._guard.reset()
            response.success = True
        except GuardError as error:
            response.message = str(error)
        return response

    async def _until(self, requests: list[Future]) -> None:
        done = Future()
        requests.append(done)
        await done

    def _answer_requests(self) -> None:
        answered = [] if self._guard.arming else self._arm_requests
        if self._guard.state is State.STOPPED:
            answered = answered + self._stop_requests
        for done in answered:
            done.set_result(None)
        self._arm_requests = [done for done in self._arm_requests if not done.done()]
        self._stop_requests = [done for done in self._stop_requests if not done.done()]

    def _watch(self) -> None:
        """Publish the status, and look out for somebody else who commands the arm."""
        topic = self._commands.topic_name
        others = self.count_publishers(topic) - 1
        obstacle = f"{others} other publisher(s) on {topic}" if others > 0 else ""
        changed = obstacle != self._guard.obstacle
        self._guard.forbid(obstacle)
        self._status_publisher.publish(self._status())
        if changed:
            # An ERROR must not wait for the next second.
            self._report.publish()
        self._end_if_asked()

    def _status(self) -> DiagnosticStatus:
        guard, counts = self._guard, self._guard.counts
        level = diagnostics.OK
        if guard.state in (State.DISARMED, State.BRAKING):
            level = diagnostics.WARN
        if guard.state is State.STOPPED or guard.obstacle:
            level = diagnostics.ERROR
        values: dict[str, diagnostics.Value] = {
            "cycles": counts.cycles,
            "interventions": counts.interventions,
            "filtered": counts.filtered,
            "unanswered": counts.unanswered,
            "missed_cycles": counts.missed_cycles,
            "stops": counts.stops,
            "rejected_plans": self._gate.rejected,
            "reason": guard.obstacle or guard.reason,
            "frame_to_command_ms_p50": self._frame_to_command.p50,
            "frame_to_command_ms_p99": self._frame_to_command.p99,
            "brakings": counts.brakings,
            "last_rejection": self._gate.last_rejection,
            "rejected_joint_states": self._joint_errors,
            "cycle_ms_p50": self._cycle_ms.p50,
            "cycle_ms_p99": self._cycle_ms.p99,
        }
        if guard.set_point is not None:
            values["margin_m"], values["closest"] = self._around.lowest(guard.set_point)
        return diagnostics.status(self.get_name(), guard.state.value, values, level)

    def _log_rejection(self, error: PlanRejectedError) -> None:
        self.get_logger().warning(f"plan rejected: {error}", throttle_duration_sec=1.0)


def _start() -> GuardrailNode:
    node = GuardrailNode()
    node.end_on_signal()
    if node.parameters.autostart:
        autostart(node)
    # A full collection takes longer than a cycle; what is there now stays there.
    gc.collect()
    gc.freeze()
    return node


def main() -> int:
    """Run the node; return the exit status of the process."""
    exit_status = run_node(_start)
    # Frozen objects are never collected, and Ruckig's binding complains on stderr about its own that are left at the end.
    gc.unfreeze()
    gc.collect()
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
