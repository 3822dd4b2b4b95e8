"""When a recorded moment is due: real or scaled time, pauses, single steps."""

from __future__ import annotations

import time
from collections.abc import Callable

_NS = 1e9


class Pace:
    """Time of a bag as it is played: ``rate`` times as fast as ``clock``, s, and standing while paused."""

    def __init__(self, begins_ns: int, rate: float, clock: Callable[[], float] = time.monotonic, paused: bool = False) -> None:
        self._clock = clock
        self._rate = rate
        self._at_ns = begins_ns
        self._since: float | None = None if paused else clock()

    @property
    def paused(self) -> bool:
        """Whether time stands."""
        return self._since is None

    def now_ns(self) -> int:
        """The moment of the recording that is now."""
        if self._since is None:
            return self._at_ns
        return self._at_ns + round((self._clock() - self._since) * self._rate * _NS)

    def wait_s(self, time_ns: int) -> float | None:
        """How long it is until ``time_ns``, negative when that is over; None while time stands."""
        if self._since is None:
            return None
        return (time_ns - self.now_ns()) / _NS / self._rate

    def toggle(self) -> None:
        """Stop time, or let it go on from where it stands."""
        if self._since is None:
            self._since = self._clock()
        else:
            self._at_ns = self.now_ns()
            self._since = None

    def step(self, time_ns: int) -> None:
        """Move on to ``time_ns`` and stand there."""
        self._at_ns = max(self._at_ns, time_ns)
        self._since = None
