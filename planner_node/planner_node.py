"""The planner as a process: ``python -m planner_node.planner_node --ros-args --params-file launch/config/planner.yaml``.

Wiring only: what is decided lies in :mod:`planner_node.proposer`. It proposes; what reaches the joints is decided by the guardrail.

The executor's thread listens and answers. One other thread does all that the proposer does, in the order in which it was heard. While that plans,
joint states and latents wait where the middleware keeps the newest of each; who waits for an answer cuts the search short. Surprise hears all.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from dataclasses import asdict

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Point, Pose, PoseArray
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Int64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from planner_node.episode import Code
from planner_node.equipping import equip
from planner_node.guardrails.zones_in_force import ZoneSet
from planner_node.journal import Moment, checksum
from planner_node.outlet import Values
from planner_node.plan import Plan
from planner_node.planner_parameters import PlannerParameters
from planner_node.proposer import Proposer
from planner_node.solvers.solver import Deadline
from ros_bridge import diagnostics, qos
from ros_bridge.images import ImageError, image_to_latent
from ros_bridge.joints import JointError, Trajectory, read_joint_state, trajectory_message
from ros_bridge.markers import line_marker, wall_markers
from ros_bridge.numbers import journal_message, numbers_message
from ros_bridge.parameters import declare
from ros_bridge.process import autostart, run_node
from ros_bridge.scheduling import schedule
from ros_bridge.sign_of_life import SignOfLife
from ros_bridge.stamps import header_at, now_ns, stamp_ns
from ros_bridge.worker import Worker
from world_model.bundle import read_manifest
from world_model.heads.onnx_head import OnnxHead
from world_model.precision.tolerance import doubts
from world_model.surprise import Reading

_SAID_AGAIN_S = 1.0
# Beyond the deadline of a search: what the worker does besides takes milliseconds.
_STUCK_S = 2.0
_UNREPORTED = 1000


class PlannerNode(LifecycleNode):
    """Hands what it hears to a proposer, and sends what comes out."""

    def __init__(self) -> None:
        super().__init__("planner_node")
        self.parameters = declare(self, PlannerParameters, self._on_parameters)
        p = self.parameters
        manifest = read_manifest(p.model)
        equipment, self._model = equip(p)
        self._arm, self._latent_dim = equipment.arm, equipment.model.latent_dim
        self._providers = ",".join(getattr(equipment.model, "providers", ()))
        self._said_s: dict[str, float] = {}
        self._scheduling = schedule(p.cpu_affinity, p.priority, self.get_logger().warning)
        self._proposer = Proposer(equipment, p, self, self)
        self._worker = Worker(self, "planner")

        self._proposals = self.create_lifecycle_publisher(JointTrajectory, "/planner/plan", qos.PLAN_OFFER)
        self._sign_of_life = SignOfLife(self._proposals)
        self._status_publisher = self.create_publisher(DiagnosticStatus, "/planner/status", qos.STATUS)
        self._imagined = self.create_publisher(PoseArray, "/planner/imagined", qos.STATUS)
        self._markers = self.create_publisher(MarkerArray, "/planner/markers", qos.STATUS)
        self._surprise = self.create_publisher(Float64MultiArray, "/planner/surprise", qos.STATUS)
        self._results = self.create_publisher(DiagnosticStatus, "/planner/result", qos.GOAL)
        self._journal = self.create_publisher(Int64MultiArray, "/planner/journal", qos.JOURNAL)
        self._settings = self.create_publisher(String, "/planner/settings", qos.GOAL)
        self._report = diagnostics.DiagnosticsReport(self, self._reported)
        free = self._worker.when_free
        self.create_subscription(JointState, "/joint_states", self._on_joint_state, qos.JOINT_STATES, callback_group=free)
        self.create_subscription(Image, "/goal/latent", self._on_goal, qos.GOAL)
        self.create_subscription(Image, "/perception/latent", self._on_latent, qos.LATENT, callback_group=free)
        scored = "/perception/witness" if manifest.witness else "/perception/latent"
        self.create_subscription(Image, scored, self._compare, qos.LATENT)
        self.create_subscription(String, "/planner/zones", self._on_zones, qos.GOAL)
        self.create_service(Trigger, "~/cancel", self._on_cancel)
        self.create_timer(0.2, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._status_now, self._surprise_values = self._status(), self._proposer.watch.values()
        # The worker says how it goes many times between two reports: what was high in one of them is not lost to the next.
        self._unreported: deque[Reading] = deque(maxlen=_UNREPORTED)
        self._settings.publish(String(data=_settings_text(p)))
        heads = [head for head in equipment.heads if isinstance(head, OnnxHead)]
        self._doubts = doubts(p.model, manifest, self._model.choice, heads)
        self._runtime_report = diagnostics.DiagnosticsReport(self, lambda: [self._runtime_status()])
        for line in self._model.choice.lines(self._model.first_run_ms):
            self.get_logger().info(line)
        for line in self._doubts:
            self.get_logger().warning(line)

    def destroy_node(self) -> None:
        """End the threads before what they publish with."""
        if hasattr(self, "_worker"):
            self._worker.close()
        if hasattr(self, "_sign_of_life"):
            self._sign_of_life.close()
        super().destroy_node()

    def _on_parameters(self, parameters: PlannerParameters, names: frozenset[str]) -> None:
        text = _settings_text(parameters)
        now = self.now()
        self._worker.ask(lambda: self._proposer.set(parameters, now, checksum(text), zones_named="zones" in names))
        self.parameters = parameters
        self._settings.publish(String(data=text))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Pursue goals."""
        answer = super().on_activate(state)
        now = self.now()
        self._worker.ask(lambda: self._proposer.activate(now))
        return answer

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give up the goal; the guardrail brakes when plans stop."""
        self._give_up()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As ``on_deactivate``: an active node may be shut down at once."""
        self._give_up()
        return super().on_shutdown(state)

    def _give_up(self) -> None:
        now = self.now()
        self._worker.ask(lambda: self._proposer.deactivate(now))

    # What is heard.

    def _on_joint_state(self, msg: JointState) -> None:
        now = self.now()
        try:
            reading = read_joint_state(msg, self._arm.joints)
        except JointError as error:
            return self._reject("joint state", error)
        self._worker.post(lambda: self._proposer.measured(reading.position, reading.stamp_ns, now))

    def _on_goal(self, msg: Image) -> None:
        now = self.now()
        try:
            goal = image_to_latent(msg, self._latent_dim)
        except ImageError as error:
            return self._reject("goal", error)
        self._worker.post(lambda: self._proposer.goal(goal, stamp_ns(msg.header.stamp), now))

    def _on_latent(self, msg: Image) -> None:
        now = self.now()
        latent = self._latent(msg)
        if latent is not None:
            self._worker.post(lambda: self._proposer.frame(latent, stamp_ns(msg.header.stamp), now), keep_away=True)

    def _compare(self, msg: Image) -> None:
        now = self.now()
        latent = self._latent(msg)
        if latent is not None:
            self._worker.post(lambda: self._proposer.witness(latent, stamp_ns(msg.header.stamp), now))

    def _latent(self, msg: Image) -> NDArray[np.float32] | None:
        try:
            return image_to_latent(msg, self._latent_dim)
        except ImageError as error:
            self._reject("latent", error)
            return None

    def _reject(self, what: str, error: Exception) -> None:
        self._worker.post(lambda: self._proposer.reject(what, error))

    def _on_zones(self, msg: String) -> None:
        now = self.now()
        self._worker.post(lambda: self._proposer.zones(msg.data, now))

    def _on_cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        now = self.now()
        response.success, response.message = self._worker.ask(lambda: self._proposer.cancel(now))
        return response

    def _on_timer(self) -> None:
        now = self.now()
        self._worker.post(lambda: self._tick(now))

    def _tick(self, now: Moment) -> None:
        self._proposer.tick(now)
        self._publish_journal()

    def _publish_journal(self) -> None:
        first, rows = self._proposer.journal.drain()
        self._journal.publish(journal_message(first, rows))

    # The clock of the proposer.

    def now(self) -> Moment:
        """ROS time and the steady clock's."""
        return Moment(now_ns(self), time.monotonic())

    def deadline(self, seconds: float) -> Deadline:
        """A search ends when its time is up, or when somebody waits for an answer."""
        return Deadline.after(seconds, called_off=lambda: self._worker.awaited)

    # Its outlet.

    def plan(self, stamp_ns: int, times: NDArray[np.float64], positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> None:
        """See ``Outlet``."""
        self._proposals.publish(trajectory_message(Trajectory(stamp_ns, times, positions, velocities), self._arm.joints, self._arm.base_frame))

    def imagined(self, plan: Plan, stamp_ns: int) -> None:
        """See ``Outlet``."""
        poses = [Pose(position=Point(x=float(x), y=float(y), z=float(z))) for x, y, z in plan.points]
        self._imagined.publish(PoseArray(header=header_at(stamp_ns, self._arm.base_frame), poses=poses))
        header = header_at(now_ns(self), self._arm.base_frame)
        self._markers.publish(MarkerArray(markers=[line_marker(header, "imagined", [pose.position for pose in poses], 0.006, (0.1, 0.8, 0.3, 0.9))]))

    def fenced(self, zones: ZoneSet) -> None:
        """See ``Outlet``."""
        header = header_at(now_ns(self), self._arm.base_frame)
        boxes = [(zone.centre, zone.yaw, tuple(2 * (half + zone.radius) for half in zone.half)) for zone in zones.zones]
        self._markers.publish(MarkerArray(markers=wall_markers(header, "zones", boxes, 0.4, (0.9, 0.2, 0.1, 0.5))))

    def surprise(self, reading: Reading) -> None:
        """See ``Outlet``."""
        self._surprise.publish(numbers_message("surprise", reading.numbers()))

    def result(self, code: Code, values: Values) -> None:
        """See ``Outlet``."""
        level = diagnostics.OK if code > 0 else diagnostics.WARN
        self._results.publish(diagnostics.status(self.get_name(), code.name, values, level))
        self._publish_journal()  # who waits for the end of a goal may stop recording with it

    def status(self) -> None:
        """See ``Outlet``."""
        self._status_now, self._surprise_values = self._status(), self._proposer.watch.values()
        reading = self._proposer.watch.taken()
        if reading is not None:
            self._unreported.append(reading)
        self._status_publisher.publish(self._status_now)

    def say(self, what: str, text: str, grave: bool = False) -> None:
        """See ``Outlet``. A goal is rare, and not to be lost among what comes with every frame; so are zones and the end of a goal."""
        if what not in ("goal", "zones", "end"):
            now = time.monotonic()
            if now - self._said_s.get(what, -_SAID_AGAIN_S) < _SAID_AGAIN_S:
                return
            self._said_s[what] = now
        if grave:
            self.get_logger().error(text)
        else:
            self.get_logger().warning(text)

    def _status(self) -> DiagnosticStatus:
        values: dict[str, diagnostics.Value] = {**self._proposer.values(), "providers": self._providers, "scheduling": self._scheduling}
        level = diagnostics.WARN if self._proposer.worrying else diagnostics.OK
        return diagnostics.status(self.get_name(), self._proposer.code.name, values, level)

    def _reported(self) -> list[DiagnosticStatus]:
        """What the worker said of itself last, unless it is stuck since, and the highest surprise since the last report."""
        last, busy_s = self._status_now, self._worker.busy_s
        if busy_s > self.parameters.deadline_s + _STUCK_S:
            message = f"at one thing for {busy_s:.0f} s: nothing is planned, the guardrail brakes"
            last = DiagnosticStatus(level=diagnostics.ERROR, name=last.name, message=message, values=last.values)
        readings = [self._unreported.popleft() for _ in range(len(self._unreported))]
        message, warn = self._proposer.watch.word(max(readings, key=lambda reading: reading.score, default=None))
        level = diagnostics.WARN if warn else diagnostics.OK
        return [last, diagnostics.status("planner_node: surprise", message, self._surprise_values, level)]

    def _runtime_status(self) -> DiagnosticStatus:
        choice = self._model.choice
        message = "; ".join([f"networks on {choice.runs_on}", *self._doubts])
        level = diagnostics.WARN if self._doubts else diagnostics.OK
        return diagnostics.status("planner_node: runtime", message, choice.values(self._model.first_run_ms), level)


def _settings_text(parameters: PlannerParameters) -> str:
    return json.dumps(asdict(parameters), sort_keys=True)


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
