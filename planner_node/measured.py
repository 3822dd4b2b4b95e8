"""The joints as they were measured last, and which joint states may say so.

A joint state counts when its stamp is newer than that of the one before: one that is repeated is a driver that repeats itself, and one that is older
was under way for too long. What is refused is not heard of: an arm with nothing newer is braked like one whose driver is silent. Stamp 0 means that
the driver does not stamp; then every joint state counts when it comes, and one that was measured long ago cannot be told from a fresh one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

NOTHING_TO_ARM_AT, STILL_MOVES = "no joint state to arm at", "cannot arm: the arm moves"
"""How refusals to arm begin that may be over in a moment: ask again."""

# s: joint states closer than this tell how fast the arm is, and stamps count for no more.
RECENT_S = 0.1
# rad: an arm whose joint states differ by more, from one to the next, does not stand, whatever velocity its driver sends. Encoders differ by less.
STANDING_RAD = 2e-3
# s: a stamp that gains more than this on the steady clock, from one joint state to the next, was not measured then.
_LEAP_S = 1.0
# s without anything newer, after which stamps of another time are a driver that was started again, with a clock of its own.
_NEW_TIME_S = 0.5


@dataclass(frozen=True)
class Taken:
    """A joint state that counts: ``change (J,) rad`` since the one before within ``seconds`` (infinite at the first).

    ``new_time``: its stamp does not go on from the one before.
    """

    change: F64
    seconds: float
    new_time: bool = False


class MeasuredJoints:
    """``position (J,) rad``, stamped ``stamp_ns``, heard at ``heard_s`` on the steady clock; ``refused`` counts what was older or leapt."""

    def __init__(self) -> None:
        self.position: F64 | None = None
        self.heard_s = -np.inf
        self.stamp_ns = 0
        self.refused = 0
        self.last_refusal = ""

    @property
    def stamped(self) -> bool:
        """Whether the driver stamps what it measures."""
        return self.stamp_ns != 0

    def heard(self, steady_s: float) -> str:
        """When one that counts was heard last, in words, seen from ``steady_s``."""
        return "none was heard yet" if self.position is None else f"the last was heard {steady_s - self.heard_s:.1f} s ago"

    def take(self, position: F64, stamp_ns: int, steady_s: float) -> Taken | None:
        """Take in ``position (J,) rad``, stamped ``stamp_ns`` and received at ``steady_s``; None when it does not count."""
        silent_s = steady_s - self.heard_s
        if stamp_ns != 0 and stamp_ns == self.stamp_ns:
            return None
        leapt = self._leapt(stamp_ns, silent_s)
        if leapt and silent_s <= _NEW_TIME_S:
            self.refused += 1
            self.last_refusal = leapt
            return None
        stamped_s = abs(stamp_ns - self.stamp_ns) * 1e-9 if stamp_ns and self.stamped and not leapt else 0.0
        # After a stall two of them come at once; a driver may stamp what it likes, so that counts for no more than a moment.
        taken = Taken(
            np.zeros_like(position) if self.position is None else position - self.position,
            max(silent_s, min(stamped_s, RECENT_S)),
            bool(leapt),
        )
        self.position, self.stamp_ns, self.heard_s = position, stamp_ns, steady_s
        return taken

    def forget_stamps(self) -> None:
        """ROS time was set: the next stamp begins anew."""
        self.stamp_ns = 0

    def _leapt(self, stamp_ns: int, silent_s: float) -> str:
        if not self.stamped:
            return ""
        gained_s = (stamp_ns - self.stamp_ns) * 1e-9
        if gained_s < 0.0:
            return (
                f"joint state {-1e3 * gained_s:.0f} ms older than the one before"
                if stamp_ns
                else "joint state without a stamp after one with a stamp"
            )
        return f"joint state leaps {gained_s:.1f} s ahead of the one before" if gained_s - silent_s > _LEAP_S else ""
