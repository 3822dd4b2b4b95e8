"""Does whoever publishes on a topic still live? Asked of the middleware, which knows before a deadline passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

try:
    from rclpy.event_handler import QoSLivelinessChangedInfo, QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import QoSLivelinessChangedInfo, QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks


class PublisherWatch:
    """Watches the liveliness of the publishers on ``topic`` that match ``profile``, which asks for a lease.

    It reads nothing: messages are for a subscription that asks for no lease, so that a publisher that offers none is still heard. Such a one makes
    ``incompatible`` True. ``changed`` is called with the reason when the last live publisher is gone, and with an empty text when there is one again.
    """

    def __init__(self, node: Node, kind: Any, topic: str, profile: QoSProfile, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._seen = False
        self.alive = 0
        self.incompatible = False
        events = SubscriptionEventCallbacks(liveliness=self._on_liveliness, incompatible_qos=self._on_incompatible, use_default_callbacks=False)
        node.create_subscription(kind, topic, lambda _: None, profile, event_callbacks=events, raw=True)

    @property
    def state(self) -> str:
        """In words, for the diagnostics."""
        if self.alive:
            return "alive"
        if self.incompatible:
            return "offers no liveliness in time: that it was killed shows only when its plan times out"
        return "gone" if self._seen else "none yet"

    def _on_liveliness(self, info: QoSLivelinessChangedInfo) -> None:
        before, self.alive = self.alive, int(info.alive_count)
        if self.alive and not before:
            self._seen = True
            self._changed("")
        elif before and not self.alive:
            self._changed("shows no sign of life" if info.not_alive_count else "has left")

    def _on_incompatible(self, _: QoSRequestedIncompatibleQoSInfo) -> None:
        self.incompatible = True
