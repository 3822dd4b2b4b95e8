"""The 10 ms grid of ROS time on which commands are stamped, read from the steady clock."""

from __future__ import annotations

CYCLE_NS = 10_000_000

# A cycle that starts this much before its slot still belongs to it: timers round.
_EARLY_NS = 500_000
# ROS time that runs away from the steady clock faster than this did not drift, it was set.
_JUMP_NS = 100_000_000


class Grid:
    """Slots of ``CYCLE_NS``: slot ``n`` begins at ROS time ``n * CYCLE_NS``.

    Which slot it is comes from the steady clock, so that a wall clock that is slewed or set does not change how much time has passed.
    """

    def __init__(self, steady_ns: int, ros_ns: int) -> None:
        self._offset_ns = ros_ns - steady_ns

    def slot(self, steady_ns: int) -> int:
        """The slot at ``steady_ns`` on the steady clock."""
        return (steady_ns + self._offset_ns + _EARLY_NS) // CYCLE_NS

    def follow(self, steady_ns: int, ros_ns: int) -> int:
        """Keep up with ROS time; return by how many slots a clock that was set has jumped, 0 when it only drifted."""
        drift = ros_ns - (steady_ns + self._offset_ns)
        if abs(drift) < CYCLE_NS:
            return 0
        shift = round(drift / CYCLE_NS)
        # Whole slots: the phase of the timer inside its slot stays.
        self._offset_ns += shift * CYCLE_NS
        return shift if abs(drift) >= _JUMP_NS else 0


def stamp_of_slot(slot: int) -> int:
    """ROS time at which ``slot`` begins, ns."""
    return slot * CYCLE_NS
