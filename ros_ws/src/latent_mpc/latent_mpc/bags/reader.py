"""A bag as one stream of messages, whatever it is stored in."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import zstandard

from latent_mpc.bags.definitions import Definitions, distribution
from latent_mpc.bags.folder import BagFolder, find_files
from latent_mpc.bags.mcap_file import McapFile
from latent_mpc.bags.sqlite_file import SqliteFile
from latent_mpc.bags.storage import BagError, Channel, RawMessage, StorageFile

_ZSTD = b"\x28\xb5\x2f\xfd"
_PART = 1 << 20


class BagReader:
    """An open bag. Use as a context manager.

    ``folder`` says what it is made of, ``files`` are its open storage files, ``channels`` its topics with their types.
    """

    def __init__(self, path: Path) -> None:
        """Open a rosbag2 folder or a single file of one.

        Raises:
            BagError: it is no bag, or one that cannot be read.
            OSError: a file cannot be opened.
        """
        self.path = path
        self.folder: BagFolder = find_files(path)
        self.files: list[StorageFile] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        try:
            for file in self.folder.files:
                self.files.append(open_storage(*self._plain(file)))
        except BaseException:
            self.close()
            raise
        self.channels = self._merged()
        self.definitions = Definitions(distribution(self.folder.version, self.folder.distro))

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def troubles(self) -> list[str]:
        """Why the bag is not whole, one line for each file that is not."""
        return [f"{file.path.name}: {file.trouble}" for file in self.files if file.trouble]

    def counts(self) -> dict[str, int]:
        """Number of messages of each topic."""
        found = dict.fromkeys((channel.topic for channel in self.channels), 0)
        for file in self.files:
            for channel, count in file.counts().items():
                found[channel.topic] += count
        return found

    def span_ns(self) -> tuple[int, int] | None:
        """When the first and the last message were received; None when there is none."""
        spans = [span for file in self.files if (span := file.span_ns()) is not None]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None

    def raw(self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None) -> Iterator[RawMessage]:
        """Serialized messages of ``topics`` (all: None) received from ``start_ns`` until before ``stop_ns``, in the order of those times.

        Raises:
            BagError: a file is damaged.
        """
        wanted = None if topics is None else set(topics)
        streams = [file.messages(wanted, start_ns, stop_ns) for file in self.files]
        for message in heapq.merge(*streams, key=lambda message: message.time_ns):
            yield decompressed(message)

    def decode(self, message: RawMessage) -> Any:
        """The message in ``message.data``, with the fields of its ROS type.

        Raises:
            BagError: its type is unknown, or the data are no message of that type.
        """
        return self.definitions.decode(message.channel, message.data)

    def close(self) -> None:
        """Release all files."""
        for file in self.files:
            file.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _plain(self, file: Path) -> tuple[Path, Path]:
        """The file itself, or a decompressed copy of it; and the name that people know it by."""
        if file.suffix not in (".zstd", ".zst"):
            return file, file
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="latent-mpc-bag-")
        plain = Path(self._temporary.name, file.stem)
        decompress_file(file, plain)
        return plain, file

    def _merged(self) -> list[Channel]:
        """Channels by topic and type; what one file does not say another may."""
        found: dict[tuple[str, str], Channel] = {}
        for file in self.files:
            for channel in file.channels:
                known = found.setdefault((channel.topic, channel.msgtype), channel)
                qos = known.qos or channel.qos or self.folder.qos.get(channel.topic, ())
                better = known if known.definition else channel
                found[channel.topic, channel.msgtype] = replace(better, qos=qos)
        return list(found.values())


def open_storage(path: Path, known_as: Path | None = None) -> StorageFile:
    """The storage file ``path``, which messages call ``known_as``.

    Raises:
        BagError: it is no such file.
        OSError: it cannot be opened.
    """
    made: StorageFile = McapFile(path) if path.suffix == ".mcap" else SqliteFile(path)
    made.path = known_as or path
    return made


def decompress_file(source: Path, target: Path) -> bool:
    """Decompress a zstd file, as far as it goes; False when it is cut off or damaged."""
    reader = zstandard.ZstdDecompressor().decompressobj()
    with source.open("rb") as compressed, target.open("wb") as plain:
        while part := compressed.read(_PART):
            try:
                plain.write(reader.decompress(part))
            except zstandard.ZstdError:
                return False
            if reader.eof:
                return True
    return False


def decompressed(message: RawMessage) -> RawMessage:
    """The message, also where it was compressed by itself (rosbag2's mode ``message``).

    Raises:
        BagError: it is damaged.
    """
    if message.data[:4] != _ZSTD:
        return message
    try:
        return message._replace(data=zstandard.ZstdDecompressor().decompressobj().decompress(message.data))
    except zstandard.ZstdError as error:
        raise BagError(f"a compressed message is damaged: {error}") from error
