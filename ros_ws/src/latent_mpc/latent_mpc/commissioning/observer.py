"""Looking at the live graph for a few seconds.

It listens, asks, and calls ~/stop and ~/reset of a guardrail that is not stopped already; it never commands.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from latent_mpc.commissioning.observation import CalibrationSeen, Endpoint, GuardrailSeen, JointsSeen, Observation, PictureSeen, Stream
from latent_mpc.commissioning.robot_setup import RobotSetup
from latent_mpc.commissioning.stream_checks import LEAST_SHARE
from latent_mpc.topic_names import resolved
from ros_bridge import qos
from ros_bridge.diagnostics import status_values
from ros_bridge.images import ImageError, image_to_array
from ros_bridge.stamps import now_ns, stamp_ns

_ENDLESS_NS = 1e18
_STOPPED = "STOPPED"
_READY_S, _ANSWER_S, _LATCHED_S, _RELEASED_S = 3.0, 5.0, 0.7, 0.3
# A status that is heard sooner after a service's answer may have been under way before it.
_UNDER_WAY_S = 0.15
# So many times as long it listens to a topic that is silent or slow: a machine that stands still for a moment is not a driver that is too slow.
_PATIENCE, _LOOK_AGAIN_S = 3, 0.25
# Whoever published the robot's description did so at its start.
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_STREAMS = {"joint_states": (JointState, qos.JOINT_HISTORY), "image": (Image, qos.CAMERA), "info": (CameraInfo, qos.CAMERA)}


class Observer:
    """One look at ``setup``, whose topics are absolute names, through ``node``, which nobody else spins."""

    def __init__(self, node: Node, setup: RobotSetup, namespace: str = "") -> None:
        self._node = node
        self._setup = setup
        self._namespace = namespace
        self._topics = {"joint_states": setup.joint_states.topic, "image": setup.camera.image, "info": setup.camera.info}
        self._heard: dict[str, list[tuple[float, int, float]]] = {topic: [] for topic in self._topics.values()}
        self._newest: dict[str, Any] = {}
        self._statuses: list[tuple[float, DiagnosticStatus]] = []
        for name, topic in self._topics.items():
            kind, profile = _STREAMS[name]
            node.create_subscription(kind, topic, self._listener(name, topic), profile)
        if setup.description:
            node.create_subscription(String, setup.description, lambda msg: self._newest.__setitem__("description", msg.data), _LATCHED)
        status = resolved("guardrail/status", namespace)
        node.create_subscription(DiagnosticStatus, status, lambda msg: self._statuses.append((time.monotonic(), msg)), qos.STATUS)
        settings = resolved("guardrail/settings", namespace)
        node.create_subscription(String, settings, lambda msg: self._newest.__setitem__("settings", msg.data), qos.GOAL)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)

    def look(self, seconds: float, try_stop: bool = True) -> Observation:
        """Listen for ``seconds``, then ask the guardrail, and stop and reset it when ``try_stop``, unless it is stopped already.

        It listens for longer while a topic is missing or too slow, and judges the rate of the whole time.
        """
        began = time.monotonic()
        self._spin(seconds)
        for _ in range(round(_PATIENCE * seconds / _LOOK_AGAIN_S)):
            if self._all_fast_enough():
                break
            self._spin(_LOOK_AGAIN_S)
        publishers, subscribers = self._endpoints()
        seen = Observation(
            time.monotonic() - began,
            publishers,
            subscribers,
            {topic: _stream(heard) for topic, heard in self._heard.items()},
            _joints(self._newest.get("joint_states")),
            _picture(self._newest.get("image")),
            _calibration(self._newest.get("info")),
            str(self._newest.get("description", "")),
        )
        guardrail = self._guardrail(try_stop)
        self._executor.shutdown(timeout_sec=1.0)
        return replace(seen, guardrail=guardrail)

    def _listener(self, name: str, topic: str) -> Callable[[Any], None]:
        def heard(msg: Any) -> None:
            stamp = stamp_ns(msg.header.stamp)
            self._heard[topic].append((time.monotonic(), stamp, 1e-9 * (now_ns(self._node) - stamp)))
            self._newest[name] = msg

        return heard

    def _all_fast_enough(self) -> bool:
        rates = {"joint_states": self._setup.joint_states.rate_hz, "image": self._setup.camera.rate_hz, "info": self._setup.camera.rate_hz}
        return all(_stream(self._heard[self._topics[name]]).rate_hz >= LEAST_SHARE * rate_hz for name, rate_hz in rates.items())

    def _spin(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        deadline = time.monotonic() + seconds
        while not until() and (left := deadline - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def _endpoints(self) -> tuple[dict[str, tuple[Endpoint, ...]], dict[str, tuple[Endpoint, ...]]]:
        """Who publishes every topic of the types that are looked for and the command topic, and who listens to commands."""
        command = self._setup.command.topic
        profiles = {self._topics[name]: profile for name, (_, profile) in _STREAMS.items()}
        kinds = {"sensor_msgs/msg/JointState", "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"}
        topics = {topic for topic, types in self._node.get_topic_names_and_types() if kinds & set(types)} | {*profiles, command}
        publishers = {
            topic: tuple(_endpoint(info, info.qos_profile, profiles.get(topic)) for info in found)
            for topic in topics
            if (found := self._node.get_publishers_info_by_topic(topic))
        }
        listeners = self._node.get_subscriptions_info_by_topic(command)
        return publishers, {command: tuple(_endpoint(info, qos.COMMAND, info.qos_profile) for info in listeners)}

    def _guardrail(self, try_stop: bool) -> GuardrailSeen | None:
        lifecycle = self._call(GetState, "get_state")
        if lifecycle is None and not self._statuses:
            return None
        label = "" if lifecycle is None else str(lifecycle.current_state.label)
        newest = self._statuses[-1][1] if self._statuses else DiagnosticStatus()
        robot, output = _settings(self._newest.get("settings", ""))
        shadow = status_values(newest).get("shadow") == "true"
        found = GuardrailSeen(label, str(newest.message), shadow, stop="not tried", robot=robot, output=output)
        # A guardrail that somebody stopped stays stopped: its latch is not ours to release.
        if not try_stop or found.state == _STOPPED:
            return found
        stop = _told(self._call(Trigger, "stop"))
        answered = time.monotonic()
        states = self._states_after(answered, _LATCHED_S)
        reset = _told(self._call(Trigger, "reset"))
        released = self._states_after(time.monotonic(), _RELEASED_S)
        return replace(found, stop=stop, after_stop=states, reset=reset, after_reset=released[-1] if released else "")

    def _states_after(self, answered_s: float, seconds: float) -> tuple[str, ...]:
        """What the guardrail says that it is in the ``seconds`` after an answer, or as soon as it says something."""

        def states() -> tuple[str, ...]:
            return tuple(str(msg.message) for heard, msg in self._statuses if heard > answered_s + _UNDER_WAY_S)

        self._spin(seconds)
        self._spin(_ANSWER_S, lambda: bool(states()))
        return states()

    def _call(self, kind: Any, service: str) -> Any:
        """The answer of a service of the guardrail; None when there is none."""
        client: Client = self._node.create_client(kind, resolved(f"guardrail_node/{service}", self._namespace))
        try:
            self._spin(_READY_S, client.service_is_ready)
            if not client.service_is_ready():
                return None
            answer = client.call_async(kind.Request())
            self._spin(_ANSWER_S, answer.done)
            return answer.result() if answer.done() else None
        finally:
            self._node.destroy_client(client)


def _settings(text: str) -> tuple[str, str]:
    """The robot and the output that a guardrail's settings name; empty where they cannot be read."""
    try:
        content = json.loads(text)
    except ValueError:
        return "", ""
    return (str(content.get("robot", "")), str(content.get("output", ""))) if isinstance(content, dict) else ("", "")


def _told(answer: Any) -> str:
    if answer is None:
        return ""
    return "ok" if answer.success else f"refused: {answer.message}"


def _endpoint(info: Any, offered: QoSProfile, requested: QoSProfile | None) -> Endpoint:
    node = f"{str(info.node_namespace).rstrip('/')}/{info.node_name}"
    if requested is None:
        return Endpoint(node, str(info.topic_type))
    return Endpoint(node, str(info.topic_type), objection(offered, requested))


def objection(offered: QoSProfile, requested: QoSProfile) -> str:
    """Why a publisher that offers the one and a subscriber that requests the other never meet; empty when they do.

    The rules of the DDS specification (2.2.3, "requested versus offered"). rclpy's own ``qos_check_compatible`` takes the endless deadline that
    discovery reports for one that was asked for.
    """
    if offered.reliability == ReliabilityPolicy.BEST_EFFORT and requested.reliability == ReliabilityPolicy.RELIABLE:
        return "published best effort, asked for reliable"
    if offered.durability == DurabilityPolicy.VOLATILE and requested.durability == DurabilityPolicy.TRANSIENT_LOCAL:
        return "published volatile, asked for transient local"
    for what in ("deadline", "liveliness_lease_duration"):
        asked, promised = _limit(getattr(requested, what)), _limit(getattr(offered, what))
        if promised > asked:
            return f"asked for a {what.replace('_', ' ')} of {asked * 1e-9:g} s, which the publisher does not promise"
    return ""


def _limit(duration: Duration) -> float:
    """Nanoseconds; what is not set, or as long as the universe, is no limit."""
    ns = float(duration.nanoseconds)
    return ns if 0.0 < ns < _ENDLESS_NS else float("inf")


def _stream(heard: Sequence[tuple[float, int, float]]) -> Stream:
    return Stream(np.array([h[0] for h in heard]), np.array([h[1] for h in heard], dtype=np.int64), np.array([h[2] for h in heard]))


def _joints(msg: JointState | None) -> JointsSeen | None:
    return None if msg is None else JointsSeen(tuple(msg.name), tuple(msg.position), len(msg.velocity) > 0)


def _picture(msg: Image | None) -> PictureSeen | None:
    if msg is None:
        return None
    objection = ""
    try:
        image_to_array(msg)
    except ImageError as error:
        objection = str(error)
    return PictureSeen(msg.width, msg.height, msg.encoding, msg.header.frame_id, objection)


def _calibration(msg: CameraInfo | None) -> CalibrationSeen | None:
    if msg is None:
        return None
    k: Mapping[int, float] = dict(enumerate(float(value) for value in msg.k))
    return CalibrationSeen(msg.width, msg.height, msg.header.frame_id, (k[0], k[4]), (k[2], k[5]))
