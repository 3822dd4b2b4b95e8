"""Which frames are planned from, where a camera delivers more of them than plans are wanted."""

from __future__ import annotations

# Of a period: a frame that comes so much early is the one that was awaited, for cameras keep time to a few ms only.
_EARLY = 0.1


class Cadence:
    """At most so many plans a second, by the stamps of the frames alone.

    When a latent arrives depends on who else was using the cores, when its frame was taken does not: counted from arrival to arrival, a camera as
    fast as the plans are wanted loses every frame that comes a little sooner after one that came late. A frame that is awaited is due up to a tenth
    of a period early, and what is missed is not made up for beyond one period.
    """

    def __init__(self) -> None:
        self._due_ns: float | None = None
        self._last_ns = 0

    def restart(self) -> None:
        """The next frame is due, whenever it was taken."""
        self._due_ns = None

    def due(self, stamp_ns: int, rate_hz: float) -> bool:
        """Whether the frame taken at ``stamp_ns`` is planned from, of frames in the order of their stamps. One from a clock set back is due."""
        period_ns = 1e9 / rate_hz
        if self._due_ns is None or stamp_ns < self._last_ns:
            self._due_ns = float(stamp_ns)
        if stamp_ns < self._due_ns - _EARLY * period_ns:
            return False
        self._due_ns = max(self._due_ns, stamp_ns - period_ns) + period_ns
        self._last_ns = stamp_ns
        return True
