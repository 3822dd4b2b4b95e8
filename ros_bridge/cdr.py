"""CDR read strictly: what is not a whole message, to the last byte, is refused.

The middleware's own reader takes a payload that was cut or overwritten as long as it finds something in it, and a message comes out that nobody sent.
Here every length has to fit, every text has to be UTF-8 that ends with its zero, and nothing may be left over but the padding to four bytes
(OMG, "Common Object Request Broker Architecture, Part 2: Interoperability", 9.3; encapsulation: DDSI-RTPS 2.5, 10.2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ros_bridge.stamps import NS_PER_S

_ENCAPSULATION = 4
_PADDING = 3
_DOUBLE = 8
_U32 = {1: struct.Struct("<I"), 0: struct.Struct(">I")}
_STAMP = {1: struct.Struct("<iI"), 0: struct.Struct(">iI")}
_F64 = {1: np.dtype("<f8"), 0: np.dtype(">f8")}
_SHORTEST_TEXT = 5  # a length and the zero
_SHORTEST_POINT = 24  # four empty sequences and a duration


class CdrError(ValueError):
    """A payload that is no whole message, with the reason in one line."""


class Points(NamedTuple):
    """The points of a trajectory: ``ns (P,) int64`` from its start, the rest ``(P, J) float64``."""

    ns: NDArray[np.int64]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    accelerations: NDArray[np.float64] | None


class CdrReader:
    """Takes one field after another from ``payload``, in the order of the message definition.

    Raises:
        CdrError: from every method: the payload ends before the field does, or the field is not what it must be.
    """

    def __init__(self, payload: bytes) -> None:
        if len(payload) < _ENCAPSULATION or payload[0] != 0 or payload[1] not in _U32:
            raise CdrError("payload does not begin as CDR does")
        self._payload = payload
        self._at = _ENCAPSULATION
        self._order = payload[1]
        self._u32: Callable[..., tuple[Any, ...]] = _U32[self._order].unpack_from

    def count(self, smallest: int = 0) -> int:
        """An unsigned 32-bit number, as a length of what takes at least ``smallest`` bytes each."""
        number = self._number()
        if number * smallest > len(self._payload) - self._at:
            raise CdrError(f"payload of {len(self._payload)} bytes cannot hold {number} entries")
        return number

    def stamp_ns(self) -> int:
        """A ``Time`` or ``Duration``, ns."""
        at = self._aligned(4)
        if at + 8 > len(self._payload):
            raise CdrError("payload ends too early")
        seconds, nanoseconds = _STAMP[self._order].unpack_from(self._payload, at)
        if nanoseconds >= NS_PER_S:
            raise CdrError(f"a stamp has {nanoseconds} ns")
        self._at = at + 8
        return int(seconds) * NS_PER_S + int(nanoseconds)

    def text(self) -> str:
        """A string."""
        length = self._number()
        begin, end = self._at, self._at + length
        if not length or end > len(self._payload) or self._payload[end - 1]:
            raise CdrError("a text does not end where it says")
        self._at = end
        try:
            return self._payload[begin : end - 1].decode()
        except UnicodeDecodeError as error:
            raise CdrError("a text is not UTF-8") from error

    def texts(self) -> list[str]:
        """A sequence of strings."""
        return [self.text() for _ in range(self.count(_SHORTEST_TEXT))]

    def doubles(self) -> NDArray[np.float64]:
        """A sequence of doubles ``(N,) float64``."""
        count = self.count(_DOUBLE)
        if not count:
            return np.empty(0)
        # Aligned to what follows the encapsulation, not to the payload.
        at = self._aligned(_DOUBLE)
        if at + _DOUBLE * count > len(self._payload):
            raise CdrError("payload ends too early")
        self._at = at + _DOUBLE * count
        return np.frombuffer(self._payload, _F64[self._order], count, at).astype(np.float64)

    def points(self) -> int:
        """How many points a sequence of JointTrajectoryPoint has."""
        return self.count(_SHORTEST_POINT)

    def like_points(self, joints: int) -> Points | None:
        """A sequence of JointTrajectoryPoint at once, where each gives positions, velocities and, or none of them, accelerations of ``joints``
        joints and no effort, as most do; else None, and nothing was taken.
        """
        begin = self._at
        found = self._like_points(self.points(), joints)
        if found is None:
            self._at = begin
        return found

    def _like_points(self, count: int, joints: int) -> Points | None:
        block = _DOUBLE * joints
        length = self._aligned(4)
        first = length + 4 + (_ENCAPSULATION - length - 4) % _DOUBLE
        given = first + 2 * block + 8  # how many accelerations the first point has
        if not count or not joints or given + 4 > len(self._payload):
            return None
        accelerated = self._u32(self._payload, given)[0] == joints
        counted = [(block, joints), (2 * block + 8, joints * accelerated), ((3 * block + 16) if accelerated else given + 4 - first, 0)]
        stamp = counted[-1][0] + 4
        # What follows a stamp is the next point's number of positions, and then, at a multiple of eight, they.
        stride = -(-(stamp + 12) // _DOUBLE) * _DOUBLE
        end = first + (count - 1) * stride + stamp + 8
        if end > len(self._payload):
            return None

        def column(at: int, rows: int, kind: str, *shape: int) -> NDArray[Any]:
            dtype = np.dtype(kind).newbyteorder("<" if self._order else ">")
            steps = (stride, dtype.itemsize)[: 1 + len(shape)]
            return np.ndarray((rows, *shape), dtype, self._payload, at, steps)

        counted_right = all((column(first + at, count, "u4") == number).all() for at, number in counted)
        nanoseconds = column(first + stamp + 4, count, "u4").astype(np.int64)
        others = column(first + stamp + 8, count - 1, "u4") == joints
        if not counted_right or self._u32(self._payload, length)[0] != joints or not others.all() or (nanoseconds >= NS_PER_S).any():
            return None
        self._at = end
        ns = column(first + stamp, count, "i4").astype(np.int64) * NS_PER_S + nanoseconds
        blocks = [column(first + at, count, "f8", joints).astype(np.float64) for at in (0, block + 8, 2 * block + 16)[: 2 + accelerated]]
        return Points(ns, blocks[0], blocks[1], blocks[2] if accelerated else None)

    def end(self) -> None:
        """Nothing more may follow."""
        left = len(self._payload) - self._at
        if left > _PADDING:
            raise CdrError(f"payload goes on for {left} bytes behind its end")

    def _number(self) -> int:
        at = self._aligned(4)
        try:
            (number,) = self._u32(self._payload, at)
        except struct.error:
            raise CdrError("payload ends too early") from None
        self._at = at + 4
        return int(number)

    def _aligned(self, size: int) -> int:
        return self._at + (_ENCAPSULATION - self._at) % size
