"""Clocks that jump: a bag is read as one piece for each time that its stamps went back, and messages without stamps are put on the camera's clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Best-effort messages may overtake each other by less than this; stamps that go back further are those of another clock.
_OVERTAKEN_NS = 200_000_000
# A message may reach the recorder this much before or after the camera's first or last picture of a piece.
_BESIDE_NS = 1_000_000_000
# Stamps that differ from the recorder's clock by less than this are on the same clock.
_SAME_CLOCK_NS = 500_000_000


@dataclass(frozen=True)
class Clock:
    """One clock: while it ran, pictures were received from ``first_ns`` to ``last_ns``, stamped ``offset_ns`` later than that (the median)."""

    first_ns: int
    last_ns: int
    offset_ns: int


def clocks(received: NDArray[np.int64], stamps: NDArray[np.int64]) -> tuple[Clock, ...]:
    """The clocks of a camera whose pictures ``(N,)`` were received in this order."""
    begins = np.flatnonzero(np.diff(stamps) < -_OVERTAKEN_NS) + 1
    pieces = np.split(np.arange(len(stamps)), begins)
    return tuple(Clock(int(received[p[0]]), int(received[p[-1]]), int(np.median(stamps[p] - received[p]))) for p in pieces)


def clock_of(known: tuple[Clock, ...], received: NDArray[np.int64], stamps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index ``(N,)`` of the clock that each message was stamped by: of those that ran about then, the one that its stamp agrees with best."""
    apart = np.empty((len(known), len(received)), np.int64)
    for row, clock in zip(apart, known, strict=True):
        # From the piece's own time, what is left is the stamp's disagreement; outside of it, being far away comes first.
        outside = np.maximum(clock.first_ns - _BESIDE_NS - received, received - clock.last_ns - _BESIDE_NS).clip(0)
        row[:] = np.abs(stamps - received - clock.offset_ns) + outside * 1000
    best: NDArray[np.int64] = apart.argmin(0)
    return best


def clock_by_reception(known: tuple[Clock, ...], received: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index ``(N,)`` of the clock that ran when a message without a stamp was received."""
    begins = np.array([clock.first_ns for clock in known[1:]], np.int64)
    return np.searchsorted(begins, received, side="right")


def on_clock(clock: Clock, received: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times of reception on the camera's clock: shifted where that is another one than the recorder's."""
    return received if abs(clock.offset_ns) < _SAME_CLOCK_NS else received + clock.offset_ns
