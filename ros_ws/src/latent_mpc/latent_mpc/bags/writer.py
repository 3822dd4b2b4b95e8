"""Writes rosbag2 folders: MCAP files, split by size and time, and the metadata.yaml that names them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from mcap.writer import CompressionType, Writer

from latent_mpc.bags.folder import METADATA, NEWEST_VERSION
from latent_mpc.bags.qos import qos_entries
from latent_mpc.bags.storage import BagError, Channel

COMPRESSIONS = {"none": CompressionType.NONE, "zstd": CompressionType.ZSTD, "lz4": CompressionType.LZ4}
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LIBRARY = "latent-mpc"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Format:
    """How a bag is written. ``split_bytes`` and ``split_ns`` of 0 mean: one file however long.

    What came goes to the operating system ``flush_s`` later at the latest: so much is lost when the recorder is killed.
    """

    compression: str = "none"
    split_bytes: int = 0
    split_ns: int = 0
    flush_s: float = 0.5

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise BagError(f"compression is '{self.compression}', must be one of: {', '.join(COMPRESSIONS)}")


@dataclass
class _File:
    path: Path
    stream: BinaryIO
    writer: Writer
    channels: dict[Channel, int] = field(default_factory=dict)
    first_ns: int = 0
    last_ns: int = 0
    count: int = 0

    def add(self, time_ns: int) -> None:
        self.first_ns = min(self.first_ns, time_ns) if self.count else time_ns
        self.last_ns = max(self.last_ns, time_ns) if self.count else time_ns
        self.count += 1


class FolderWriter:
    """An open bag. Without ``close()`` it gets no metadata.yaml, and nobody takes it for a complete one."""

    def __init__(self, folder: Path, form: Format, custom: dict[str, str] | None = None) -> None:
        """Create the folder and its first file; ``custom`` goes into the metadata.

        Raises:
            BagError: the folder exists already.
            OSError: it cannot be made.
        """
        if folder.exists():
            raise BagError(f"{folder} exists already, not overwriting.")
        folder.mkdir(parents=True)
        self._folder = folder
        self._form = form
        self._custom = dict(custom or {})
        self._counts: dict[Channel, int] = {}
        self._schemas: dict[tuple[str, str], int] = {}
        self._done: list[_File] = []
        self._file = self._next_file()
        self._flushed_s = time.monotonic()
        self._dirty = False

    @property
    def written(self) -> int:
        """Messages so far."""
        return sum(self._counts.values())

    def add_channel(self, channel: Channel) -> None:
        """Name a channel in the metadata, although nothing may ever come on it."""
        self._counts.setdefault(channel, 0)

    def write(self, channel: Channel, time_ns: int, data: bytes, published_ns: int | None = None) -> None:
        """Append one serialized message received at ``time_ns``.

        Raises:
            OSError: the disk is full, or the like.
        """
        if self._file.count and self._full(time_ns):
            self.split()
        number = self._file.channels.get(channel)
        if number is None:
            number = self._register(channel)
        self._file.writer.add_message(number, time_ns, data, time_ns if published_ns is None else published_ns)
        self._file.add(time_ns)
        self._counts[channel] = self._counts.get(channel, 0) + 1
        self._dirty = True
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Hand over to the operating system what has waited for ``flush_s``. To be called when nothing comes, too.

        Raises:
            OSError: the disk is full, or the like.
        """
        now = time.monotonic()
        if now - self._flushed_s < self._form.flush_s:
            return
        if self._dirty:
            self._file.writer.flush()
            self._dirty = False
        self._flushed_s = now

    def split(self) -> None:
        """Go on in another file, if there is anything in this one.

        Raises:
            OSError: the disk is full, or the like.
        """
        if self._file.count:
            self._finish()
            self._file = self._next_file()

    def close(self) -> None:
        """Write index and metadata.

        Raises:
            OSError: the disk is full, or the like.
        """
        self._finish()
        # A file that a split began and nothing came for.
        if len(self._done) > 1 and not self._done[-1].count:
            self._done.pop().path.unlink()
        text = yaml.dump({"rosbag2_bagfile_information": self._information(self._done)}, Dumper=_DUMPER, sort_keys=False)
        waiting = self._folder / f"{METADATA}.tmp"
        waiting.write_text(text)
        waiting.replace(self._folder / METADATA)

    def _next_file(self) -> _File:
        path = self._folder / f"{self._folder.resolve().name}_{len(self._done)}.mcap"
        stream = path.open("xb")
        writer = Writer(stream, chunk_size=_CHUNK_BYTES, compression=COMPRESSIONS[self._form.compression])
        writer.start("ros2", _LIBRARY)
        self._schemas.clear()
        return _File(path, stream, writer)

    def _finish(self) -> None:
        file = self._file
        serialized = yaml.dump(self._information([file]), Dumper=_DUMPER, sort_keys=False)
        file.writer.add_metadata("rosbag2", {"serialized_metadata": serialized})
        file.writer.finish()
        file.stream.close()
        self._done.append(file)

    def _full(self, time_ns: int) -> bool:
        form, file = self._form, self._file
        too_large = form.split_bytes > 0 and file.stream.tell() >= form.split_bytes
        return too_large or (form.split_ns > 0 and time_ns - file.first_ns >= form.split_ns)

    def _register(self, channel: Channel) -> int:
        key = (channel.msgtype, channel.definition)
        if key not in self._schemas:
            self._schemas[key] = self._file.writer.register_schema(channel.msgtype, channel.encoding, channel.definition.encode())
        metadata = {"offered_qos_profiles": yaml.dump(qos_entries(channel.qos), Dumper=_DUMPER) if channel.qos else ""}
        if channel.digest:
            metadata["topic_type_hash"] = channel.digest
        number: int = self._file.writer.register_channel(channel.topic, channel.serialization, self._schemas[key], metadata)
        self._file.channels[channel] = number
        return number

    def _information(self, files: list[_File]) -> dict[str, Any]:
        filled = [file for file in files if file.count]
        first, last = (min(file.first_ns for file in filled), max(file.last_ns for file in filled)) if filled else (0, 0)
        return {
            "version": NEWEST_VERSION,
            "storage_identifier": "mcap",
            "duration": {"nanoseconds": last - first},
            "starting_time": {"nanoseconds_since_epoch": first},
            "message_count": sum(file.count for file in files),
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": channel.topic,
                        "type": channel.msgtype,
                        "serialization_format": channel.serialization,
                        "offered_qos_profiles": qos_entries(channel.qos),
                        "type_description_hash": channel.digest,
                    },
                    "message_count": count,
                }
                for channel, count in self._counts.items()
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [file.path.name for file in files],
            "files": [
                {
                    "path": file.path.name,
                    "starting_time": {"nanoseconds_since_epoch": file.first_ns},
                    "duration": {"nanoseconds": file.last_ns - file.first_ns},
                    "message_count": file.count,
                }
                for file in files
            ],
            "custom_data": self._custom or None,
            "ros_distro": os.environ.get("ROS_DISTRO", "kilted"),
        }
