"""The saboteur carries topics from their source to those who listen, and does to them what it is told.

A fault is asked for on ``/faults/inject`` and is told on ``/faults/events`` when it acts: the time of the last good message counts for whoever hears
nothing good any more, the time of the first bad one for the others.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from latent_mpc.faults_corruptions import CORRUPTIONS, HARMLESS, Draw
from latent_mpc.faults_fuzz import malformed
from latent_mpc.faults_topics import CAMERA_INFO, EVENTS, INJECT, RELAYED, RIVAL_FRAME, behind
from ros_bridge import qos
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import run_node
from ros_bridge.sign_of_life import SignOfLife
from ros_bridge.stamps import NS_PER_S, stamp_of

_TYPES = {
    "joint_states": (JointState, "sensor_msgs/msg/JointState", qos.JOINT_STATES),
    "camera": (Image, "sensor_msgs/msg/Image", qos.CAMERA),
    "plan": (JointTrajectory, "trajectory_msgs/msg/JointTrajectory", qos.PLAN),
}
_FUZZ_PERIOD_S = 0.001
_ENCAPSULATION = 4
_CLOCK_PERIOD_S = 0.002
_RIVAL_PERIOD_S = 0.1
COMMANDS = "/joint_trajectory_controller/joint_trajectory"


@dataclass(frozen=True)
class SaboteurParameters:
    """What it carries."""

    links: tuple[str, ...] = parameter(tuple(RELAYED), "what is carried: joint_states, camera, plan")
    clock: bool = parameter(False, "publish /clock, so that it can jump")
    seed: int = parameter(0, "seed of everything that is left to chance", at_least=0)


@dataclass
class Link:
    """One topic on its way; ``faults`` act on it in the order in which they were asked for; ``untold`` have not yet. ``waiting``: delayed."""

    name: str
    out: Publisher
    faults: dict[str, Draw] = field(default_factory=dict)
    untold: list[str] = field(default_factory=list)
    last: Any = None
    last_ns: int = 0
    waiting: list[tuple[float, int, Any]] = field(default_factory=list)


class SaboteurNode(Node):
    """One process between the nodes."""

    def __init__(self) -> None:
        super().__init__("faults_saboteur")
        parameters = declare(self, SaboteurParameters)
        self._rng = np.random.default_rng(parameters.seed)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._order = itertools.count()
        self._links: dict[str, Link] = {}
        self._payloads: dict[str, Iterator[bytes]] = {}
        self._fuzzed = 0
        self._clock_offset_ns = 0
        self._rival: Publisher | None = None
        self._events = self.create_publisher(String, EVENTS, qos.STATUS)
        self.create_subscription(String, INJECT, self._on_inject, qos.STATUS)
        for name in parameters.links:
            kind, _, profile = _TYPES[name]
            offered = qos.PLAN_OFFER if name == "plan" else profile
            self._links[name] = Link(name, self.create_publisher(kind, RELAYED[name], offered))
            if name == "plan":
                self._sign_of_life = SignOfLife(self._links[name].out)
            self.create_subscription(kind, behind(RELAYED[name]), self._carrier(self._links[name]), profile)
        if "camera" in self._links:
            # What happens to the pictures in time happens to what is said about them.
            self._infos = Link("camera", self.create_publisher(CameraInfo, CAMERA_INFO, qos.CAMERA), self._links["camera"].faults)
            self.create_subscription(CameraInfo, behind(CAMERA_INFO), self._carrier(self._infos), qos.CAMERA)
        self.create_timer(0.005, self._deliver, clock=self._steady)
        self._fuzzing = self.create_timer(_FUZZ_PERIOD_S, self._fuzz, clock=self._steady)
        self._fuzzing.cancel()
        self.create_timer(_RIVAL_PERIOD_S, self._contend, clock=self._steady)
        if parameters.clock:
            self._clock = self.create_publisher(ClockMessage, "/clock", qos.JOINT_STATES)
            self.create_timer(_CLOCK_PERIOD_S, self._tick, clock=self._steady)

    # What is asked.

    def _on_inject(self, msg: String) -> None:
        asked = json.loads(msg.data)
        kind, target, on = asked["kind"], asked["target"], asked["on"]
        begun_ns = time.time_ns()
        if kind in ("rival", "clock_jump") and "camera" in self._links:
            return  # of two saboteurs one is enough
        if kind == "rival":
            self._show_rival(on)
        elif kind == "clock_jump":
            self._clock_offset_ns += round(1e9 * asked["amount"]) if on else 0
        elif target in self._links:
            link = self._links[target]
            if kind == "fuzz":
                self._set_fuzzing(target, on)
            elif on:
                link.faults[kind] = Draw(self._rng, asked["amount"])
                if kind in HARMLESS:
                    link.untold.append(kind)  # told with the first message that it acts on
                    return
                begun_ns = begun_ns if kind in ("drop", "delay") else link.last_ns or begun_ns
            else:
                link.faults.pop(kind, None)
                link.untold.clear()
        else:
            return
        self._say("fault" if on else "end", kind=kind, target=target, time_ns=begun_ns, fuzzed=self._fuzzed)

    def _say(self, what: str, **values: object) -> None:
        self._events.publish(String(data=json.dumps({"what": what, "by": "saboteur", **values})))

    # What is carried.

    def _carrier(self, link: Link) -> Callable[[Any], None]:
        def carry(msg: Any) -> None:
            faults = link.faults
            if "silence" in faults or ("drop" in faults and self._rng.random() < faults["drop"].amount):
                return
            if "frozen_stamp" in faults and link.last is not None:
                msg.header.stamp = link.last.header.stamp
            if "duplicate" in faults and link.last is not None:
                msg = link.last
            begun_ns = time.time_ns()
            for kind, draw in faults.items():
                if kind in CORRUPTIONS and (kind == "old_stamp" or not isinstance(msg, CameraInfo)):
                    CORRUPTIONS[kind](msg, draw)
            if "delay" in faults:
                heapq.heappush(link.waiting, (time.monotonic() + faults["delay"].amount, next(self._order), msg))
                return
            link.out.publish(msg)
            for kind in link.untold:
                self._say("fault", kind=kind, target=link.name, time_ns=begun_ns, fuzzed=self._fuzzed)
            link.untold.clear()
            if not faults:
                link.last, link.last_ns = msg, time.time_ns()

        return carry

    def _deliver(self) -> None:
        for link in (*self._links.values(), *([self._infos] if "camera" in self._links else [])):
            while link.waiting and link.waiting[0][0] <= time.monotonic():
                link.out.publish(heapq.heappop(link.waiting)[2])

    # What is made up.

    def _set_fuzzing(self, target: str, on: bool) -> None:
        if on:
            kind, msgtype, _ = _TYPES[target]
            self._payloads[target] = malformed(
                functools.partial(_fresh, bytes(serialize_message(self._links[target].last or kind()))), msgtype, self._rng
            )
            self._fuzzing.reset()
            return
        self._payloads.pop(target, None)
        if not self._payloads:
            self._fuzzing.cancel()

    def _fuzz(self) -> None:
        for target, payloads in self._payloads.items():
            self._links[target].out.publish(next(payloads))
            self._fuzzed += 1

    def _show_rival(self, on: bool) -> None:
        if on and self._rival is None:
            self._rival = self.create_publisher(JointTrajectory, COMMANDS, qos.COMMAND)
        elif not on and self._rival is not None:
            self.destroy_publisher(self._rival)
            self._rival = None

    def _contend(self) -> None:
        """A second commander whose commands no controller takes: what the arm does is still the guardrail's alone."""
        if self._rival is not None:
            msg = JointTrajectory()
            msg.header.frame_id = RIVAL_FRAME
            self._rival.publish(msg)

    def _tick(self) -> None:
        self._clock.publish(ClockMessage(clock=stamp_of(time.time_ns() + self._clock_offset_ns)))


def _fresh(payload: bytes) -> bytes:
    """A serialized message, whose first field is its header, as if it were sent now: what is wrong with it must not be its age."""
    return payload[:_ENCAPSULATION] + struct.pack("<iI", *divmod(time.time_ns(), NS_PER_S)) + payload[_ENCAPSULATION + 8 :]


def main() -> int:
    """Run the node; the exit status of the process."""
    return run_node(SaboteurNode)


if __name__ == "__main__":
    sys.exit(main())
