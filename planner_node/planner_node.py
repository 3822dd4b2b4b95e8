"""The planner as a process: ``python -m planner_node.planner_node --ros-args --params-file launch/config/planner.yaml``.

Wiring only: what is decided lies in :mod:`planner_node.controller`. It proposes; what reaches the joints is decided by the guardrail.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Point, Pose, PoseArray
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from arm_model import Kinematics, ToolStep, UnreachableError, load_arm
from planner_node.assembly import MODES, PlannerConfig
from planner_node.commanded import Commanded
from planner_node.controller import LatentController
from planner_node.guardrails.zone import Zone, read_zones
from planner_node.joint_path import JointPath, JointPathError, resolve
from planner_node.plan import Plan
from planner_node.pursuit import PursuitConfig, pursue
from planner_node.solvers.solver import Deadline
from planner_node.surprise_watch import SurpriseWatch, followed
from planner_node.validator import require_clear
from ros_bridge import diagnostics, qos
from ros_bridge.images import ImageError, image_to_latent
from ros_bridge.joints import JointError, Trajectory, read_joint_state, trajectory_message
from ros_bridge.markers import box_marker, line_marker
from ros_bridge.numbers import numbers_message
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import autostart, run_node
from ros_bridge.stamps import header_at, now_ns, stamp_ns
from world_model.bundle import BundleError, read_manifest
from world_model.heads.onnx_head import OnnxHead
from world_model.runtime import OnnxModel

_S = 1e-9
_SPACING_S = 0.05
# What is sent of a plan: a new one comes long before its end.
_SENT_STEPS = 3
_PURSUIT = PursuitConfig()
_RATE_WINDOW_S = 2.0
_MOST_GAP_S = 1.0
# Clocks of one machine agree that well; what lies further ahead was stamped by a clock that is wrong.
_FUTURE_NS = 50_000_000
# An arm that holds and is found this far from where it held was moved by somebody else.
_HELD_M = 0.01


@dataclass(frozen=True)
class PlannerParameters:
    """Parameters of the planner node.

    ``robot``, ``model``, ``guardrail_heads``, ``threads``, ``autostart`` and ``position_margin`` are fixed at the start; ``mode``, ``zones``,
    ``clearance_m``, ``steps`` and ``seed`` take effect with the next goal, the others at once.
    """

    robot: str = parameter("panda_stick", "name of a shipped arm, or path of an arm description in YAML")
    model: str = parameter("models/push", "folder of the model bundle")
    autostart: bool = parameter(True, "configure and activate without being asked")
    mode: str = parameter("planner", "planner: searches along the actor; actor: the actor alone; cem: searches without the actor", choices=MODES)
    steps: int = parameter(30, "actions that an episode may take before the arm holds", at_least=1, at_most=100_000)
    zones: str = parameter("", "forbidden zones in YAML: a list of {centre: [x, y], half: [a, b], yaw: rad, radius: m}")
    guardrail_heads: str = parameter("", "folders of guardrail heads from `latent-mpc head fit`, separated by commas")
    clearance_m: float = parameter(0.015, "m that the commanded tool point keeps from zones", at_least=0.0, at_most=0.5)
    seed: int = parameter(0, "seed of the search", at_least=0, at_most=2**31 - 1)
    deadline_s: float = parameter(0.06, "s after which the best plan so far is taken", at_least=0.005, at_most=10.0)
    rate_hz: float = parameter(20.0, "plans a second at most", at_least=1.0, at_most=100.0)
    frame_timeout_s: float = parameter(0.2, "s of age at which a latent is too old to plan from", at_least=0.02, at_most=10.0)
    resync_m: float = parameter(0.04, "m between commanded and measured tool point at which the plan starts over from there", at_least=0.005)
    stop_on_surprise: bool = parameter(False, "send no plan while the camera shows what was not expected; the guardrail brakes")
    position_margin: float = parameter(0.03, "rad that plans keep from both ends of every joint", at_least=0.0, at_most=1.0)
    threads: int = parameter(1, "threads of the inference sessions", at_least=1, at_most=64)

    def __post_init__(self) -> None:
        read_zones(self.zones)


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
        self._limits = self._arm.limits.scaled(velocity=0.9, margin=p.position_margin)
        self._tool_step = ToolStep.from_json(manifest.tool_step)
        if self._tool_step.action_dim != manifest.action_dim:
            raise BundleError(f"{p.model}: its tool step drives {self._tool_step.action_dim} axes, its actions {manifest.action_dim}")
        self._model = OnnxModel(p.model, p.threads)
        self._heads = tuple(OnnxHead(folder.strip(), manifest) for folder in p.guardrail_heads.split(",") if folder.strip())
        self._margins: dict[str, diagnostics.Value] = {}
        self._warm_up()
        self._controller = self._new_controller()
        self._watch = SurpriseWatch.of_bundle(self._model, manifest, self._tool_step)
        self._measured: NDArray[np.float64] | None = None
        self._waiting_goal: Image | None = None
        self._commanded: Commanded | None = None
        self._fenced: tuple[Zone, ...] = ()
        self._begun_ns: int | None = None
        self._episode_steps = p.steps
        self._state = "IDLE"
        self._goal_ns = self._last_frame_ns = 0
        self._plans = self._refused = self._resyncs = self._overruns = self._rejected = 0
        self._plan_times: list[float] = []
        self._plan_ms = diagnostics.Latencies()
        self._last_ms = self._frame_age_ms = 0.0
        self._last_plan: Plan | None = None
        self._next_plan_s = 0.0

        self._proposals = self.create_lifecycle_publisher(JointTrajectory, "/planner/plan", qos.PLAN)
        self._status_publisher = self.create_publisher(DiagnosticStatus, "/planner/status", qos.STATUS)
        self._imagined = self.create_publisher(PoseArray, "/planner/imagined", qos.STATUS)
        self._markers = self.create_publisher(MarkerArray, "/planner/markers", qos.STATUS)
        self._surprise = self.create_publisher(Float64MultiArray, "/planner/surprise", qos.STATUS)
        self._report = diagnostics.DiagnosticsReport(self, lambda: [self._status(), self._surprise_status()])
        self.create_subscription(JointState, "/joint_states", self._on_joint_state, qos.JOINT_STATES)
        self.create_subscription(Image, "/goal/latent", self._on_goal, qos.GOAL)
        self.create_subscription(Image, "/perception/latent", self._on_latent, qos.LATENT)
        self.create_subscription(Image, self._watch.topic, self._compare, qos.LATENT)
        self.create_timer(0.2, self._publish_status, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _warm_up(self) -> None:
        """Run every graph once, so that the first plan is as fast as the others."""
        controller = self._new_controller()
        latent = np.zeros(self._model.latent_dim, dtype=np.float32)
        controller.start(latent, 2)
        tool = self._tool_step.clamp(self._kinematics.tool_point(self._arm.home))
        controller.see(0.0, latent, tool)
        controller.plan(0.0, tool, Deadline.after(10.0))

    def _new_controller(self) -> LatentController:
        p = self.parameters
        return LatentController(self._model, self._tool_step, PlannerConfig(p.mode, p.seed, p.clearance_m, heads=self._heads))

    def _on_parameters(self, parameters: PlannerParameters) -> None:
        for name in ("robot", "model", "guardrail_heads", "threads", "autostart", "position_margin"):
            if getattr(parameters, name) != getattr(self.parameters, name):
                raise ValueError(f"parameter '{name}' is fixed at the start; restart the node")
        self.parameters = parameters

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give up the goal; the guardrail brakes when plans stop."""
        self._end("IDLE", "")
        return super().on_deactivate(state)

    # What is heard.

    def _on_joint_state(self, msg: JointState) -> None:
        try:
            self._measured = read_joint_state(msg, self._arm.joints).position
        except JointError as error:
            self._reject("joint state", error)
            return
        if self._waiting_goal is not None:
            goal, self._waiting_goal = self._waiting_goal, None
            self._on_goal(goal)

    def _on_goal(self, msg: Image) -> None:
        try:
            goal = image_to_latent(msg, self._model.latent_dim)
        except ImageError as error:
            self._reject("goal", error)
            return
        if self._measured is None:
            self._waiting_goal = msg  # latched goals reach a planner that starts late; the arm's pose comes with the next joint state
            return
        zones = read_zones(self.parameters.zones)
        self._controller = self._new_controller()
        self._controller.start(goal, self.parameters.steps, zones)
        self._episode_steps = self.parameters.steps
        self._goal_ns = now_ns(self)
        self._commanded = self._standing(self._measured, self._goal_ns)
        self._watch.restart()
        self._begun_ns, self._plans, self._plan_times = None, 0, []
        self._state = "PLANNING"
        self._fenced = () if self.parameters.mode == "actor" else zones
        self._draw_zones(zones)

    def _on_latent(self, msg: Image) -> None:
        stamp, now = stamp_ns(msg.header.stamp), now_ns(self)
        try:
            latent = image_to_latent(msg, self._model.latent_dim)
        except ImageError as error:
            self._reject("latent", error)
            return
        self._margins = {f"margin_{head.name}": float(head.margins(latent[None])[0]) for head in self._heads}
        if self._state != "PLANNING" or self._commanded is None:
            return
        self._frame_age_ms = (now - stamp) * 1e-6
        if stamp - now > _FUTURE_NS:
            self._reject("latent", ValueError(f"its frame lies {-self._frame_age_ms:.0f} ms in the future"))
            return
        gap_s = (stamp - self._last_frame_ns) * _S
        if self._begun_ns is not None and abs(gap_s) > _MOST_GAP_S:
            self._end("IDLE", f"{gap_s:.1f} s between two frames: the camera paused or the clock jumped; show the goal again")
            return
        if self._frame_age_ms > 1e3 * self.parameters.frame_timeout_s or stamp < self._goal_ns:
            return  # a plan from a stale frame is worse than none: the guardrail brakes when plans stop
        try:
            self._controller.see(stamp * _S, latent, self._commanded.tool_at(stamp))
        except ValueError as error:
            self._reject("latent", error)
            return
        self._last_frame_ns = stamp
        self._begun_ns = stamp if self._begun_ns is None else self._begun_ns
        if self._controller.steps_left(stamp * _S) <= 0:
            self._finish(stamp)
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
        held = self._state != "PLANNING"
        tool = followed(self._commanded, stamp, self._measured, now, self._kinematics, _HELD_M if held else self.parameters.resync_m)
        if held and tool is None:
            self._commanded = self._standing(self._measured, now)
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
        tool, seed = self._continued(switch)
        plan = self._controller.plan(stamp * _S, tool, Deadline.after(self.parameters.deadline_s))
        elapsed_s = time.monotonic() - begun
        self._overruns += elapsed_s > self.parameters.deadline_s
        self._last_ms = 1e3 * elapsed_s
        self._plan_ms.add(self._last_ms)
        self._plans += 1
        self._plan_times = [t for t in self._plan_times if t > begun - _RATE_WINDOW_S] + [begun]
        self._last_plan = plan
        points = plan.points[: _SENT_STEPS + 1] if plan.feasible else np.stack([tool, tool])
        self._refused += not plan.feasible
        try:
            path = self._motion(points, tool, seed, switch)
        except (UnreachableError, JointPathError) as error:
            self._refused += 1
            self.get_logger().warning(f"plan refused: {error}", throttle_duration_sec=1.0)
            return
        self._propose(path, stamp, switch)
        self._show(plan, stamp)
        self._publish_status()

    def _continued(self, switch: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Commanded tool and joints at ``switch``; the measured ones where the arm does not follow, for example because the guardrail stopped it."""
        assert self._commanded is not None and self._measured is not None
        now = now_ns(self)
        measured = self._kinematics.tool_point(self._measured)
        if float(np.linalg.norm(measured - self._commanded.tool_at(now))) > self.parameters.resync_m:
            self._resyncs += 1
            self._commanded = self._standing(self._measured, now)
        return self._commanded.tool_at(switch), self._commanded.joints_at(switch)

    def _motion(self, points: NDArray[np.float64], tool: NDArray[np.float64], seed: NDArray[np.float64], switch: int) -> JointPath:
        """The joints' way along planned ``points``, from where and as fast as the ``tool`` will be at ``switch``.

        Raises:
            UnreachableError: a point has no joint configuration inside the limits.
            JointPathError: a joint would leave its limits on the way, or the tool come too close to a zone.
        """
        assert self._commanded is not None
        _, tools = pursue(points, self._tool_step, tool, self._commanded.velocity_at(switch), _PURSUIT)
        require_clear(tools, self._fenced, self.parameters.clearance_m)
        every = round(_SPACING_S / _PURSUIT.cycle_s)
        return resolve(tools[::every], _SPACING_S, _SPACING_S, self._kinematics, self._limits, seed)

    def _standing(self, joints: NDArray[np.float64], ns: int) -> Commanded:
        """The arm taken to be commanded where it stands."""
        return Commanded(joints, self._tool_step.clamp(self._kinematics.tool_point(joints)), ns)

    def _propose(self, path: JointPath, stamp: int, begins: int) -> None:
        """Send a path that begins at ROS time ``begins``, stamped with the frame that it was made from, the old path leading up to it."""
        assert self._commanded is not None
        lead_s = (begins - stamp) * _S
        before = np.arange(0.0, lead_s - 0.5 * _SPACING_S, _SPACING_S)
        old = np.array([self._commanded.joints_at(stamp + round(1e9 * float(t))) for t in before]).reshape(-1, path.positions.shape[1])
        positions = np.concatenate([old, path.positions])
        times = np.concatenate([before, lead_s + path.times])
        velocities = np.gradient(positions, times, axis=0)
        velocities[-1] = 0.0
        self._commanded.follow(path, begins)
        self._proposals.publish(trajectory_message(Trajectory(stamp, times, positions, velocities), self._arm.joints, self._arm.base_frame))

    def _finish(self, stamp: int) -> None:
        """All steps are used: hold what is commanded now. Where that cannot be held, nothing is sent, and the guardrail brakes."""
        switch = max(stamp, now_ns(self))
        tool, seed = self._continued(switch)
        try:
            self._propose(self._motion(np.stack([tool, tool]), tool, seed, switch), stamp, switch)
        except (UnreachableError, JointPathError) as error:
            self._refused += 1
            self.get_logger().warning(f"plan refused: {error}")
        self._end("REACHED_HORIZON", "")

    def _end(self, state: str, reason: str) -> None:
        if reason:
            self.get_logger().error(reason)
        self._state = state
        self._publish_status()

    def _reject(self, what: str, error: Exception) -> None:
        self._rejected += 1
        self.get_logger().warning(f"{what} rejected: {error}", throttle_duration_sec=1.0)

    # What is told.

    def _show(self, plan: Plan, stamp: int) -> None:
        poses = [Pose(position=Point(x=float(x), y=float(y), z=float(z))) for x, y, z in plan.points]
        self._imagined.publish(PoseArray(header=header_at(stamp, self._arm.base_frame), poses=poses))
        header = header_at(now_ns(self), self._arm.base_frame)
        self._markers.publish(MarkerArray(markers=[line_marker(header, "imagined", [pose.position for pose in poses], 0.006, (0.1, 0.8, 0.3, 0.9))]))

    def _draw_zones(self, zones: tuple[Zone, ...]) -> None:
        header, markers = header_at(now_ns(self), self._arm.base_frame), [Marker(action=Marker.DELETEALL)]
        for number, zone in enumerate(zones):
            centre, size = Point(x=zone.centre[0], y=zone.centre[1], z=0.2), (2 * (zone.half[0] + zone.radius), 2 * (zone.half[1] + zone.radius), 0.4)
            markers.append(box_marker(header, "zones", number, centre, zone.yaw, size, (0.9, 0.2, 0.1, 0.5)))
        self._markers.publish(MarkerArray(markers=markers))

    def _status(self) -> DiagnosticStatus:
        plan = self._last_plan
        step = 0.0 if self._begun_ns is None else self._episode_steps - self._controller.steps_left(self._last_frame_ns * _S)
        span = self._plan_times[-1] - self._plan_times[0] if len(self._plan_times) > 1 else 0.0
        values: dict[str, diagnostics.Value] = {
            "step": round(step),
            "steps": self._episode_steps,
            "plans": self._plans,
            "plan_ms": self._last_ms,
            "plan_ms_p50": self._plan_ms.p50,
            "plan_ms_p99": self._plan_ms.p99,
            "plan_rate_hz": (len(self._plan_times) - 1) / span if span > 0 else 0.0,
            "frame_age_ms": self._frame_age_ms,
            "cost": plan.cost if plan is not None and np.isfinite(plan.cost) else 0.0,
            "margin_m": plan.margin if plan is not None and np.isfinite(plan.margin) else 0.0,
            "feasible": plan.feasible if plan is not None else True,
            "candidates": plan.candidates if plan is not None else 0,
            "mode": self.parameters.mode,
            "refused_plans": self._refused,
            "resyncs": self._resyncs,
            "overruns": self._overruns,
            "rejected_inputs": self._rejected,
            "providers": ",".join(self._model.providers),
            **self._watch.values(),
            **self._margins,
            **({} if plan is None else {f"cost_{name}": value for name, value in plan.terms.items()}),
        }
        level = diagnostics.WARN if plan is not None and not plan.feasible and self._state == "PLANNING" else diagnostics.OK
        return diagnostics.status(self.get_name(), self._state, values, level)

    def _surprise_status(self) -> DiagnosticStatus:
        message, warn = self._watch.word()
        return diagnostics.status("planner_node: surprise", message, self._watch.values(), diagnostics.WARN if warn else diagnostics.OK)

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
