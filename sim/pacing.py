"""Simulated time that keeps step with the wall clock."""

from __future__ import annotations


class Pacer:
    """Says how many ticks are due, so that simulated time stays within a tick of ROS time.

    Simulated time lies on the grid of ``tick_ns`` of ROS time. After a stall it catches up by ticking faster; what is missing beyond
    ``most_behind_ns`` is dropped: time jumps forward, and ``dropped_ns`` grows. Time never goes back.
    """

    def __init__(self, tick_ns: int, most_behind_ns: int, steady_ns: int, ros_ns: int) -> None:
        self.tick_ns = tick_ns
        self.time_ns = -(-ros_ns // tick_ns) * tick_ns
        self.dropped_ns = 0
        self._most_ticks = max(1, most_behind_ns // tick_ns)
        self._offset_ns = ros_ns - steady_ns

    def due(self, steady_ns: int) -> int:
        """Ticks to run now; call ``tick`` for each of them."""
        behind = (steady_ns + self._offset_ns - self.time_ns) // self.tick_ns
        if behind > self._most_ticks:
            missing_ns = (behind - self._most_ticks) * self.tick_ns
            self.time_ns += missing_ns
            self.dropped_ns += missing_ns
            behind = self._most_ticks
        return max(0, behind)

    def tick(self) -> int:
        """Let one tick pass and return the new time, ns."""
        self.time_ns += self.tick_ns
        return self.time_ns

    def jump(self, steady_ns: int, ros_ns: int) -> None:
        """Go on at ROS time ``ros_ns`` after a pause that was meant, such as a reset; also takes up what the system clock was set by meanwhile."""
        self._offset_ns = ros_ns - steady_ns
        self.time_ns = max(self.time_ns, -(-ros_ns // self.tick_ns) * self.tick_ns)
