"""Which of the streams that plans are made from have fallen silent, on the steady clock.

A message counts when its stamp is newer than any before: a camera that repeats a frame, or whose stamp stands still, is as silent as one that is
unplugged. A stream counts from its first message on; before that no plan is made from it either.
"""

from __future__ import annotations

from dataclasses import dataclass


class StalenessError(ValueError):
    """Times that make no sense, with the reason in one line."""


@dataclass(frozen=True)
class StalenessConfig:
    """``hold_s`` of silence after which no new plan is let in: the one in force is held; ``stop_s`` after which the arm ramps to a stop."""

    hold_s: float = 0.1
    stop_s: float = 0.3

    def __post_init__(self) -> None:
        if not 0.0 < self.hold_s <= self.stop_s < float("inf"):
            raise StalenessError(f"frames are held above {self.hold_s} s and stopped for above {self.stop_s} s; the first must not be the longer")


class Staleness:
    """Streams by name, and when each was last heard to go on."""

    def __init__(self, config: StalenessConfig) -> None:
        self.config = config
        self._stamps: dict[str, int] = {}
        self._heard_s: dict[str, float] = {}

    def heard(self, stream: str, stamp_ns: int, steady_s: float) -> None:
        """A message of ``stream`` stamped ``stamp_ns`` ROS time came at ``steady_s``; ignored unless its stamp is new."""
        if stamp_ns > self._stamps.get(stream, -1):
            self._stamps[stream] = stamp_ns
            self._heard_s[stream] = steady_s

    def forget_stamps(self) -> None:
        """ROS time was set, or all begins anew: stamps from before mean nothing. What was heard when is still true."""
        self._stamps.clear()

    def held(self, steady_s: float) -> str:
        """Why no new plan may be let in, or an empty text."""
        return self._silent(steady_s, self.config.hold_s)

    def stopped(self, steady_s: float) -> str:
        """Why the arm must come to rest, or an empty text."""
        return self._silent(steady_s, self.config.stop_s)

    def _silent(self, steady_s: float, limit_s: float) -> str:
        for stream, heard_s in self._heard_s.items():
            if steady_s - heard_s > limit_s:
                return f"{stream} shows nothing new for {1e3 * limit_s:.0f} ms"
        return ""
