"""What a node says about itself: status messages, latencies, and a 1 Hz report on /diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from ros_bridge.qos import STATUS
from ros_bridge.stamps import header_at, now_ns

OK: bytes = DiagnosticStatus.OK
WARN: bytes = DiagnosticStatus.WARN
ERROR: bytes = DiagnosticStatus.ERROR
STALE: bytes = DiagnosticStatus.STALE

Value = str | int | float | bool


class Latencies:
    """The last ``capacity`` durations in milliseconds, and how they are spread."""

    def __init__(self, capacity: int = 1000) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, must be at least 1")
        self._ring = np.zeros(capacity)
        self._count = 0

    def add(self, ms: float) -> None:
        """Remember one duration, forgetting the oldest when full."""
        self._ring[self._count % self._ring.size] = ms
        self._count += 1

    @property
    def count(self) -> int:
        """How many were ever added."""
        return self._count

    def percentile(self, percent: float) -> float:
        """The ``percent``-th percentile in ms; 0.0 while nothing was added, since a status value is never NaN."""
        kept = self._ring[: min(self._count, self._ring.size)]
        return float(np.percentile(kept, percent)) if kept.size else 0.0

    @property
    def p50(self) -> float:
        """Median, ms."""
        return self.percentile(50)

    @property
    def p99(self) -> float:
        """99th percentile, ms."""
        return self.percentile(99)


class Spread:
    """How durations in milliseconds are spread, from the first on: a histogram of 0.05 ms up to 100 ms, so that an hour of them costs no more."""

    _STEP_MS, _BINS = 0.05, 2000

    def __init__(self) -> None:
        self._counts = np.zeros(self._BINS + 1, dtype=np.int64)
        self.max = 0.0

    def add(self, ms: float) -> None:
        """Count one duration ``>= 0``."""
        self._counts[min(int(ms / self._STEP_MS), self._BINS)] += 1
        self.max = max(self.max, ms)

    def percentile(self, percent: float) -> float:
        """The ``percent``-th percentile in ms, to the upper end of its bin; the longest where that is open, 0.0 while nothing was added."""
        total = np.cumsum(self._counts)
        if not total[-1]:
            return 0.0
        at = int(np.searchsorted(total, 0.01 * percent * total[-1]))
        return self.max if at >= self._BINS else min((at + 1) * self._STEP_MS, self.max)


def status(name: str, message: str, values: Mapping[str, Value], level: bytes = OK, hardware_id: str = "") -> DiagnosticStatus:
    """A DiagnosticStatus whose values are text: whole numbers as they are, others with up to six significant digits."""
    pairs = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id, values=pairs)


def status_values(msg: DiagnosticStatus) -> dict[str, str]:
    """The values of a status by key."""
    return {pair.key: pair.value for pair in msg.values}


class DiagnosticsReport:
    """Publishes what ``describe`` returns on /diagnostics once a second, for as long as the node lives."""

    def __init__(self, node: Node, describe: Callable[[], Sequence[DiagnosticStatus]]) -> None:
        self._node = node
        self._describe = describe
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", STATUS)
        self._timer = node.create_timer(1.0, self.publish)

    def publish(self) -> None:
        """Publish now; the timer calls this."""
        self._publisher.publish(DiagnosticArray(header=header_at(now_ns(self._node)), status=list(self._describe())))


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
