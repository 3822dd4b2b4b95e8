"""The guardrail as a process: ``python -m planner_node.guardrail_node --ros-args --params-file launch/config/guardrail.yaml``.

Wiring only: what is decided lies in :mod:`planner_node.guard`, what may be emitted in :mod:`planner_node.shield`.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict

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
from std_msgs.msg import Float64MultiArray, Int64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from arm_model import load_arm
from planner_node.grid import CYCLE_NS, Grid, stamp_of_slot
from planner_node.guard import Command, GuardError, State
from planner_node.guard_assembly import build_guard, retune
from planner_node.guardrail_parameters import GuardrailParameters
from planner_node.journal import Kind, Moment, checksum
from planner_node.journaled_guard import CAMERA, PERCEPTION
from planner_node.plan_gate import PlanRejectedError, Proposal
from ros_bridge import diagnostics, qos
from ros_bridge.joints import JointError, Trajectory, read_joint_state_payload, read_trajectory_payload, trajectory_message
from ros_bridge.numbers import journal_message
from ros_bridge.parameters import declare
from ros_bridge.process import autostart, run_node
from ros_bridge.publisher_watch import PublisherWatch
from ros_bridge.reception import RECEIVED, with_reception
from ros_bridge.scheduling import go_first
from ros_bridge.stamps import now_ns, stamp_ns
from ros_bridge.transport import without_shared_memory

TRAJECTORY_TOPIC = "/joint_trajectory_controller/joint_trajectory"
SHADOW_TOPIC = "/guardrail/shadow"
VELOCITY_TOPIC = "/forward_velocity_controller/commands"
PLAN_TOPIC = "/planner/plan"
_S = 1e-9
_CYCLE_S = CYCLE_NS * _S
_STOP_LATE_S = 2.0
_LAST_HEARD_S = 0.3
# A message lay in the middleware for as long at most before it was taken; the wall clock that says so may be set.
_LONGEST_WAIT_NS = 20_000_000


class GuardrailNode(LifecycleNode):
    """Streams shielded commands at 100 Hz while active and armed."""

    def __init__(self) -> None:
        super().__init__("guardrail_node")
        self.parameters = declare(self, GuardrailParameters, self._on_parameters)
        p = self.parameters
        arm = load_arm(p.robot)
        self._joints = arm.joints
        self._guard, self._gate, self._around = build_guard(p, arm)
        self._streams = self._guard.streams
        self._grid = Grid(time.monotonic_ns(), now_ns(self))
        self._frame_to_command = diagnostics.Latencies()
        self._cycle_ms = diagnostics.Latencies()
        self._jitter_ms = diagnostics.Spread()
        self._last_cycle_ns = 0
        self._joint_gap_ms = diagnostics.Latencies()
        self._joint_errors = 0
        self._priority = go_first(p.priority)
        self._arm_requests: list[Future] = []
        self._stop_requests: list[Future] = []
        self._cycle_timer: Timer | None = None
        self._ending = False

        kind = JointTrajectory if p.output == "trajectory" else Float64MultiArray
        self._commands = self.create_lifecycle_publisher(kind, SHADOW_TOPIC if p.shadow else getattr(arm.topics, p.output), qos.COMMAND)
        self._status_publisher = self.create_publisher(DiagnosticStatus, "/guardrail/status", qos.STATUS)
        self._journal = self.create_publisher(Int64MultiArray, "/guardrail/journal", qos.JOURNAL)
        self._settings = self.create_publisher(String, "/guardrail/settings", qos.GOAL)
        self._report = diagnostics.DiagnosticsReport(self, lambda: [self._status(), self._footing()])
        # Raw: what is no message to its last byte is refused here, where the middleware would make one of it.
        self.create_subscription(JointTrajectory, PLAN_TOPIC, self._on_plan, qos.PLAN, raw=True)
        self.create_subscription(JointState, arm.topics.joint_states, with_reception(self._on_joint_state), qos.JOINT_STATES, raw=True)
        self._planner = (
            PublisherWatch(self, JointTrajectory, PLAN_TOPIC, qos.plan_watch(p.planner_lease_s), self._on_planner) if p.planner_lease_s else None
        )
        if p.camera_info_topic:
            self.create_subscription(CameraInfo, p.camera_info_topic, lambda msg: self._on_frame(CAMERA, msg), qos.CAMERA)
        if p.latent_topic:
            self.create_subscription(Image, p.latent_topic, lambda msg: self._on_frame(PERCEPTION, msg), qos.LATENT)
        # These two wait for what the other callbacks do, which one group would keep from running meanwhile.
        waiting = ReentrantCallbackGroup()
        self.create_service(Trigger, "~/arm", self._on_arm, callback_group=waiting)
        self._stop_service = self.create_service(Trigger, "~/stop", self._on_stop, callback_group=waiting)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.1, self._watch, clock=self._steady)
        self._settings.publish(String(data=_settings_text(p)))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the cycle in phase with the 10 ms grid of ROS time."""
        time.sleep((CYCLE_NS - now_ns(self) % CYCLE_NS) * _S)
        self._grid = Grid(time.monotonic_ns(), now_ns(self))
        self._last_cycle_ns = 0
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

    def _on_parameters(self, parameters: GuardrailParameters, _: frozenset[str]) -> None:
        """Take over what the watchdogs put up with."""
        self.parameters = parameters
        text = _settings_text(parameters)
        self._guard.journal.note(Kind.SETTINGS, checksum(text), Moment(0, time.monotonic()))
        retune(parameters, self._guard, self._gate)
        self._settings.publish(String(data=text))

    def _on_frame(self, stream: str, msg: CameraInfo | Image) -> None:
        self._streams.heard(stream, stamp_ns(msg.header.stamp), time.monotonic())

    def _on_planner(self, gone: str) -> None:
        """The planner's process is gone, or there is one again: said at once."""
        self._guard.lose_planner(f"the planner {gone}" if gone else "")
        self._watch()
        self._report.publish()

    def _on_plan(self, payload: bytes) -> None:
        try:
            trajectory = read_trajectory_payload(payload, self._joints)
            plan = Proposal(trajectory.stamp_ns, trajectory.times, trajectory.positions, trajectory.velocities)
        except (JointError, PlanRejectedError) as error:
            self._log_rejection(self._gate.reject(str(error)))
            return
        try:
            self._guard.propose(plan, now_ns(self), time.monotonic())
        except PlanRejectedError as error:
            self._log_rejection(error)

    def _on_joint_state(self, payload: bytes, info: Mapping[str, int]) -> None:
        try:
            reading = read_joint_state_payload(payload, self._joints)
        except JointError as error:
            self._joint_errors += 1
            self.get_logger().warning(f"joint state refused: {error}", throttle_duration_sec=1.0)
            return
        # It came when the middleware had it, not when this process got round to it.
        waited_ns = min(max(time.time_ns() - info[RECEIVED], 0), _LONGEST_WAIT_NS)
        heard_s = time.monotonic() - waited_ns * _S
        last_s = self._guard.joints.heard_s
        self._guard.measured(reading.position, reading.velocity, reading.stamp_ns, heard_s)
        if self._guard.joints.heard_s > last_s > 0.0:
            self._joint_gap_ms.add(1e3 * (self._guard.joints.heard_s - last_s))
        self._answer_requests()

    def _take_stop_request(self) -> None:
        """A stop that waits must not cost a cycle: the executor serves timers before services."""
        if self.executor is None:
            return
        with self._stop_service.handle:
            request, header = self._stop_service.handle.service_take_request(Trigger.Request)
        if header is None:
            return
        self._guard.stop("stop requested")

        async def answer() -> None:
            response = await self._on_stop(request, Trigger.Response())
            self._stop_service.send_response(response, header)

        self.executor.create_task(answer)

    def _cycle(self) -> None:
        self._take_stop_request()
        steady_ns, ros_ns = time.monotonic_ns(), now_ns(self)
        if self._last_cycle_ns:
            self._jitter_ms.add(abs(steady_ns - self._last_cycle_ns - CYCLE_NS) * 1e-6)
        self._last_cycle_ns = steady_ns
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
        sent = braking.sent()
        times: NDArray[np.float64] = _CYCLE_S * np.arange(1, len(sent.positions) + 1, dtype=np.float64)
        return trajectory_message(Trajectory(stamp_of_slot(command.slot), times, sent.positions, sent.velocities, sent.accelerations), self._joints)

    async def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Arm at the next joint state, and answer when that is done."""
        if self._cycle_timer is None:
            response.message = "cannot arm: not active"
            return response
        try:
            self._guard.arm(time.monotonic(), now_ns(self))
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
        if self.parameters.shadow and self.parameters.auto_arm and self._guard.state is State.STOPPED:
            # A replayed arm is put elsewhere between two episodes. The stop is counted; nothing moves that it would have to hold.
            self._guard.reset()
        changed = obstacle != self._guard.obstacle
        self._guard.forbid(obstacle)
        self._status_publisher.publish(self._status())
        self._journal.publish(journal_message(*self._guard.journal.drain()))
        if changed:
            # An ERROR must not wait for the next second.
            self._report.publish()
        self._end_if_asked()

    def _status(self) -> DiagnosticStatus:
        guard, counts = self._guard, self._guard.counts
        level = diagnostics.OK
        if guard.state in (State.DISARMED, State.BRAKING) or guard.planner_gone:
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
            "reason": guard.obstacle or guard.reason or guard.planner_gone,
            "shadow": self.parameters.shadow,
            "frame_to_command_ms_p50": self._frame_to_command.p50,
            "frame_to_command_ms_p99": self._frame_to_command.p99,
            "brakings": counts.brakings,
            "last_rejection": self._gate.last_rejection,
            "rejected_joint_states": self._joint_errors + guard.joints.refused,
            "cycle_ms_p50": self._cycle_ms.p50,
            "cycle_ms_p99": self._cycle_ms.p99,
        }
        if guard.set_point is not None:
            guard.journal.note(Kind.LOOK, 0, Moment(0, 0.0))
            values["margin_m"], values["closest"] = self._around.lowest(guard.set_point)
        return diagnostics.status(self.get_name(), guard.state.value, values, level)

    def _footing(self) -> DiagnosticStatus:
        """What the guardrail's promises rest on, besides itself."""
        watch, joints = self._planner, self._guard.joints
        lease_missing = watch is not None and watch.incompatible and not watch.alive
        values: dict[str, diagnostics.Value] = {
            "planner": watch.state if watch is not None else "not watched",
            "priority": self._priority,
            "joint_states_stamped": joints.stamped,
            "joint_gap_ms_p50": self._joint_gap_ms.p50,
            "joint_gap_ms_p99": self._joint_gap_ms.p99,
            "jitter_ms_p50": self._jitter_ms.percentile(50),
            "jitter_ms_p99": self._jitter_ms.percentile(99),
            "jitter_ms_max": self._jitter_ms.max,
            "last_joint_refusal": joints.last_refusal,
        }
        text = "the planner offers no liveliness" if lease_missing else ""
        if joints.position is not None and not joints.stamped:
            text = text or "joint states are not stamped: old ones cannot be told from new ones"
        return diagnostics.status(f"{self.get_name()}: footing", text or "as it should be", values, diagnostics.WARN if text else diagnostics.OK)

    def _log_rejection(self, error: PlanRejectedError) -> None:
        self.get_logger().warning(f"plan rejected: {error}", throttle_duration_sec=1.0)


def _settings_text(parameters: GuardrailParameters) -> str:
    return json.dumps(asdict(parameters), sort_keys=True)


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
    without_shared_memory()
    exit_status = run_node(_start)
    # Frozen objects are never collected, and Ruckig's binding complains on stderr about its own that are left at the end.
    gc.unfreeze()
    gc.collect()
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
