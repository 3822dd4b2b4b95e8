"""What every storage of a bag holds: channels, and serialized messages with the time at which they were received."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from latent_mpc.bags.qos import OfferedQos

STAMP_BYTES = 12
"""A message that begins with a header: four bytes that say how it is serialized, seconds, nanoseconds."""


class BagError(ValueError):
    """A bag that cannot be read or written, with the reason in one line."""


@dataclass(frozen=True)
class Channel:
    """One topic of one type in a bag. ``definition`` is empty where the bag does not say what the type looks like.

    ``encoding`` is ``ros2msg`` or ``ros2idl``; ``digest`` the RIHS01 hash of the type; ``qos`` what its publishers offered.
    """

    topic: str
    msgtype: str
    definition: str = ""
    encoding: str = ""
    digest: str = ""
    qos: tuple[OfferedQos, ...] = ()
    serialization: str = "cdr"


class RawMessage(NamedTuple):
    """One serialized message: received at ``time_ns``, published at ``published_ns``."""

    channel: Channel
    time_ns: int
    data: bytes
    published_ns: int


@dataclass(frozen=True)
class Arrivals:
    """When the messages of one channel came, in the order in which they were written: ``times_ns (N,) int64``.

    ``stamps_ns (M,) int64`` are the stamps that their first bytes would be if the type begins with a header; None where it was too much to look at.
    """

    channel: Channel
    times_ns: NDArray[np.int64]
    stamps_ns: NDArray[np.int64] | None


class StorageFile(Protocol):
    """One open storage file. ``trouble`` says why it is not whole, or is empty."""

    path: Path
    trouble: str

    @property
    def channels(self) -> list[Channel]:
        """All channels, also those without messages."""
        ...

    def messages(self, topics: Set[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None) -> Iterator[RawMessage]:
        """Messages of ``topics`` (all: None), received at or after ``start_ns`` and before ``stop_ns``, in the order of those times."""
        ...

    def arrivals(self, most_bytes: int) -> list[Arrivals]:
        """When the messages came, from indexes as far as there are any; at most ``most_bytes`` of compressed data are looked into for stamps."""
        ...

    def counts(self) -> dict[Channel, int]:
        """Number of messages of each channel."""
        ...

    def span_ns(self) -> tuple[int, int] | None:
        """When the first and the last message were received; None when there is none."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def stamps_of(heads: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Stamps ``(N,) int64, ns`` in the first twelve bytes of messages ``heads (N, 12)``; garbage where the type begins with something else."""
    big = heads[:, 1] == 0
    little = np.ascontiguousarray(heads[:, 4:]).view("<u4").astype(np.int64)
    swapped = np.ascontiguousarray(heads[:, 4:]).view(">u4").astype(np.int64)
    words = np.where(big[:, None], swapped, little)
    stamps: NDArray[np.int64] = words[:, 0] * 1_000_000_000 + words[:, 1]
    return stamps
