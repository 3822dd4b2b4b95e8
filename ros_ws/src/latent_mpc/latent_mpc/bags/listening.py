"""Subscriptions whose messages are taken, undecoded, when it suits the recorder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

from latent_mpc.bags.message_types import MessageTypes, message_class
from latent_mpc.bags.ros_qos import demands_more, matching, offered_qos
from latent_mpc.bags.storage import Channel, RawMessage
from ros_bridge.stamps import now_ns


class _Unattended(CallbackGroup):
    """No executor wakes up for what belongs to this: at 300 messages a second, that costs more than everything else."""

    def can_execute(self, entity: object) -> bool:
        return False

    def beginning_execution(self, entity: object) -> bool:
        return False

    def ending_execution(self, entity: object) -> None:
        pass


@dataclass
class _Source:
    channel: Channel
    message_class: type
    subscription: Subscription
    asked: QoSProfile


class Listener:
    """Topics that a node listens to. ``lost`` counts messages that publishers numbered and that never came."""

    def __init__(self, node: Node) -> None:
        self.lost = 0
        self._node = node
        self._types = MessageTypes()
        self._group = _Unattended()
        self._sources: dict[str, _Source] = {}
        self._newest: dict[bytes, int] = {}
        self._left_over: list[RawMessage] = []

    def listen(self, topic: str, msgtype: str, offered: Sequence[QoSProfile]) -> None:
        """Subscribe to ``topic``, or anew when a publisher has come that would not be heard.

        Raises:
            BagError: the type is not installed.
        """
        asked = matching(offered)
        known = self._sources.get(topic)
        if known is not None:
            if not demands_more(known.asked, asked):
                return
            self._left_over += self._take(known)
            self._node.destroy_subscription(known.subscription)
        kind = message_class(msgtype)
        profiles = tuple(dict.fromkeys(offered_qos(profile) for profile in offered))
        channel = known.channel if known is not None else replace(self._types.describe(topic, msgtype), qos=profiles)
        subscription = self._node.create_subscription(kind, topic, _nothing, asked, callback_group=self._group, raw=True)
        self._sources[topic] = _Source(channel, kind, subscription, asked)

    @property
    def topics(self) -> list[str]:
        """What is listened to."""
        return list(self._sources)

    def take(self) -> list[RawMessage]:
        """What has come since the last time, in the order in which the middleware received it."""
        came, self._left_over = self._left_over, []
        for source in self._sources.values():
            came += self._take(source)
        return sorted(came, key=lambda message: message.time_ns)

    def _take(self, source: _Source) -> list[RawMessage]:
        # Nothing, or how far simulated time is from the clock that the middleware stamps with.
        offset_ns = now_ns(self._node) - time.time_ns() if self._node.get_parameter("use_sim_time").value else 0
        came = []
        handle = source.subscription.handle
        # Whoever shut the context down took the subscriptions with it.
        with suppress(rclpy_implementation.InvalidHandle), handle:
            while (taken := handle.take_message(source.message_class, True)) is not None:
                data, info = taken
                received_ns = info["received_timestamp"] + offset_ns
                published_ns = info["source_timestamp"] + offset_ns if info["source_timestamp"] else received_ns
                came.append(RawMessage(source.channel, max(received_ns, 0), data, max(published_ns, 0)))
                self._count(info)
        return came

    def _count(self, info: dict[str, object]) -> None:
        """Count what a publisher sent and nobody received, by the gaps in its sequence numbers."""
        number, publisher = info.get("publication_sequence_number"), info.get("publisher_gid")
        if not isinstance(number, int) or not isinstance(publisher, dict):
            return
        key = bytes(publisher["data"])
        if key in self._newest:
            self.lost += max(0, number - self._newest[key] - 1)
        self._newest[key] = number


def _nothing(_: bytes) -> None:
    """Never called."""
