"""An arm that follows the planner's plans, over DDS, and an operator who shows it goals; both record what they hear."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from conftest import wait_until
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Int64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from arm_model import Kinematics, load_arm
from planner_node.journal import COLUMNS, Entry, Kind, read_rows
from ros_bridge import qos
from ros_bridge.diagnostics import status_values
from ros_bridge.images import latent_to_image
from ros_bridge.joints import Trajectory, joint_state_message, read_trajectory
from ros_bridge.stamps import header_at, now_ns

ARM = load_arm()
KINEMATICS = Kinematics(ARM)
START = KINEMATICS.solve(np.array([0.5, 0.0, 0.2]))
LATENT_DIM = 8
# Reliable, as the planner offers them; a follower that stands still for a moment misses none of them.
_ALL_PLANS = QoSProfile(depth=200)
# How a planner words it that it had no frames: what a machine that stands still makes of any pursuit.
NO_FRAMES = _LATE, _NONE = ("s between two frames: the camera paused", "no frame to plan from any more")
# What a planner has to tolerate between two frames, by their stamps, and how far ahead of its clock the stamp of one may lie that it uses.
_MOST_GAP_NS = 1_000_000_000
_FUTURE_NS = 50_000_000

Values = dict[str, str]


@dataclass(frozen=True)
class Pursuit:
    """What a goal led to: the joints when it was shown, its plans, the values of its statuses and of its result, and the s from showing to result."""

    begun_at: np.ndarray
    plans: list[Trajectory]
    statuses: list[DiagnosticStatus]
    result: Values
    took_s: float

    @property
    def values(self) -> Values:
        return status_values(self.statuses[-1])


class Follower:
    """Publishes joint states at 100 Hz that are what the newest plan says, and frames' latents at 20 Hz; records everything."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("follower")
        self.plans: list[Trajectory] = []
        self.statuses: list[DiagnosticStatus] = []
        self.imagined: list[PoseArray] = []
        self.markers: list[MarkerArray] = []
        self.results: list[DiagnosticStatus] = []
        self.reports: dict[str, DiagnosticStatus] = {}
        self.frames: list[int] = []
        self.names: set[tuple[str, ...]] = set()
        self.shift_ns = 0
        self.silent = False
        self.position = START.copy()
        self._rows: list[np.ndarray] = []
        self._clients: dict[str, Client] = {}
        self._joints = self.node.create_publisher(JointState, "/joint_states", qos.JOINT_STATES)
        self._latents = self.node.create_publisher(Image, "/perception/latent", qos.LATENT)
        self._goals = self.node.create_publisher(Image, "/goal/latent", qos.GOAL)
        self._zones = self.node.create_publisher(String, "/planner/zones", qos.GOAL)
        subscribe = self.node.create_subscription
        subscribe(JointTrajectory, "/planner/plan", self._on_plan, _ALL_PLANS)
        subscribe(DiagnosticStatus, "/planner/result", self.results.append, QoSProfile(depth=10, durability=qos.GOAL.durability))
        subscribe(DiagnosticArray, "/diagnostics", lambda msg: self.reports.update({s.name: s for s in msg.status}), qos.STATUS)
        subscribe(PoseArray, "/planner/imagined", self.imagined.append, qos.STATUS)
        subscribe(MarkerArray, "/planner/markers", self.markers.append, qos.STATUS)
        subscribe(Int64MultiArray, "/planner/journal", lambda msg: self._rows.append(np.array(msg.data).reshape(-1, COLUMNS)), qos.JOURNAL)
        # The last one: end points are announced in order, so that a planner whose status is heard has found all the others.
        subscribe(DiagnosticStatus, "/planner/status", self.statuses.append, qos.STATUS)
        self.node.create_timer(0.01, self._publish_joints)
        self.node.create_timer(0.05, self._publish_latent)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    def meet(self) -> None:
        """Wait for a planner that is ready, hears what is published here, and answers."""
        self.wait_for("IDLE")
        heard = (self._joints, self._latents, self._goals, self._zones)
        wait_until(lambda: all(publisher.get_subscription_count() > 0 for publisher in heard), what="a planner that listens")
        wait_until(lambda: {Kind.JOINTS, Kind.FRAME} <= {entry.kind for entry in self.entries}, what="joint states and frames that are heard")
        # What changes nothing: no goal is pursued, no parameter set, and there is no such transition.
        self._warm(Trigger, "cancel", Trigger.Request())
        self._warm(SetParameters, "set_parameters", SetParameters.Request())
        self._warm(GetParameters, "get_parameters", GetParameters.Request())
        self._warm(ChangeState, "change_state", ChangeState.Request(transition=Transition(label="stay as it is")))

    def _warm(self, kind: type, service: str, harmless: Any) -> None:
        """A client that lasts, and is known to the server: one that has not yet found its client drops what it answers, for good."""
        client = self._clients[service] = self.node.create_client(kind, f"/planner_node/{service}")
        wait_until(client.service_is_ready, what=f"service {service}")

        def answered() -> bool:
            answer = client.call_async(harmless)
            until_s = time.monotonic() + 2.0
            while not answer.done() and time.monotonic() < until_s:
                time.sleep(0.01)
            return bool(answer.done())

        wait_until(answered, timeout_s=60.0, what=f"the first answer of {service}")

    def _ask(self, service: str, request: Any) -> Any:
        answer = self._clients[service].call_async(request)
        wait_until(answer.done, what=f"answer of {service} to {request}")
        return answer.result()

    @property
    def state(self) -> str:
        return self.statuses[-1].message if self.statuses else "?"

    @property
    def values(self) -> Values:
        return status_values(self.statuses[-1])

    @property
    def entries(self) -> list[Entry]:
        """What the planner has noted so far."""
        return read_rows(np.concatenate([np.empty((0, COLUMNS), np.int64), *self._rows]))

    def wait_for(self, state: str) -> None:
        wait_until(lambda: self.state == state, timeout_s=60.0, what=f"state {state}, is {self.state}")

    def more_statuses(self, count: int = 3) -> list[str]:
        """The next words of the planner on its state: it goes on, and has seen to what it heard before."""
        have = len(self.statuses)
        wait_until(lambda: len(self.statuses) >= have + count, timeout_s=60.0, what=f"{count} statuses")
        return [status.message for status in self.statuses[have:]]

    def show(self, goal: np.ndarray) -> int:
        """Show a goal; its stamp, by which the planner calls it."""
        stamp = now_ns(self.node)
        self._goals.publish(latent_to_image(goal.astype(np.float32), header_at(stamp)))
        return stamp

    def show_until_heard(self, goal: np.ndarray) -> int:
        """Show a goal, and wait until the planner has noted it."""
        stamp = self.show(goal)
        wait_until(lambda: any(entry.kind is Kind.GOAL and entry.what == stamp for entry in self.entries), what="a goal in the journal")
        return stamp

    def results_of(self, stamp: int) -> list[DiagnosticStatus]:
        return [result for result in self.results if status_values(result)["goal_stamp_ns"] == str(stamp)]

    def pursue(self, goal: np.ndarray, end: str, show: Callable[[np.ndarray], int] | None = None, timeout_s: float = 60.0) -> Pursuit:
        """Show a goal to an arm at rest until it ends as ``end``; shown again only where its reason and its journal say that it had no frames.

        ``show`` does that and returns the goal's stamp, by default ``self.show``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            wait_until(self._at_rest, what="an arm at rest")
            begun_at, began_s = self.position.copy(), time.monotonic()
            stamp = (show or self.show)(goal)
            wait_until(lambda stamp=stamp: bool(self.results_of(stamp)), timeout_s=timeout_s, what=f"the end of a pursuit, is {self.state}")
            took_s = time.monotonic() - began_s
            result = self.results_of(stamp)[0]
            if result.message != "INTERRUPTED" or time.monotonic() > deadline:
                break
            self._assert_without_frames(status_values(result))
        assert result.message == end, f"{result.message}, not {end}: {status_values(result)}"
        wait_until(lambda: any(status.message == end for status in self.statuses_of(stamp)), what=f"state {end}")
        self.more_statuses(2)
        plans = [plan for plan in self.plans if plan.stamp_ns >= stamp]  # no goal is planned for from frames before it was shown
        return Pursuit(begun_at, plans, self.statuses_of(stamp), status_values(result), took_s)

    def _assert_without_frames(self, result: Values) -> None:
        """By the planner's journal, too, the frame that ended a pursuit lies too far from the last one that was of use; or that one from the tick."""
        assert any(words in result["reason"] for words in NO_FRAMES), result
        ended, timeout_ns = Kind.FRAME if _LATE in result["reason"] else Kind.TICK, round(1e9 * self.get("frame_timeout_s").double_value)
        begun, end = self._journal_of(int(result["goal_stamp_ns"]), float(result["seconds"]), ended)
        until_ns, most_ns = (end.what, _MOST_GAP_NS) if ended is Kind.FRAME else (end.at.ros_ns, max(_MOST_GAP_NS, timeout_ns))
        used = self.frames_of_use(begun, timeout_ns)
        assert used and until_ns - used[-1] > most_ns, f"{result} after a frame {(until_ns - used[-1]) * 1e-9:.3f} s before" if used else result

    def _journal_of(self, goal_stamp: int, seconds: float, ended: Kind) -> tuple[list[Entry], Entry]:
        """What the planner noted while it pursued a goal for ``seconds``, and the entry of kind ``ended`` with which that was over."""

        def pursued() -> list[Entry]:
            entries = self.entries
            shown = next((number for number, entry in enumerate(entries) if entry.kind is Kind.GOAL and entry.what == goal_stamp), len(entries))
            # The first look at the clocks after a goal is from when its pursuit begins.
            return entries[next((number for number in range(shown, len(entries)) if entries[number].kind is Kind.READING), len(entries)) :]

        def ends() -> list[int]:
            """Six digits of the seconds are told."""
            entries = pursued()
            return [n for n, entry in enumerate(entries) if entry.kind is ended and abs(entry.at.ros_ns - entries[0].at.ros_ns - 1e9 * seconds) < 2e5]

        wait_until(lambda: bool(ends()), what=f"the end of a pursuit in the journal, {seconds} s after it was begun")
        return pursued()[: ends()[0]], pursued()[ends()[0]]

    @staticmethod
    def frames_of_use(entries: list[Entry], timeout_ns: int) -> list[int]:
        """Stamps of those frames in ``entries`` that can be planned from: not from before the first entry, not older than that, not of the future."""
        heard = [(entry.what, entry.at.ros_ns) for entry in entries if entry.kind is Kind.FRAME]
        return [stamp for stamp, ns in heard if stamp >= entries[0].at.ros_ns and ns - timeout_ns <= stamp <= ns + _FUTURE_NS]

    def statuses_of(self, stamp: int) -> list[DiagnosticStatus]:
        return [status for status in self.statuses if status_values(status)["goal_stamp_ns"] == str(stamp)]

    def _at_rest(self) -> bool:
        return not self.plans or (now_ns(self.node) - self.plans[-1].stamp_ns) * 1e-9 > self.plans[-1].times[-1] + 0.1

    def fence(self, zones: str) -> None:
        self._zones.publish(String(data=zones))

    def cancel(self) -> tuple[bool, str]:
        """Whether the goal was given up, and what the planner said."""
        answer = self._ask("cancel", Trigger.Request())
        return answer.success, answer.message

    def change_state(self, transition: int) -> bool:
        return bool(self._ask("change_state", ChangeState.Request(transition=Transition(id=transition))).success)

    def get(self, name: str) -> ParameterValue:
        return self._ask("get_parameters", GetParameters.Request(names=[name])).values[0]

    def set(self, name: str, value: str | int | float) -> tuple[bool, str]:
        """Set a parameter of the running node; whether it was accepted, and why not."""
        word = {str: "string", int: "integer", float: "double"}[type(value)]
        kind = getattr(ParameterType, f"PARAMETER_{word.upper()}")
        field = {f"{word}_value": value}
        request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(type=kind, **field))])
        result = self._ask("set_parameters", request).results[0]
        return result.successful, result.reason

    def publish_latent(self, latent: np.ndarray, stamp: int) -> None:
        self.frames.append(stamp)
        self._latents.publish(latent_to_image(latent.astype(np.float32), header_at(stamp)))

    def _on_plan(self, msg: JointTrajectory) -> None:
        self.names.add(tuple(msg.joint_names))
        self.plans.append(read_trajectory(msg, ARM.joints))

    def _publish_joints(self) -> None:
        ns = now_ns(self.node)
        if self.plans:
            plan = self.plans[-1]
            elapsed = (ns - plan.stamp_ns) * 1e-9
            self.position = np.array([np.interp(elapsed, plan.times, plan.positions[:, joint]) for joint in range(len(ARM.joints))])
        self._joints.publish(joint_state_message(ARM.joints, self.position, np.zeros(len(ARM.joints)), header_at(ns)))

    def _publish_latent(self) -> None:
        if self.silent:
            return
        tool = KINEMATICS.tool_point(self.position)
        self.publish_latent(np.resize(10 * tool, LATENT_DIM), now_ns(self.node) + self.shift_ns)
