"""A process shows that it lives, on the topic that others follow it by."""

from __future__ import annotations

import threading

from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.publisher import Publisher

# Three within the lease of `qos.PLAN_OFFER`.
_PERIOD_S = 0.015


class SignOfLife:
    """Asserts the liveliness of ``publisher`` (MANUAL_BY_TOPIC) in a thread of its own, whatever its node does, until it is closed.

    Not left to the middleware (AUTOMATIC): Fast DDS's event thread then takes the participant's lock every few milliseconds, while the thread that
    removes another process's writer waits for it with that lock held (``WLP::automatic_liveliness_assertion``, ``PDP::removeWriterProxyData`` of
    3.2.3): whenever somebody leaves, the process may stand still for ever.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sign of life", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread: before the publisher goes, or ROS."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(_PERIOD_S):
            try:
                self._publisher.assert_liveliness()
            except (InvalidHandle, RCLError):
                return  # the publisher is gone, or ROS is
