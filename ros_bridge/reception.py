"""When a message was received, told to a callback as well as the message."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.subscription import Subscription

RECEIVED = "received_timestamp"
"""Key of the time of reception in what a callback is told, ns of the wall clock."""


def with_reception(callback: Callable[[bytes, dict[str, int]], None]) -> Callable[..., None]:
    """``callback`` as a subscription of raw messages is to be given it.

    rclpy tells what it knows of a message to callbacks with two arguments since 3.4. Humble's does not: there, it was received just now.
    """
    return callback if hasattr(Subscription, "CallbackType") else lambda payload: callback(payload, {RECEIVED: time.time_ns()})
