"""One MCAP file of a bag."""

from __future__ import annotations

import heapq
import mmap
from collections.abc import Iterator, Set
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latent_mpc.bags import mcap_records as mcap
from latent_mpc.bags.mcap_index import Block, read_index, scan
from latent_mpc.bags.mcap_records import McapError
from latent_mpc.bags.qos import read_qos
from latent_mpc.bags.storage import STAMP_BYTES, Arrivals, BagError, Channel, RawMessage, stamps_of

_INDEX_ENTRY = np.dtype([("time", "<u8"), ("offset", "<u8")])


class McapFile:
    """An MCAP file, whole or cut off. Chunks are read one at a time, as their turn comes."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            BagError: it is no MCAP file.
            OSError: it cannot be opened.
        """
        self.path = path
        self._file = path.open("rb")
        try:
            self._size = path.stat().st_size
            self._index = read_index(self._file, self._size)
        except McapError as error:
            self._file.close()
            raise BagError(f"{path} is no MCAP file: {error}") from error
        self.trouble = self._index.trouble
        self._channels = {number: self._channel(number) for number in self._index.channels}

    def look_through(self) -> None:
        """Trust no index: look through the whole file, and leave damaged chunks out."""
        self._index = scan(self._file, self._size)
        self.trouble = self._index.trouble
        self._channels = {number: self._channel(number) for number in self._index.channels}

    @property
    def read_to(self) -> int:
        """How many bytes of the file could be read."""
        return self._index.read_to

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    @property
    def channels(self) -> list[Channel]:
        """All channels, also those without messages."""
        return list(dict.fromkeys(self._channels.values()))

    def counts(self) -> dict[Channel, int]:
        """Number of messages of each channel."""
        counts = dict.fromkeys(self.channels, 0)
        for number, count in self._index.counts.items():
            if number in self._channels:
                counts[self._channels[number]] += count
        return counts

    def span_ns(self) -> tuple[int, int] | None:
        """When the first and the last message were received; None when there is none."""
        blocks = self._index.blocks
        return (min(block.start_ns for block in blocks), max(block.end_ns for block in blocks)) if blocks else None

    def messages(self, topics: Set[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None) -> Iterator[RawMessage]:
        """Messages in the order of the times at which they were received; those of one time in the order of the file.

        Raises:
            BagError: a chunk is damaged.
        """
        wanted = {number: channel for number, channel in self._channels.items() if topics is None or channel.topic in topics}
        first, last = start_ns if start_ns is not None else 0, stop_ns if stop_ns is not None else 1 << 64
        blocks = [block for block in self._index.blocks if block.start_ns < last and block.end_ns >= first and not block.channels.isdisjoint(wanted)]
        waiting: list[tuple[int, int, int, RawMessage]] = []
        for block in sorted(blocks, key=lambda block: (block.start_ns, block.offset)):
            while waiting and waiting[0][0] < block.start_ns:
                yield heapq.heappop(waiting)[3]
            content = self._content(block)
            for code, begins, ends in mcap.records(content):
                if code != mcap.MESSAGE or ends - begins < mcap.MESSAGE_HEAD.size:
                    continue
                number, _, time_ns, published_ns = mcap.MESSAGE_HEAD.unpack_from(content, begins)
                if number in wanted and first <= time_ns < last:
                    data = content[begins + mcap.MESSAGE_HEAD.size : ends]
                    heapq.heappush(waiting, (time_ns, block.offset, begins, RawMessage(wanted[number], time_ns, data, published_ns)))
        while waiting:
            yield heapq.heappop(waiting)[3]

    def arrivals(self, most_bytes: int) -> list[Arrivals]:
        """When the messages came, from the message indexes as far as there are any."""
        times: dict[int, list[NDArray[np.int64]]] = {}
        stamps: dict[int, list[NDArray[np.int64] | None]] = {}
        if not self._size:
            return []
        whole = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        view = np.frombuffer(whole, np.uint8)
        for block in sorted(self._index.blocks, key=lambda block: block.offset):
            content: NDArray[np.uint8] | None = None
            if not block.compression:
                content = view[block.offset : block.offset + block.size]
            elif block.indexes is None or block.size <= most_bytes:
                most_bytes -= block.size
                content = np.frombuffer(self._content(block), np.uint8)
            for number, entries in (_read_indexes(whole, block) if block.indexes else _entries(content)).items():
                times.setdefault(number, []).append(entries["time"].astype(np.int64))
                stamps.setdefault(number, []).append(None if content is None else _stamps_at(content, entries["offset"].astype(np.int64)))
        found = []
        for number, parts in times.items():
            if number in self._channels:
                seen = [part for part in stamps[number] if part is not None]
                all_seen = len(seen) == len(parts)
                found.append(Arrivals(self._channels[number], np.concatenate(parts), np.concatenate(seen) if all_seen else None))
        return found

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _channel(self, number: int) -> Channel:
        record = self._index.channels[number]
        schema = self._index.schemas.get(record.schema)
        metadata = record.metadata
        known = schema is not None and schema.encoding in ("ros2msg", "ros2idl", "omgidl") and schema.text.strip() != ""
        return Channel(
            topic=record.topic,
            msgtype=schema.name if schema is not None else "",
            definition=schema.text if schema is not None and known else "",
            encoding=("ros2msg" if schema.encoding == "ros2msg" else "ros2idl") if schema is not None and known else "",
            digest=metadata.get("topic_type_hash", ""),
            qos=read_qos(metadata.get("offered_qos_profiles", "")),
            serialization=record.message_encoding,
        )

    def _crc(self, block: Block) -> int:
        if not block.crc_at:
            return block.crc
        self._file.seek(block.crc_at)
        return int.from_bytes(self._file.read(4), "little")

    def _content(self, block: Block) -> bytes:
        self._file.seek(block.offset)
        stored = self._file.read(block.size)
        if not block.whole:
            return mcap.decompress_beginning(block.compression, stored)
        try:
            return mcap.decompress(block.compression, stored, block.uncompressed, self._crc(block))
        except McapError as error:
            raise BagError(f"{self.path} is damaged at byte {block.offset}: {error}; `latent-mpc bag recover` saves the rest") from error


def _read_indexes(whole: mmap.mmap, block: Block) -> dict[int, NDArray[np.void]]:
    """Times and offsets of a chunk's messages by channel, in the order in which they were written."""
    assert block.indexes is not None
    content = whole[slice(*block.indexes)]
    found = {}
    for code, begins, ends in mcap.records(content):
        if code == mcap.MESSAGE_INDEX and ends - begins >= 6:
            number = int.from_bytes(content[begins : begins + 2], "little")
            count = (ends - begins - 6) // _INDEX_ENTRY.itemsize
            entries = np.frombuffer(content, _INDEX_ENTRY, count, begins + 6)
            found[number] = entries[np.argsort(entries["offset"], kind="stable")]
    return found


def _entries(content: NDArray[np.uint8] | None) -> dict[int, NDArray[np.void]]:
    """The same, of a block without message index."""
    assert content is not None
    rows: dict[int, list[tuple[int, int]]] = {}
    data = content.tobytes()
    for code, begins, ends in mcap.records(data):
        if code == mcap.MESSAGE and ends - begins >= mcap.MESSAGE_HEAD.size:
            number, _, time_ns, _ = mcap.MESSAGE_HEAD.unpack_from(data, begins)
            rows.setdefault(number, []).append((time_ns, begins - mcap.HEAD.size))
    return {number: np.array(found, _INDEX_ENTRY) for number, found in rows.items()}


def _stamps_at(content: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stamps of the messages whose records begin at ``offsets``; those that are too short for one are left out."""
    begins = offsets + mcap.HEAD.size + mcap.MESSAGE_HEAD.size
    begins = begins[(begins >= 0) & (begins <= content.size - STAMP_BYTES)]
    return stamps_of(content[begins[:, None] + np.arange(STAMP_BYTES)])
