"""The planner as a process: ``python -m planner_node.planner_node --ros-args --params-file launch/config/planner.yaml``.

Wiring only: what is decided lies in :mod:`planner_node.controller`. It proposes; what reaches the joints is decided by the guardrail.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Point, Pose, PoseArray
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from arm_model import Kinematics, ToolStep, UnreachableError, load_arm
from planner_node.commanded import Commanded
from planner_node.continuation import Continuation
from planner_node.controller import LatentController
from planner_node.episode import Code, Progress
from planner_node.guardrails.registry import build_guardrails, build_posture_check
from planner_node.guardrails.zones_in_force import ZoneSet, ZonesInForce
from planner_node.joint_path import JointPath, JointPathError
from planner_node.plan import Plan
from planner_node.planner_file import planner_config
from planner_node.planner_parameters import PlannerParameters
from planner_node.solvers.solver import Deadline
from planner_node.surprise_watch import SurpriseWatch, followed
from planner_node.tally import Tally
from planner_node.validator import validated
from ros_bridge import diagnostics, qos
from ros_bridge.images import ImageError, image_to_latent
from ros_bridge.joints import JointError, Trajectory, read_joint_state, trajectory_message
from ros_bridge.markers import line_marker, wall_markers
from ros_bridge.numbers import numbers_message
from ros_bridge.parameters import declare
from ros_bridge.process import autostart, run_node
from ros_bridge.stamps import header_at, now_ns, stamp_ns
from world_model.bundle import BundleError, read_manifest
from world_model.differentiable import DifferentiableModel
from world_model.heads.onnx_head import OnnxHead
from world_model.surprise import carried_calibration

_S = 1e-9
# What is sent of a plan: a new one comes long before its end.
_SENT_STEPS = 3
_MOST_GAP_S = 1.0
# Clocks of one machine agree that well; what lies further ahead was stamped by a clock that is wrong.
_FUTURE_NS = 50_000_000
# An arm that holds and is found this far from where it held was moved by somebody else.
_HELD_M = 0.01


class PlannerNode(LifecycleNode):
    """Turns latents into proposals for as long as a goal is shown and steps are left."""

    def __init__(self) -> None:
        super().__init__("planner_node")
        self.parameters = declare(self, PlannerParameters, self._on_parameters)
        p = self.parameters
        self._arm = load_arm(p.robot)
        manifest = read_manifest(p.model)
        if manifest.joints != self._arm.joints:
            raise BundleError(f"{p.model} was trained for joints {', '.join(manifest.joints)}, not for those of {self._arm.name}")
        self._kinematics = Kinematics(self._arm)
        self._tool_step = ToolStep.from_json(manifest.tool_step)
        if self._tool_step.action_dim != manifest.action_dim:
            raise BundleError(f"{p.model}: its tool step drives {self._tool_step.action_dim} axes, its actions {manifest.action_dim}")
        posture = build_posture_check(p.guardrails, self._arm) if p.guardrails else None
        self._guardrails = tuple(build_guardrails(p.guardrails, self._arm, self._kinematics, self._tool_step)) if p.guardrails else ()
        self._model = DifferentiableModel(p.model, p.threads)  # torch is imported only for a solver that needs gradients
        heads = [OnnxHead(folder.strip(), manifest) for folder in p.guardrail_heads.split(",") if folder.strip()]
        self._cost_heads = tuple(head for head in heads if head.card.kind == "goal-cost")
        self._heads = tuple(head for head in heads if head not in self._cost_heads)
        self._margins: dict[str, diagnostics.Value] = {}
        # Every graph runs once, so that the first plan is as fast as the others.
        self._new_controller(p).warm_up(self._tool_step.clamp(self._kinematics.tool_point(self._arm.home)))
        self._controller = self._new_controller(p)
        self._watch = SurpriseWatch(self._model, self._tool_step, *carried_calibration(manifest.surprise, manifest.sha256, manifest.latent_dim))
        self._measured: NDArray[np.float64] | None = None
        self._waiting_goal: Image | None = None
        self._motion = Continuation(self._kinematics, self._arm.limits.scaled(velocity=0.9, margin=p.position_margin), self._tool_step, posture)
        self._goal_ns = self._goal_stamp = 0
        self._zones = ZonesInForce(p.clearance_m, p.zones)
        self._fenced = ZoneSet()
        self._progress = Progress(p.progress())
        self._code = Code.IDLE
        self._begun_ns: int | None = None
        self._episode_steps = p.steps
        self._last_frame_ns = 0
        self._tally = Tally()
        self._plan_ms = diagnostics.Latencies()
        self._next_plan_s = 0.0

        self._proposals = self.create_lifecycle_publisher(JointTrajectory, "/planner/plan", qos.PLAN_OFFER)
        self._status_publisher = self.create_publisher(DiagnosticStatus, "/planner/status", qos.STATUS)
        self._imagined = self.create_publisher(PoseArray, "/planner/imagined", qos.STATUS)
        self._markers = self.create_publisher(MarkerArray, "/planner/markers", qos.STATUS)
        self._surprise = self.create_publisher(Float64MultiArray, "/planner/surprise", qos.STATUS)
        self._results = self.create_publisher(DiagnosticStatus, "/planner/result", qos.GOAL)
        self._report = diagnostics.DiagnosticsReport(self, lambda: [self._status(), self._surprise_status()])
        self.create_subscription(JointState, "/joint_states", self._on_joint_state, qos.JOINT_STATES)
        self.create_subscription(Image, "/goal/latent", self._on_goal, qos.GOAL)
        self.create_subscription(Image, "/perception/latent", self._on_latent, qos.LATENT)
        self.create_subscription(Image, "/perception/witness" if manifest.witness else "/perception/latent", self._compare, qos.LATENT)
        self.create_subscription(String, "/planner/zones", self._on_zones, qos.GOAL)
        self.create_service(Trigger, "~/cancel", self._on_cancel)
        self.create_timer(0.2, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _new_controller(self, p: PlannerParameters) -> LatentController:
        heads = {"heads": self._heads, "cost_heads": self._cost_heads, "guardrails": self._guardrails}
        return LatentController(
            self._model, self._tool_step, planner_config(p.mode, p.solver, p.planner_file, seed=p.seed, clearance_m=p.clearance_m, **heads)
        )

    def _on_parameters(self, parameters: PlannerParameters) -> None:
        self._new_controller(parameters)  # what cannot be built is refused now, not when a goal comes
        if parameters.zones != self.parameters.zones:
            self._zones = ZonesInForce(parameters.clearance_m, parameters.zones)
        elif parameters.clearance_m != self.parameters.clearance_m:
            self._zones = self._zones.with_clearance(parameters.clearance_m)
        self._progress.config = parameters.progress()
        self.parameters = parameters

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give up the goal; the guardrail brakes when plans stop."""
        self._end(Code.CANCELED)
        self._code, self._waiting_goal = Code.IDLE, None
        return super().on_deactivate(state)

    # What is heard.

    def _on_joint_state(self, msg: JointState) -> None:
        try:
            self._measured = read_joint_state(msg, self._arm.joints).position
        except JointError as error:
            return self._reject("joint state", error)
        if self._waiting_goal is not None and self._proposals.is_activated:
            goal, self._waiting_goal = self._waiting_goal, None
            self._on_goal(goal)

    def _on_goal(self, msg: Image) -> None:
        try:
            goal = image_to_latent(msg, self._model.latent_dim)
            controller = self._new_controller(self.parameters)  # its file may have changed since the parameter was set
        except ValueError as error:
            return self._reject("goal", error)
        if self._measured is None or not self._proposals.is_activated:
            self._waiting_goal = msg  # latched goals reach a planner that starts late; the arm's pose comes with the next joint state
            return
        self._end(Code.REPLACED)
        self._controller = controller
        self._controller.start(goal, self.parameters.steps)
        self._controller.fence(self._zones.current)
        self._episode_steps = self.parameters.steps
        self._goal_stamp = stamp_ns(msg.header.stamp)
        self._goal_ns = now_ns(self)
        self._motion.stand(self._measured, self._goal_ns)
        self._watch.restart()
        self._begun_ns, self._code = None, Code.PLANNING
        self._tally.new_goal()
        self._progress = Progress(self.parameters.progress())
        self._fence()

    def _on_zones(self, msg: String) -> None:
        """Zones from now on, in the middle of an episode too; what cannot be read changes nothing."""
        changed = self._zones.take(msg.data)
        if self._zones.refused:
            self._tally.rejected_zones += 1
            self.get_logger().warning(f"zones rejected, those in force stay: {self._zones.refused}")
        elif changed or self._zones.current != self._fenced:  # the same text may be the parameter's, which waits for the next goal
            if self._code is Code.PLANNING:
                self._controller.fence(self._zones.current)
            self._fence()

    def _fence(self) -> None:
        self._fenced = self._zones.current if self._controller.sees_zones else ZoneSet()
        header = header_at(now_ns(self), self._arm.base_frame)
        boxes = [(zone.centre, zone.yaw, tuple(2 * (half + zone.radius) for half in zone.half)) for zone in self._zones.current.zones]
        self._markers.publish(MarkerArray(markers=wall_markers(header, "zones", boxes, 0.4, (0.9, 0.2, 0.1, 0.5))))

    def _on_cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Give up the goal and hold."""
        if self._waiting_goal is None and self._code is not Code.PLANNING:
            response.message = f"no goal is pursued: {self._code.name}"
            return response
        if self._code is Code.PLANNING:
            self._hold(max(self._last_frame_ns, self._goal_ns))
            self._end(Code.CANCELED)
        self._waiting_goal = None
        response.success, response.message = True, Code.CANCELED.name
        return response

    def _on_latent(self, msg: Image) -> None:
        stamp, now = stamp_ns(msg.header.stamp), now_ns(self)
        try:
            latent = image_to_latent(msg, self._model.latent_dim)
        except ImageError as error:
            return self._reject("latent", error)
        self._margins = {f"margin_{head.name}": float(head.margins(latent[None])[0]) for head in self._heads}
        if self._code is not Code.PLANNING or self._motion.commanded is None:
            return
        self._tally.frame_age_ms = (now - stamp) * 1e-6
        if stamp - now > _FUTURE_NS:
            self._reject("latent", ValueError(f"its frame lies {-self._tally.frame_age_ms:.0f} ms in the future"))
            return
        gap_s = (stamp - self._last_frame_ns) * _S
        if self._begun_ns is not None and abs(gap_s) > _MOST_GAP_S:
            self._end(Code.INTERRUPTED, f"{gap_s:.1f} s between two frames: the camera paused or the clock jumped; show the goal again")
            return
        if self._tally.frame_age_ms > 1e3 * self.parameters.frame_timeout_s or stamp < self._goal_ns:
            return  # a plan from a stale frame is worse than none: the guardrail brakes when plans stop
        try:
            self._controller.see(stamp * _S, latent, self._motion.commanded.tool_at(stamp))
        except ValueError as error:
            return self._reject("latent", error)
        self._last_frame_ns = stamp
        self._begun_ns = stamp if self._begun_ns is None else self._begun_ns
        self._progress.see(stamp * _S, self._controller.distance(latent))
        verdict = self._progress.verdict
        if self._controller.steps_left(stamp * _S) <= 0:
            verdict = Code.REACHED_HORIZON
        elif not self.parameters.finish_early:
            verdict = Code.PLANNING
        if verdict is not Code.PLANNING:
            self._hold(stamp)
            self._end(verdict)
        elif self.parameters.stop_on_surprise and self._watch.surprised:
            self.get_logger().warning("surprised: no plan is sent", throttle_duration_sec=1.0)
        elif time.monotonic() >= self._next_plan_s:
            self._next_plan_s = time.monotonic() + 0.9 / self.parameters.rate_hz
            self._replan(stamp)

    def _compare(self, msg: Image) -> None:
        """Score a frame against what was expected to be seen; an arm that does not do what it was commanded has no history to expect from."""
        stamp, now = stamp_ns(msg.header.stamp), now_ns(self)
        if self._measured is None or stamp - now > _FUTURE_NS:
            return
        held = self._code is not Code.PLANNING
        tool = followed(self._motion.commanded, stamp, self._measured, now, self._kinematics, _HELD_M if held else self.parameters.resync_m)
        if held and tool is None:
            self._motion.stand(self._measured, now)
        try:
            reading = self._watch.see(stamp * _S, image_to_latent(msg, self._model.latent_dim), tool)
        except ImageError as error:
            self._reject("what surprise looks at", error)
            return
        if reading is not None:
            self._surprise.publish(numbers_message("surprise", reading.numbers()))

    # What is decided.

    def _replan(self, stamp: int) -> None:
        begun = time.monotonic()
        # The arm moves on while we plan: the new path leaves the old one where it will be when this plan arrives.
        switch = max(stamp, now_ns(self) + round(1e6 * self._plan_ms.p50))
        commanded = self._resync()
        tool = commanded.tool_at(switch)
        left = commanded.tool_at(stamp) if self.parameters.compensate_latency else tool
        found = self._controller.plan(stamp * _S, tool, Deadline.after(self.parameters.deadline_s), left)
        plan, path = validated(found, lambda choice: self._path(self._controller.sound(choice).points[: _SENT_STEPS + 1], switch))
        self._tally.planned(plan, begun, time.monotonic() - begun, self.parameters.deadline_s)
        self._plan_ms.add(self._tally.plan_ms)
        self._progress.planned(stamp * _S, sent=path is not None)
        if path is not None:
            self._send(path, stamp, switch)
        else:
            self._refuse(plan.verdict.reason)
            self._hold(stamp)
        self._show(plan, stamp)
        self._publish_status()

    def _resync(self) -> Commanded:
        """What is commanded; where the arm does not follow, for example because the guardrail stopped it, that it stands where it is measured."""
        assert self._motion.commanded is not None and self._measured is not None
        now = now_ns(self)
        if self._motion.strays(self._measured, now, self.parameters.resync_m):
            self._tally.resyncs += 1
            self._motion.stand(self._measured, now)
        return self._motion.commanded

    def _path(self, points: NDArray[np.float64], switch: int) -> JointPath:
        return self._motion.motion(points, switch, self._fenced, self.parameters.clearance_m)

    def _send(self, path: JointPath, stamp: int, switch: int) -> None:
        """Send a motion that begins at ``switch``, stamped with the frame that it was made from."""
        trajectory = Trajectory(stamp, *self._motion.follow(path, stamp, switch))
        self._proposals.publish(trajectory_message(trajectory, self._arm.joints, self._arm.base_frame))

    def _hold(self, stamp: int) -> None:
        """Hold what is commanded now. Where that cannot be held, or no fresh frame says so, nothing is sent, and the guardrail brakes."""
        if self._motion.commanded is None or self._measured is None or self._lost(stamp):
            return
        switch = max(stamp, now_ns(self))
        tool = self._resync().tool_at(switch)
        try:
            self._send(self._path(np.stack([tool, tool]), switch), stamp, switch)
        except (UnreachableError, JointPathError) as error:
            self._refuse(str(error))

    def _refuse(self, reason: str) -> None:
        self._tally.refused_plans += 1
        self.get_logger().warning(f"plan refused: {reason}", throttle_duration_sec=1.0)

    def _end(self, code: Code, reason: str = "") -> None:
        """The goal that is pursued, if there is one, is no more; the result says why."""
        if self._code is not Code.PLANNING:
            return
        if reason:
            self.get_logger().error(reason)
        self._code = code
        level = diagnostics.OK if code > 0 else diagnostics.WARN
        seconds = (now_ns(self) - self._goal_ns) * _S
        self._results.publish(diagnostics.status(self.get_name(), code.name, {**self._pursuit(), "seconds": seconds, "reason": reason}, level))
        self._publish_status()

    def _reject(self, what: str, error: Exception) -> None:
        self._tally.rejected_inputs += 1
        if what == "goal":  # rare, and not to be lost among what comes with every frame
            self.get_logger().warning(f"goal rejected: {error}")
        else:
            self.get_logger().warning(f"{what} rejected: {error}", throttle_duration_sec=1.0)

    # What is told.

    def _show(self, plan: Plan, stamp: int) -> None:
        poses = [Pose(position=Point(x=float(x), y=float(y), z=float(z))) for x, y, z in plan.points]
        self._imagined.publish(PoseArray(header=header_at(stamp, self._arm.base_frame), poses=poses))
        header = header_at(now_ns(self), self._arm.base_frame)
        self._markers.publish(MarkerArray(markers=[line_marker(header, "imagined", [pose.position for pose in poses], 0.006, (0.1, 0.8, 0.3, 0.9))]))

    def _pursuit(self) -> dict[str, diagnostics.Value]:
        """Which goal it is, named by the stamp of its picture, and how far its pursuit has come."""
        progress = self._progress
        step = 0.0 if self._begun_ns is None else self._episode_steps - self._controller.steps_left(self._last_frame_ns * _S)
        return {
            "goal_stamp_ns": self._goal_stamp,
            "code": int(self._code),
            "step": round(step),
            "steps": self._episode_steps,
            "plans": self._tally.plans,
            "steps_to_goal": progress.distance if np.isfinite(progress.distance) else -1.0,
            "near": progress.near,
            "stalled": progress.stalled,
            "blocked": progress.blocked,
        }

    def _status(self) -> DiagnosticStatus:
        plan = self._tally.last_plan
        values: dict[str, diagnostics.Value] = {
            **self._pursuit(),
            **self._tally.values(),
            "plan_ms_p50": self._plan_ms.p50,
            "plan_ms_p99": self._plan_ms.p99,
            "mode": self.parameters.mode,
            "zones": len(self._zones.current.zones) + len(self._zones.current.solids),
            "providers": ",".join(self._model.providers),
            **self._watch.values(),
            **self._margins,
        }
        level = diagnostics.WARN if plan is not None and not plan.feasible and self._code is Code.PLANNING else diagnostics.OK
        return diagnostics.status(self.get_name(), self._code.name, values, level)

    def _surprise_status(self) -> DiagnosticStatus:
        message, warn = self._watch.word()
        return diagnostics.status("planner_node: surprise", message, self._watch.values(), diagnostics.WARN if warn else diagnostics.OK)

    def _on_timer(self) -> None:
        if self._begun_ns is not None and self._lost(self._last_frame_ns):
            self._end(Code.INTERRUPTED, "no frame to plan from any more; show the goal again")
        self._publish_status()

    def _lost(self, stamp: int) -> bool:
        return (now_ns(self) - stamp) * _S > max(_MOST_GAP_S, self.parameters.frame_timeout_s)

    def _publish_status(self) -> None:
        self._status_publisher.publish(self._status())


def _start() -> PlannerNode:
    node = PlannerNode()
    if node.parameters.autostart:
        autostart(node)
    return node


def main() -> int:
    """Run the node; return the exit status of the process."""
    return run_node(_start)


if __name__ == "__main__":
    sys.exit(main())
