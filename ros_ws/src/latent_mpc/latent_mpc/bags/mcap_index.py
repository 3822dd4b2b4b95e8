"""Where in an MCAP file its messages lie: from its summary, or, where it has none or is cut off, from looking through the whole file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from latent_mpc.bags import mcap_records as mcap
from latent_mpc.bags.mcap_records import ChannelRecord, Cursor, McapError, Schema

_FOOTER_SIZE = mcap.HEAD.size + 20 + len(mcap.MAGIC)
_HEAD_BYTES = 128
_RUN_BYTES = 1 << 22


@dataclass(frozen=True)
class Block:
    """Records that are read at once: a chunk, or a run of messages outside of chunks.

    ``offset`` and ``size`` say where the data lie. ``indexes`` says where the message index of each channel begins, up to ``indexes_end``.
    ``whole`` is False for a chunk that the end of the file cut off. ``crc`` stands at ``crc_at`` where the index does not say it.
    """

    offset: int
    size: int
    start_ns: int
    end_ns: int
    compression: str
    uncompressed: int
    crc: int
    channels: frozenset[int]
    indexes: tuple[int, int] | None = None
    whole: bool = True
    crc_at: int = 0


@dataclass
class McapIndex:
    """What is in a file. ``trouble`` says why it is not whole, or is empty; ``read_to`` how far it could be read, of ``size`` bytes."""

    size: int
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, ChannelRecord] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    trouble: str = ""
    read_to: int = 0
    damaged_chunks: int = 0

    def learn(self, content: bytes, code: int, begins: int, ends: int) -> None:
        """Remember a schema or a channel.

        Raises:
            McapError: it is cut off.
        """
        if code == mcap.SCHEMA:
            number, schema = mcap.read_schema(content[begins:ends])
            self.schemas[number] = schema
        elif code == mcap.CHANNEL:
            channel = mcap.read_channel(content[begins:ends])
            self.channels[channel.number] = channel


def read_index(file: BinaryIO, size: int) -> McapIndex:
    """The index of an open file of ``size`` bytes.

    Raises:
        McapError: it is no MCAP file.
    """
    file.seek(0)
    begins = file.read(len(mcap.MAGIC))
    if begins != mcap.MAGIC:
        raise McapError("it is empty" if not begins else "it does not begin as an MCAP file does")
    return _from_summary(file, size) or scan(file, size)


def _from_summary(file: BinaryIO, size: int) -> McapIndex | None:
    """None when there is no summary that says where every message is."""
    if size < _FOOTER_SIZE + len(mcap.MAGIC):
        return None
    file.seek(size - _FOOTER_SIZE)
    footer = file.read(_FOOTER_SIZE)
    if footer[-len(mcap.MAGIC) :] != mcap.MAGIC or mcap.HEAD.unpack_from(footer) != (mcap.FOOTER, 20):
        return None
    begins = Cursor(footer[mcap.HEAD.size :]).number(8)
    if not 0 < begins < size:
        return None
    file.seek(begins)
    summary = file.read(size - _FOOTER_SIZE - begins)
    index = McapIndex(size, read_to=size)
    total, indexed = -1, 0
    try:
        for code, first, last in mcap.records(summary):
            if code in (mcap.SCHEMA, mcap.CHANNEL):
                index.learn(summary, code, first, last)
            elif code == mcap.CHUNK_INDEX:
                index.blocks.append(_indexed_chunk(summary[first:last]))
            elif code == mcap.STATISTICS:
                cursor = Cursor(summary[first:last])
                total = cursor.number(8)
                cursor.bytes(34)
                index.counts = dict(cursor.pairs(2, 8))
    except McapError:
        return None
    indexed = sum(index.counts.values())
    complete = total >= 0 and indexed == total and index.counts.keys() <= index.channels.keys()
    # Messages outside of chunks are in no index, and neither is what a chunk without message index holds.
    found = frozenset().union(*(block.channels for block in index.blocks))
    counted = {number for number, count in index.counts.items() if count}
    if not complete or not counted <= found or not all(_inside(block, begins) for block in index.blocks):
        return None
    return index


def _inside(block: Block, ends: int) -> bool:
    """Whether a chunk and its message indexes lie where an index may say that they do."""
    first, last = block.indexes or (block.offset, block.offset)
    return len(mcap.MAGIC) < block.crc_at < block.offset <= block.offset + block.size <= ends and 0 < first <= last <= ends


def _indexed_chunk(content: bytes) -> Block:
    cursor = Cursor(content)
    start, end, offset, length = (cursor.number(8) for _ in range(4))
    indexes = cursor.pairs(2, 8)
    index_length = cursor.number(8)
    compression = cursor.text()
    size, uncompressed = cursor.number(8), cursor.number(8)
    data_at = offset + length - size
    where = (offset + length, offset + length + index_length) if index_length else None
    return Block(
        data_at, size, start, end, compression, uncompressed, 0, frozenset(number for number, _ in indexes), where, True, offset + mcap.HEAD.size + 24
    )


def scan(file: BinaryIO, size: int) -> McapIndex:
    """Look through the file from its beginning up to its end or to where nothing can be made of it any more."""
    index = McapIndex(size)
    at = len(mcap.MAGIC)
    run: _Run | None = None
    while True:
        file.seek(at)
        head = file.read(mcap.HEAD.size)
        if len(head) < mcap.HEAD.size:
            index.trouble = f"it ends at byte {size} without the footer that a recorder writes when it ends"
            break
        code, length = mcap.HEAD.unpack(head)
        begins, ends = at + mcap.HEAD.size, at + mcap.HEAD.size + length
        if code == 0:
            index.trouble = f"what stands at byte {at} of {size} is no record"
            break
        if ends > size and code != mcap.CHUNK:
            index.trouble = f"it ends at byte {size} in the middle of a record that begins at byte {at}"
            break
        try:
            if code == mcap.MESSAGE:
                run = run or _Run(at)
                run.add(index, at, ends, file.read(mcap.MESSAGE_HEAD.size))
                if ends - run.offset > _RUN_BYTES:
                    run.end(index)
                    run = None
            elif run is not None:
                run.end(index)
                run = None
            if code == mcap.CHUNK:
                _scan_chunk(file, index, begins, min(ends, size), whole=ends <= size)
                if ends > size:
                    index.trouble = f"it ends at byte {size} in the middle of a chunk that begins at byte {at}"
                    break
            elif code in (mcap.SCHEMA, mcap.CHANNEL):
                index.learn(file.read(length), code, 0, length)
        except McapError as error:
            index.trouble = f"at byte {at} of {size}: {error}"
            break
        at = index.read_to = ends
        if code in (mcap.DATA_END, mcap.FOOTER):
            break
    if run is not None:
        run.end(index)
    if index.damaged_chunks and not index.trouble:
        index.trouble = f"{index.damaged_chunks} of its chunks are damaged"
    return index


def _scan_chunk(file: BinaryIO, index: McapIndex, begins: int, ends: int, whole: bool) -> None:
    file.seek(begins)
    try:
        head = mcap.read_chunk_head(file.read(min(_HEAD_BYTES, ends - begins)))
    except McapError:
        if whole:
            raise
        return
    offset = begins + head.data_at
    size = min(head.size, ends - offset)
    file.seek(offset)
    stored = file.read(size)
    try:
        content = mcap.decompress(head.compression, stored, head.uncompressed, head.crc)
    except McapError:
        if whole:
            index.damaged_chunks += 1
            return
        content = mcap.decompress_beginning(head.compression, stored)
    counts: dict[int, int] = {}
    times: list[int] = []
    for code, first, last in mcap.records(content):
        if code in (mcap.SCHEMA, mcap.CHANNEL):
            index.learn(content, code, first, last)
        elif code == mcap.MESSAGE and last - first >= mcap.MESSAGE_HEAD.size:
            number, _, time_ns, _ = mcap.MESSAGE_HEAD.unpack_from(content, first)
            counts[number] = counts.get(number, 0) + 1
            times.append(time_ns)
    if not times:
        return
    for number, count in counts.items():
        index.counts[number] = index.counts.get(number, 0) + count
    block = Block(offset, size, min(times), max(times), head.compression, head.uncompressed, head.crc, frozenset(counts), None, whole)
    index.blocks.append(block)


class _Run:
    """Messages outside of chunks, one after another, up to a few megabytes."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._end = offset
        self._times: list[int] = []
        self._channels: set[int] = set()

    def add(self, index: McapIndex, at: int, ends: int, head: bytes) -> None:
        if len(head) < mcap.MESSAGE_HEAD.size or ends - at < mcap.HEAD.size + mcap.MESSAGE_HEAD.size:
            raise McapError("a message is shorter than its head")
        number, _, time_ns, _ = mcap.MESSAGE_HEAD.unpack(head)
        self._channels.add(number)
        self._times.append(time_ns)
        self._end = ends
        index.counts[number] = index.counts.get(number, 0) + 1

    def end(self, index: McapIndex) -> None:
        size = self._end - self.offset
        if self._times:
            channels = frozenset(self._channels)
            index.blocks.append(Block(self.offset, size, min(self._times), max(self._times), "", size, 0, channels))
