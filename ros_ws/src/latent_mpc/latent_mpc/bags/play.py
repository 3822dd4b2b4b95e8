"""Plays a bag to topics: the bytes that were recorded, when they were received, with the quality of service that they had."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from latent_mpc.bags.keyboard import PAUSE, QUIT, STEP, Keyboard
from latent_mpc.bags.message_types import message_class
from latent_mpc.bags.pace import Pace
from latent_mpc.bags.read_ahead import ReadAhead
from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.ros_qos import offering
from latent_mpc.bags.storage import BagError, Channel
from ros_bridge.stamps import stamp_of

_NS = 1_000_000_000
_CLOCK = "/clock"
# Between two looks at the keyboard while nothing is due.
_LOOK_S = 0.05
_LAST_WORDS = Duration(seconds=1)
# Nobody acknowledges what is sent with best effort, and what lies in shared memory is gone with the process that put it there.
_READ_OUT_S = 0.1


@dataclass(frozen=True)
class Playing:
    """What is played and how. ``clock_hz`` of 0: no /clock. ``start_offset_s`` and ``duration_s`` are times of the recording.

    ``topics`` empty: all. ``remaps``: new names by old ones. ``delay_s``: for subscribers to find the publishers.
    """

    bag: Path
    rate: float = 1.0
    clock_hz: float = 0.0
    loop: bool = False
    start_offset_s: float = 0.0
    duration_s: float = math.inf
    topics: tuple[str, ...] = ()
    remaps: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.5
    paused: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (("rate", self.rate, 1e-3), ("duration", self.duration_s, 1e-9)):
            if not value >= least:
                raise BagError(f"{name} is {value}, must be at least {least:g}")
        for name, value in (("start offset", self.start_offset_s), ("clock", self.clock_hz), ("delay", self.delay_s)):
            if not 0 <= value < math.inf:
                raise BagError(f"{name} is {value}, must be at least 0")
        if not self.rate < math.inf:
            raise BagError(f"rate is {self.rate}, must be finite")


@dataclass(frozen=True)
class Played:
    """What was played. ``late_ms`` by p50, p99 and max: how long after it was due a message was published; steps do not count."""

    messages: int
    seconds: float
    rounds: int
    topics: dict[str, int]
    skipped: dict[str, str]
    late_ms: dict[str, float]

    def text(self) -> str:
        """For people."""
        late = ", ".join(f"{name} {value:.2f}" for name, value in self.late_ms.items())
        return f"played {self.messages} messages of {len(self.topics)} topics in {self.seconds:.1f} s; late by {late} ms"


def read_remaps(given: Sequence[str]) -> dict[str, str]:
    """New names by old ones, from ``/old:=/new``.

    Raises:
        BagError: one is not of that form, or a topic is remapped twice.
    """
    remaps: dict[str, str] = {}
    for text in given:
        old, separator, new = text.partition(":=")
        if not separator or not old.startswith("/") or not new.startswith("/") or len(new) < 2:
            raise BagError(f"remap '{text}' is not of the form /old:=/new")
        if old in remaps:
            raise BagError(f"{old} is remapped twice, to {remaps[old]} and to {new}")
        remaps[old] = new
    return remaps


def play(asked: Playing, say: Callable[[str], None] = lambda _: None) -> Played:
    """Play a bag until its end, until q is pressed, or for ever with ``loop``. ``say`` gets what a user would want to know meanwhile.

    Raises:
        BagError: the bag cannot be read, lacks a topic that was named, or holds nothing in the time that was asked for.
    """
    with BagReader(asked.bag) as reader:
        span = reader.span_ns()
        if span is None:
            raise BagError(f"{asked.bag} holds no message")
        start_ns = span[0] + round(asked.start_offset_s * _NS)
        stop_ns = span[1] + 1 if asked.duration_s == math.inf else min(span[1] + 1, start_ns + round(asked.duration_s * _NS))
        if start_ns > span[1]:
            raise BagError(f"{asked.bag} lasts {(span[1] - span[0]) / _NS:.1f} s, nothing comes after a start offset of {asked.start_offset_s:g} s")
        channels = _chosen(reader, asked)
        with ExitStack() as stack:
            # Ctrl-C comes as KeyboardInterrupt, and what was played is told.
            rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
            stack.callback(rclpy.try_shutdown)
            node = Node("bag_player", use_global_arguments=False)
            stack.callback(node.destroy_node)
            player = _Player(node, asked, channels, say)
            return player.run(reader, start_ns, stop_ns)


def _chosen(reader: BagReader, asked: Playing) -> list[Channel]:
    held = {channel.topic for channel in reader.channels}
    for what, names in (("topic", asked.topics), ("remapped topic", tuple(asked.remaps))):
        missing = [name for name in names if name not in held]
        if missing:
            raise BagError(f"{asked.bag} holds no {what} {missing[0]}; it holds {', '.join(sorted(held))}")
    # A clock of our own and a recorded one would contradict each other.
    own_clock = {_CLOCK} if asked.clock_hz > 0 and _CLOCK not in asked.remaps else set()
    return [channel for channel in reader.channels if channel.topic not in own_clock and (not asked.topics or channel.topic in asked.topics)]


class _Quit(Exception):
    """The user pressed q."""


class _Player:
    def __init__(self, node: Node, asked: Playing, channels: list[Channel], say: Callable[[str], None]) -> None:
        self._asked = asked
        self._say = say
        self._publishers: dict[tuple[str, str], Publisher] = {}
        self._skipped: dict[str, str] = {}
        self._reliable: list[Publisher] = []
        for channel in channels:
            self._offer(node, channel)
        self._clock = node.create_publisher(Clock, _CLOCK, QoSProfile(depth=10)) if asked.clock_hz > 0 else None
        self._next_tick_s = 0.0
        self._said_ns = 0
        self._counts: dict[str, int] = {}
        self._late_s: list[float] = []

    def _offer(self, node: Node, channel: Channel) -> None:
        try:
            if channel.serialization not in ("", "cdr"):
                raise BagError(f"serialized as '{channel.serialization}'")
            name = self._asked.remaps.get(channel.topic, channel.topic)
            profile = offering(channel.qos, (channel.topic, name))
            publisher = node.create_publisher(message_class(channel.msgtype), name, profile)
        except BagError as error:
            self._skipped[channel.topic] = str(error)
            self._say(f"{channel.topic} is not played: {error}")
            return
        self._publishers[channel.topic, channel.msgtype] = publisher
        if profile.reliability == ReliabilityPolicy.RELIABLE:
            self._reliable.append(publisher)

    def run(self, reader: BagReader, start_ns: int, stop_ns: int) -> Played:
        began, rounds = time.monotonic(), 0
        topics = {topic for topic, _ in self._publishers}
        try:
            with Keyboard() as keys:
                if keys.listening:
                    self._say("space pauses, s or the right arrow steps, q quits")
                time.sleep(self._asked.delay_s)
                began = time.monotonic()
                while rounds == 0 or self._asked.loop:
                    rounds += 1
                    ahead = ReadAhead(reader.raw(topics, start_ns, stop_ns))
                    try:
                        ahead.wait_until_filled(2.0)
                        self._said_ns = start_ns
                        self._tick(start_ns)
                        self._round(ahead, Pace(start_ns, self._asked.rate, paused=self._asked.paused and rounds == 1), keys)
                    finally:
                        ahead.close()
                    if not sum(self._counts.values()):
                        raise BagError(f"{self._asked.bag} holds nothing to play in the time and of the topics that were asked for")
        except (_Quit, KeyboardInterrupt):
            pass
        seconds = time.monotonic() - began
        for publisher in self._reliable:
            publisher.wait_for_all_acked(_LAST_WORDS)
        if len(self._reliable) < len(self._publishers):
            time.sleep(_READ_OUT_S)
        late = np.array(self._late_s or [0.0]) * 1e3
        spread = {"p50": float(np.percentile(late, 50)), "p99": float(np.percentile(late, 99)), "max": float(late.max())}
        return Played(sum(self._counts.values()), seconds, rounds, self._counts, self._skipped, spread)

    def _round(self, ahead: ReadAhead, pace: Pace, keys: Keyboard) -> None:
        for message in ahead:
            stepped = self._wait(message.time_ns, pace, keys)
            self._said_ns = message.time_ns
            publisher = self._publishers.get((message.channel.topic, message.channel.msgtype))
            if publisher is None:
                continue
            if stepped:
                self._tick(message.time_ns)
            publisher.publish(message.data)
            if not pace.paused:
                self._late_s.append(-(pace.wait_s(message.time_ns) or 0.0))
            self._counts[message.channel.topic] = self._counts.get(message.channel.topic, 0) + 1
        self._tick(self._said_ns)

    def _wait(self, time_ns: int, pace: Pace, keys: Keyboard) -> bool:
        """Until ``time_ns`` is due; whether the user stepped to it.

        Raises:
            _Quit: the user had enough.
        """
        while True:
            wait = pace.wait_s(time_ns)
            if time.monotonic() >= self._next_tick_s:
                # After a stall the clock must not be past what has yet to be said.
                self._tick(min(pace.now_ns(), time_ns))
            due = wait is not None and wait <= 0
            pause = _LOOK_S if wait is None else wait
            if self._clock is not None:
                pause = min(pause, self._next_tick_s - time.monotonic())
            # Also in the middle of a burst a key counts.
            pressed = keys.wait(0.0 if due else min(pause, _LOOK_S)) if keys.listening or not due else ""
            if pressed == QUIT:
                raise _Quit
            if pressed == PAUSE:
                pace.toggle()
                self._say("paused" if pace.paused else "playing")
            elif pressed == STEP:
                pace.step(time_ns)
                return True
            elif due:
                return False

    def _tick(self, now_ns: int) -> None:
        """Say what time it is, if somebody wants to know."""
        if self._clock is not None:
            self._next_tick_s = time.monotonic() + 1.0 / self._asked.clock_hz
            self._clock.publish(Clock(clock=stamp_of(now_ns)))
