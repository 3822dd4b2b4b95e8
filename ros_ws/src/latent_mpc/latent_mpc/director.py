"""Who runs the episodes: resets the simulator, arms the guardrail, shows the picture and watches what comes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from latent_mpc.bags.profiles import OWN_TOPICS
from latent_mpc.outcome import GuardrailCounts
from planner_node.measured import NOTHING_TO_ARM_AT, STILL_MOVES
from ros_bridge.diagnostics import status_values
from ros_bridge.qos import GOAL, LATENT, STATUS
from ros_bridge.stamps import stamp_ns

_RECORDER = "recorder_node"
NODES = ("sim_node", "perception_node", "planner_node", "guardrail_node", _RECORDER)
_LIFECYCLE_NODES = ("planner_node", "guardrail_node")
_TO_THE_END = ("REACHED_HORIZON", "REACHED_GOAL")
_LOOK_AROUND_S = 5.0
_SERVICE_S = 10.0
_MATCHING_S = 0.3
_START_S = 5.0
_SLACK_S = 5.0
_ASK_AGAIN_S = 0.15
# Between the last command before a reset and the first one after it: whoever looks at the commands sees two motions, not one with a jump.
_SILENCE_S = 0.25
# Camera pictures of the new episode that everybody gets to see before its goal is shown.
_FRESH_LATENTS = 2
# Ground truth arrives every 50 ms; the arm has come to rest by the third after the last step.
_SETTLED_TRUTHS = 3


class DirectorError(RuntimeError):
    """A node does not do what the episode protocol asks of it."""


@dataclass(frozen=True)
class Placed:
    """The simulator's answer to a reset: ``tool`` and ``goal (x, y, z) m``, the task's ``steps`` of ``step_s`` and its ``tolerance_m``."""

    seed: int
    start_distance_m: float
    tolerance_m: float
    steps: int
    step_s: float
    tool: tuple[float, ...]
    goal: tuple[float, ...]
    goal_stamp_ns: int


@dataclass(frozen=True)
class EpisodeRun:
    """How an episode went: metres left, ``seconds`` since the picture was shown, the true tool points ``(N, 3) m`` on the way.

    ``cut_short`` says why it ended before the planner had used its steps, and is empty otherwise.
    """

    final_distance_m: float
    steps: int
    seconds: float
    cut_short: str
    tool_path: NDArray[np.float64]
    guardrail: GuardrailCounts


@dataclass(frozen=True)
class Progress:
    """What the director sees at a moment of an episode; ``state`` is the guardrail's."""

    seed: int
    distance_m: float
    step: int
    steps: int
    plan_rate_hz: float
    guardrail: GuardrailCounts
    state: str


class Director:
    """One ROS node in this process. Use as a context manager; ``watch`` is called all the time while it waits and may raise to end the wait."""

    def __init__(self, domain: int, watch: Callable[[], None]) -> None:
        self._watch = watch
        self._context = Context()
        # Ctrl-C stays ours: it has to stop the other processes too.
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("demo", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._planner: DiagnosticStatus | None = None
        self._guardrail: DiagnosticStatus | None = None
        self._truth: list[float] = []
        self._path: list[list[float]] = []
        self._truths = self._latents = 0
        self._goal: Image | None = None
        self._goal_ns = 0
        self._silent_since = 0.0
        self._heard: set[str] = set()
        self.plan_ms: list[float] = []
        self.plan_rates: list[float] = []
        create = self._node.create_subscription
        create(DiagnosticStatus, "/planner/status", self._on_planner, STATUS)
        create(DiagnosticStatus, "/guardrail/status", self._on_guardrail, STATUS)
        create(Float64MultiArray, "/sim/ground_truth", self._on_truth, STATUS)
        create(Image, "/sim/goal_image", self._on_goal, GOAL)
        create(Image, "/perception/latent", self._on_latent, LATENT)
        create(DiagnosticArray, "/diagnostics", self._on_diagnostics, STATUS)
        self._shown = self._node.create_publisher(Image, "/goal/image", GOAL)
        self._triggers: dict[str, Client] = {
            name: self._node.create_client(Trigger, name)
            for name in ("/sim_node/reset", "/guardrail_node/stop", "/guardrail_node/reset", "/guardrail_node/arm")
        }
        self._setters = {name: self._node.create_client(SetParameters, f"/{name}/set_parameters") for name in ("sim_node", "planner_node")}
        self._lifecycles = {name: self._node.create_client(GetState, f"/{name}/get_state") for name in _LIFECYCLE_NODES}

    def __enter__(self) -> Director:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    # What is heard.

    def _on_planner(self, msg: DiagnosticStatus) -> None:
        values, plans = status_values(msg), self._planner_value("plans")
        if int(values.get("goal_stamp_ns", "0")) != self._goal_ns:
            return  # of the goal before, which a guardrail that stopped may have left unfinished
        self._planner = msg
        if msg.message == "PLANNING" and float(values.get("plans", "0")) != plans:
            self.plan_ms.append(float(values.get("plan_ms", "0")))
            self.plan_rates.append(float(values.get("plan_rate_hz", "0")))

    def _on_guardrail(self, msg: DiagnosticStatus) -> None:
        self._guardrail = msg

    def _on_truth(self, msg: Float64MultiArray) -> None:
        self._truth = list(msg.data)
        self._path.append(self._truth[1:4])
        self._truths += 1

    def _on_goal(self, msg: Image) -> None:
        self._goal = msg

    def _on_latent(self, _: Image) -> None:
        self._latents += 1

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        self._heard.update(status.name for status in msg.status)

    # Waiting.

    def look_around(self) -> list[str]:
        """Names of the nodes of ours that are on the domain already; takes a few seconds when there are none."""
        deadline = time.monotonic() + _LOOK_AROUND_S
        found: set[str] = set()
        while not found and time.monotonic() < deadline:
            self._spin()
            found = set(self._node.get_node_names()) & set(NODES)
        return sorted(found)

    def wait_for_nodes(self, names: tuple[str, ...], timeout_s: float = 60.0) -> None:
        """Return when every node of ``names`` is up, the lifecycle nodes among them are active, latents flow, and a recorder hears all of them.

        Raises:
            DirectorError: that takes longer than ``timeout_s``.
        """
        self._until(lambda: self._heard.issuperset(names) and self._latents > 0, timeout_s, lambda: self._missing(names))
        for name, client in self._lifecycles.items():
            deadline = time.monotonic() + timeout_s
            while self._call(client, GetState.Request(), f"/{name}/get_state").current_state.id != State.PRIMARY_STATE_ACTIVE:
                if time.monotonic() > deadline:
                    raise DirectorError(f"{name} does not become active")
                self._spin()
        if _RECORDER in names:
            self._until(lambda: not self._unrecorded(names), timeout_s, lambda: f"{_RECORDER} does not hear {', '.join(self._unrecorded(names))}")
            # The writers' half of a match may lag behind the reader's.
            matched = time.monotonic() + _MATCHING_S
            self._until(lambda: time.monotonic() > matched, timeout_s, lambda: "")

    def _unrecorded(self, names: tuple[str, ...]) -> list[str]:
        """Topics of ours that one of ``names`` publishes and the recorder does not hear yet."""
        found = []
        for topic in OWN_TOPICS:
            if any(info.node_name in names for info in self._node.get_publishers_info_by_topic(topic)):
                heard = any(info.node_name == _RECORDER for info in self._node.get_subscriptions_info_by_topic(topic))
                found += [] if heard else [topic]
        return found

    def _missing(self, names: tuple[str, ...]) -> str:
        silent = [name for name in names if name not in self._heard]
        return f"nothing heard from {', '.join(silent)}" if silent else "no latents on /perception/latent"

    def _spin(self) -> None:
        self._watch()
        self._executor.spin_once(timeout_sec=0.05)

    def _until(self, done: Callable[[], bool], timeout_s: float, complaint: Callable[[], str]) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise DirectorError(f"{complaint()} within {timeout_s:.0f} s")
            self._spin()

    def _call(self, client: Client, request: Any, name: str) -> Any:
        self._until(client.service_is_ready, _SERVICE_S, lambda: f"service {name} does not appear")
        future = client.call_async(request)
        self._until(future.done, _SERVICE_S, lambda: f"service {name} does not answer")
        return future.result()

    def _arm(self) -> None:
        """Ask until a joint state was heard and the arm stands: a driver, or all of the machine, may have stopped for a moment."""
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self._trigger("/guardrail_node/arm")
                return
            except DirectorError as error:
                if not any(passing in str(error) for passing in (NOTHING_TO_ARM_AT, STILL_MOVES)) or time.monotonic() > deadline:
                    raise
            again_s = time.monotonic() + _ASK_AGAIN_S
            while time.monotonic() < again_s:
                self._spin()

    def _trigger(self, name: str) -> str:
        response = self._call(self._triggers[name], Trigger.Request(), name)
        if not response.success:
            raise DirectorError(f"{name} refused: {response.message}")
        return str(response.message)

    # Episodes.

    def set_parameters(self, node: str, values: Mapping[str, str | int | float]) -> None:
        """Set parameters of ``node``.

        Raises:
            DirectorError: it refuses one of them.
        """
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])
        for result in self._call(self._setters[node], request, f"/{node}/set_parameters").results:
            if not result.successful:
                raise DirectorError(f"{node} refused a parameter: {result.reason}")

    def place(self, seed: int) -> Placed:
        """Stop the arm and put arm and block where the episode of ``seed`` starts.

        Raises:
            DirectorError: a service does not answer or refuses.
        """
        self._trigger("/guardrail_node/stop")
        self._silent_since = time.monotonic()
        self.set_parameters("sim_node", {"episode_seed": seed})
        answer = json.loads(self._trigger("/sim_node/reset"))
        placed = _placed(answer)
        self._until(lambda: self._goal is not None and stamp_ns(self._goal.header.stamp) == placed.goal_stamp_ns, _START_S, lambda: "no goal picture")
        return placed

    def play(self, placed: Placed, report: Callable[[Progress], None]) -> EpisodeRun:
        """Arm, show the goal picture, and wait until the planner has used all its steps.

        Raises:
            DirectorError: a service does not answer or refuses, or the planner does not start.
        """
        latents = self._latents
        self._until(lambda: self._latents >= latents + _FRESH_LATENTS, _START_S, lambda: "no latents")
        self._until(lambda: time.monotonic() - self._silent_since >= _SILENCE_S, _START_S, lambda: "")
        self._trigger("/guardrail_node/reset")
        self._arm()
        self._until(lambda: self._guardrail_says("HOLDING", "TRACKING"), _START_S, lambda: "the guardrail does not hold the arm")
        before = self.guardrail_counts()
        self._planner, self._path, self._goal_ns = None, [], placed.goal_stamp_ns
        started = time.monotonic()
        assert self._goal is not None
        self._shown.publish(self._goal)
        self._until(lambda: self._planner_says("PLANNING"), _START_S, lambda: "the planner does not start")
        cut_short = self._follow(placed, before, report)
        seconds = time.monotonic() - started
        truths = self._truths
        self._until(lambda: self._truths >= truths + _SETTLED_TRUTHS, _START_S, lambda: "no ground truth")
        return EpisodeRun(
            final_distance_m=self._truth[0],
            steps=int(self._planner_value("step")),
            seconds=seconds,
            cut_short=cut_short,
            tool_path=np.array(self._path).reshape(-1, 3),
            guardrail=self.guardrail_counts().since(before),
        )

    def _follow(self, placed: Placed, before: GuardrailCounts, report: Callable[[Progress], None]) -> str:
        """Wait for the end of the episode; why it ended early, or nothing."""
        deadline = time.monotonic() + placed.steps * placed.step_s + _SLACK_S
        while self._planner_says("PLANNING"):
            if self._guardrail_says("STOPPED"):
                return f"stopped: {self._guardrail_values().get('reason', '')}"
            if time.monotonic() > deadline:
                return "timeout"
            self._spin()
            report(self._progress(placed, before))
        return "" if self._planner is None or self._planner_says(*_TO_THE_END) else self._planner.message.lower()

    def _planner_says(self, *words: str) -> bool:
        return self._planner is not None and self._planner.message in words

    def _planner_value(self, key: str) -> float:
        return 0.0 if self._planner is None else float(status_values(self._planner).get(key, "0"))

    def _guardrail_says(self, *words: str) -> bool:
        return self._guardrail is not None and self._guardrail.message in words

    def _guardrail_values(self) -> dict[str, str]:
        return {} if self._guardrail is None else status_values(self._guardrail)

    def _progress(self, placed: Placed, before: GuardrailCounts) -> Progress:
        return Progress(
            seed=placed.seed,
            distance_m=self._truth[0],
            step=int(self._planner_value("step")),
            steps=placed.steps,
            plan_rate_hz=self._planner_value("plan_rate_hz"),
            guardrail=self.guardrail_counts().since(before),
            state="" if self._guardrail is None else self._guardrail.message,
        )

    def guardrail_counts(self) -> GuardrailCounts:
        """What the guardrail counted since its start."""
        values = self._guardrail_values()
        return GuardrailCounts(**{name: int(values.get(name, "0")) for name in GuardrailCounts.__dataclass_fields__})

    def rejected_plans(self) -> int:
        """Plans that the guardrail refused since its start."""
        return int(self._guardrail_values().get("rejected_plans", "0"))

    def frame_to_command_ms(self) -> tuple[float, float] | None:
        """Median and 99th percentile, as the guardrail measures them; None before the first plan took effect."""
        values = self._guardrail_values()
        p50, p99 = (float(values.get(f"frame_to_command_ms_{name}", "0")) for name in ("p50", "p99"))
        return (p50, p99) if p50 > 0 else None


def _placed(answer: Mapping[str, Any]) -> Placed:
    return Placed(
        seed=int(answer["seed"]),
        start_distance_m=float(answer["start_distance_m"]),
        tolerance_m=float(answer["tolerance_m"]),
        steps=int(answer["steps"]),
        step_s=float(answer["step_s"]),
        tool=tuple(answer["tool"]),
        goal=tuple(answer["goal"]),
        goal_stamp_ns=int(answer["goal_stamp_ns"]),
    )
