"""What a node took in, and when it looked at its clocks: enough to do the same again, offline and to the bit.

A journal is rows of four whole numbers, ``(kind, what, ros_ns, steady)``. ``what`` is the stamp of the message that was taken in, or what the kind
says; ``steady`` holds the 64 bits of the steady clock's seconds, since a rounded time would be another time. It goes out on a topic of its own, a few
rows at a time, and a recorder keeps it as it keeps the messages that it speaks of.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planner_node.solvers.solver import Deadline

COLUMNS = 4
_IN_A_ROW = COLUMNS - 1
_PADDING = (math.nan,) * _IN_A_ROW


class JournalError(ValueError):
    """Rows that are no journal, with the reason in one line."""


class Kind(IntEnum):
    """What happened; after the dash, what ``what`` is where it is not the stamp of the message.

    The first block is the planner's: ``READING`` - 0, a look at the clocks while an event is dealt with; ``SEARCH`` - the iterations after which the
    search was cut, 0 where it ended by itself. The second is the guardrail's: ``CYCLE`` - the slot; ``JUMP`` - slots; ``FORBID`` and ``LOST`` -
    whether; ``LOOK`` - 0, margins were measured for a status, which the next cycle remembers.
    """

    JOINTS = 1
    GOAL = 2
    ZONES = 3  # the text's checksum
    FRAME = 4
    WITNESS = 5
    CANCEL = 6
    TICK = 7
    ACTIVATE = 8
    DEACTIVATE = 9
    READING = 10
    SEARCH = 11
    SETTINGS = 12  # their checksum; with a value where zones were named
    VALUES = 13  # not an event: three numbers of the row before, as bits

    PLAN = 20
    CAMERA = 21
    PERCEPTION = 22
    MEASURED = 23
    CYCLE = 24
    JUMP = 25
    ARM = 26
    STOP = 27
    RESET = 28
    FINISH = 29
    DISARM = 30
    FORBID = 31
    LOOK = 32
    LOST = 33


_KINDS = {int(kind): kind for kind in Kind}


@dataclass(frozen=True)
class Moment:
    """ROS time in ns and a steady clock in s, looked at together."""

    ros_ns: int
    steady_s: float


@dataclass(frozen=True)
class Entry:
    """One event of a journal. ``values`` are its numbers, NaN where a row had room left, or empty where it has none."""

    kind: Kind
    what: int
    at: Moment
    values: tuple[float, ...] = ()


class Clock(Protocol):
    """Where time comes from while a decision is made. The node's is real; a recorded one gives the same times again."""

    def now(self) -> Moment:
        """The time."""
        ...

    def deadline(self, seconds: float) -> Deadline:
        """What a search of ``seconds`` is limited by."""
        ...


class Journal:
    """Rows that wait to be sent."""

    def __init__(self) -> None:
        self.count = 0
        self._rows: list[tuple[int, int, int, int]] = []

    def note(self, kind: Kind, what: int, at: Moment, values: Sequence[float] = ()) -> None:
        """Add an event. ``values`` are for what a recorder may well miss, such as joint states, of which none is sent twice."""
        self._rows.append((int(kind), what, at.ros_ns, _bits(at.steady_s)))
        if values:
            padded = (*values, *_PADDING[: -len(values) % _IN_A_ROW])
            bits = struct.unpack(f"<{len(padded)}q", struct.pack(f"<{len(padded)}d", *padded))
            self._rows += [(int(Kind.VALUES), *bits[place : place + _IN_A_ROW]) for place in range(0, len(bits), _IN_A_ROW)]

    def drain(self) -> tuple[int, NDArray[np.int64]]:
        """The number of the first row that was not handed out before, counted from 0, and the rows ``(N, 4)``."""
        first, rows = self.count, np.array(self._rows, dtype=np.int64).reshape(-1, COLUMNS)
        self.count += len(rows)
        self._rows.clear()
        return first, rows


def read_rows(rows: NDArray[np.int64]) -> list[Entry]:
    """The entries of ``rows (N, 4)``.

    Raises:
        JournalError: see ``require_journal``.
    """
    require_journal(rows)
    numbers: list[float] = np.ascontiguousarray(rows[:, 1:], np.int64).view(np.float64).ravel().tolist()
    begins = np.flatnonzero(rows[:, 0] != Kind.VALUES)  # values before the first: their event was in a message that is lost
    ends = np.append(begins, len(rows))[1:]
    entries: list[Entry] = []
    for (kind, what, ros_ns, _), begin, end in zip(rows[begins].tolist(), begins.tolist(), ends.tolist(), strict=True):
        values = tuple(numbers[_IN_A_ROW * (begin + 1) : _IN_A_ROW * end])
        entries.append(Entry(_KINDS[kind], what, Moment(ros_ns, numbers[_IN_A_ROW * begin + 2]), values))
    return entries


def require_journal(rows: NDArray[np.int64]) -> None:
    """Refuse what is no journal.

    Raises:
        JournalError: another shape than ``(N, 4)``, or a kind that nobody knows.
    """
    if rows.ndim != 2 or rows.shape[1] != COLUMNS:
        raise JournalError(f"a journal has rows of {COLUMNS} numbers, not shape {rows.shape}")
    for kind in np.unique(rows[:, 0]).tolist():
        if kind not in _KINDS:
            raise JournalError(f"a journal row of unknown kind: {kind} is not a valid Kind")


def checksum(text: str) -> int:
    """What a journal calls a text by."""
    return zlib.crc32(text.encode())


def _bits(seconds: float) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", seconds))[0]
    return bits
