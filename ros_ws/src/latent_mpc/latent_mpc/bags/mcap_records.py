"""The records of an MCAP file (https://mcap.dev/spec) as far as bags need them; nothing here trusts a length that it read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import lz4.frame
import zstandard

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX, STATISTICS, DATA_END, FOOTER = 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0B, 0x0F, 0x02
HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_LARGEST_CHUNK = 1 << 32


class McapError(ValueError):
    """Bytes that are no MCAP records, with the reason."""


@dataclass(frozen=True)
class Schema:
    """A message type by name, and its definition."""

    name: str
    encoding: str
    text: str


@dataclass(frozen=True)
class ChannelRecord:
    """A topic; ``schema`` is the number of its schema, 0 for none."""

    number: int
    schema: int
    topic: str
    message_encoding: str
    metadata: dict[str, str]


@dataclass(frozen=True)
class ChunkHead:
    """What stands before the data of a chunk, which begin ``data_at`` bytes into the record and are ``size`` bytes long."""

    start_ns: int
    end_ns: int
    uncompressed: int
    crc: int
    compression: str
    data_at: int
    size: int


class Cursor:
    """Fields one after another out of a record's content.

    Raises (every method):
        McapError: the record is shorter than its fields.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def bytes(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if self.at + count > len(self._content):
            raise McapError("a record is shorter than its fields")
        self.at += count
        return self._content[self.at - count : self.at]

    def number(self, size: int) -> int:
        """The next unsigned number of ``size`` bytes."""
        return int.from_bytes(self.bytes(size), "little")

    def text(self) -> str:
        """The next string."""
        return self.bytes(self.number(4)).decode(errors="replace")

    def pairs(self, key: int, value: int) -> list[tuple[int, int]]:
        """The next array of pairs of numbers, ``key`` and ``value`` bytes long."""
        until = self.number(4) + self.at
        found = []
        while self.at < until:
            found.append((self.number(key), self.number(value)))
        return found

    def map(self) -> dict[str, str]:
        """The next map of strings."""
        until = self.number(4) + self.at
        found = {}
        while self.at < until:
            key = self.text()
            found[key] = self.text()
        return found


def records(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Operation code, and where the content of each whole record in ``content`` begins and ends; one that is cut off ends it."""
    at, end = 0, len(content)
    while at + HEAD.size <= end:
        code, length = HEAD.unpack_from(content, at)
        begins = at + HEAD.size
        at = begins + length
        if at > end or code == 0:
            return
        yield code, begins, at


def read_schema(content: bytes) -> tuple[int, Schema]:
    """Number and schema.

    Raises:
        McapError: it is cut off.
    """
    cursor = Cursor(content)
    return cursor.number(2), Schema(cursor.text(), cursor.text(), cursor.text())


def read_channel(content: bytes) -> ChannelRecord:
    """A channel.

    Raises:
        McapError: it is cut off.
    """
    cursor = Cursor(content)
    return ChannelRecord(cursor.number(2), cursor.number(2), cursor.text(), cursor.text(), cursor.map())


def read_chunk_head(content: bytes) -> ChunkHead:
    """The head of a chunk record, of which ``content`` is at least the first hundred bytes or all.

    Raises:
        McapError: it is cut off.
    """
    if len(content) < _CHUNK_HEAD.size:
        raise McapError("a chunk is shorter than its head")
    start, end, uncompressed, crc, named = _CHUNK_HEAD.unpack_from(content)
    cursor = Cursor(content)
    cursor.bytes(_CHUNK_HEAD.size)
    compression = cursor.bytes(named).decode(errors="replace")
    size = cursor.number(8)
    return ChunkHead(start, end, uncompressed, crc, compression, cursor.at, size)


def decompress(compression: str, data: bytes, uncompressed: int, crc: int) -> bytes:
    """The records of a chunk.

    Raises:
        McapError: unknown compression, damaged data, or another checksum than the chunk says.
    """
    if uncompressed > _LARGEST_CHUNK:
        raise McapError(f"a chunk says that it holds {uncompressed} bytes")
    try:
        if compression == "":
            content = data
        elif compression == "zstd":
            content = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        elif compression == "lz4":
            content = lz4.frame.decompress(data)
        else:
            raise McapError(f"unknown compression '{compression}' of a chunk")
    except (zstandard.ZstdError, RuntimeError) as error:
        raise McapError(f"a chunk cannot be decompressed: {error}") from error
    if len(content) != uncompressed:
        raise McapError(f"a chunk holds {len(content)} bytes in the place of {uncompressed}")
    if crc and zlib.crc32(content) != crc:
        raise McapError("the checksum of a chunk is wrong")
    return content


def decompress_beginning(compression: str, data: bytes) -> bytes:
    """As much as can be had of a chunk that is cut off."""
    try:
        if compression == "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        if compression == "lz4":
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data))
    except (zstandard.ZstdError, RuntimeError):
        return b""
    return data if compression == "" else b""
