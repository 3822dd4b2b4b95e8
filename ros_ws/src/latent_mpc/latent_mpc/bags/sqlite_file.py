"""One SQLite file (.db3) of a bag, in any of the schemas that rosbag2 has had."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import urllib.parse
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np

from latent_mpc.bags.qos import read_qos
from latent_mpc.bags.storage import STAMP_BYTES, Arrivals, BagError, Channel, RawMessage, stamps_of

_UNFINISHED = ("-wal", "-journal")
_PAGE = 4096


class SqliteFile:
    """A .db3 file. Where its recorder was killed in the middle of a transaction, SQLite's own repair works on a copy."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            BagError: it is no SQLite file, or not one of rosbag2's.
        """
        self.path = path
        self.trouble = ""
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._connection: sqlite3.Connection | None = None
        beside = [path.with_name(path.name + ending) for ending in _UNFINISHED]
        beside = [file for file in beside if file.is_file() and file.stat().st_size]
        opened = path
        if beside:
            self.trouble = f"its recorder was killed: {beside[0].name} lies beside it"
            self._copy = tempfile.TemporaryDirectory(prefix="latent-mpc-bag-")
            opened = Path(self._copy.name, path.name)
            for file in (path, *beside):
                shutil.copyfile(file, opened.with_name(file.name))
        options = "mode=rwc" if beside else "immutable=1"
        try:
            self._connection = sqlite3.connect(f"file:{urllib.parse.quote(str(opened.resolve()))}?{options}", uri=True, check_same_thread=False)
            self._connection.text_factory = lambda text: text.decode(errors="replace")
            self._channels = self._read_channels()
        except (sqlite3.Error, ValueError, TypeError) as error:
            self.close()
            raise BagError(f"{path} is no bag of rosbag2's: {error}") from error

    @property
    def channels(self) -> list[Channel]:
        """All channels, also those without messages."""
        return list(dict.fromkeys(self._channels.values()))

    def counts(self) -> dict[Channel, int]:
        """Number of messages of each channel."""
        counts = dict.fromkeys(self.channels, 0)
        for number, count in self._rows("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"):
            if number in self._channels:
                counts[self._channels[number]] += count
        return counts

    def span_ns(self) -> tuple[int, int] | None:
        """When the first and the last message were received; None when there is none."""
        ((first, last),) = self._rows("SELECT MIN(timestamp), MAX(timestamp) FROM messages")
        return None if first is None else (int(first), int(last))

    def messages(self, topics: Set[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None) -> Iterator[RawMessage]:
        """Messages in the order of the times at which they were received; those of one time in the order of the file.

        Raises:
            BagError: the file is damaged.
        """
        wanted = {number: channel for number, channel in self._channels.items() if topics is None or channel.topic in topics}
        if not wanted:
            return
        query = f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({', '.join('?' * len(wanted))})"
        values: list[int] = list(wanted)
        for bound, text in ((start_ns, "timestamp >= ?"), (stop_ns, "timestamp < ?")):
            if bound is not None:
                query += f" AND {text}"
                values.append(bound)
        for number, time_ns, data in self._rows(f"{query} ORDER BY timestamp, id", values):
            if not isinstance(time_ns, int) or not isinstance(data, bytes):
                raise BagError(f"{self.path} is damaged: a message without time or data; `latent-mpc bag recover` saves the rest")
            yield RawMessage(wanted[number], time_ns, data, time_ns)

    def salvage(self) -> Iterator[RawMessage]:
        """Messages in the order of the file, from its beginning to where it is damaged, then from its end backward to there."""
        assert self._connection is not None
        seen: set[int] = set()
        for order in ("ASC", "DESC"):
            try:
                rows = self._connection.execute(f"SELECT id, topic_id, timestamp, data FROM messages ORDER BY id {order}")
                for number, topic, time_ns, data in rows:
                    if number in seen:
                        break
                    seen.add(number)
                    if topic in self._channels and isinstance(data, bytes) and isinstance(time_ns, int) and time_ns >= 0:
                        yield RawMessage(self._channels[topic], int(time_ns), data, int(time_ns))
                else:
                    return
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                self.trouble = f"SQLite says: {error}"

    def arrivals(self, most_bytes: int) -> list[Arrivals]:
        """When the messages came, and the stamps that their first bytes would be."""
        times: dict[Channel, list[int]] = {}
        heads: dict[Channel, list[bytes]] = {}
        # substr() reads a message to its end; of a picture nobody needs that here. Python 3.10 knows no other way.
        most = _PAGE if hasattr(self._connection, "blobopen") else 1 << 62
        head_of = f"CASE WHEN length(data) > {most} THEN 0 ELSE substr(data, 1, {STAMP_BYTES}) END"
        for row, number, time_ns, head in self._rows(f"SELECT id, topic_id, timestamp, {head_of} FROM messages ORDER BY id"):
            head = self._head(row) if head == 0 else head
            if number in self._channels and isinstance(time_ns, int) and isinstance(head, bytes):
                channel = self._channels[number]
                times.setdefault(channel, []).append(time_ns)
                heads.setdefault(channel, []).append(head)
        found = []
        for channel, received in times.items():
            whole = b"".join(head for head in heads[channel] if len(head) == STAMP_BYTES)
            stamps = stamps_of(np.frombuffer(whole, np.uint8).reshape(-1, STAMP_BYTES))
            found.append(Arrivals(channel, np.array(received, np.int64), stamps))
        return found

    def close(self) -> None:
        """Release the file, and the copy of it."""
        if self._connection is not None:
            self._connection.close()
        if self._copy is not None:
            self._copy.cleanup()

    def _head(self, row: int) -> bytes:
        assert self._connection is not None
        try:
            with self._connection.blobopen("messages", "data", row, readonly=True) as blob:
                return bytes(blob.read(STAMP_BYTES))
        except sqlite3.Error as error:
            raise BagError(f"{self.path} is damaged: {error}; `latent-mpc bag recover` saves the rest") from error

    def _rows(self, query: str, values: list[int] | None = None) -> Iterator[tuple[Any, ...]]:
        assert self._connection is not None
        try:
            yield from self._connection.execute(query, values or [])
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise BagError(f"{self.path} is damaged: {error}; `latent-mpc bag recover` saves the rest") from error

    def _read_channels(self) -> dict[int, Channel]:
        assert self._connection is not None
        columns = {row[1] for row in self._connection.execute("PRAGMA table_info(topics)")}
        if not {"id", "name", "type"} <= columns:
            raise sqlite3.DatabaseError("it has no table of topics")
        definitions = {}
        if self._connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'message_definitions'").fetchone():
            rows = self._connection.execute("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")
            definitions = {msgtype: (encoding, text) for msgtype, encoding, text in rows if encoding in ("ros2msg", "ros2idl") and text.strip()}
        wanted = ("serialization_format", "offered_qos_profiles", "type_description_hash")
        chosen = [name if name in columns else f"'{'cdr' if name == 'serialization_format' else ''}'" for name in wanted]
        channels = {}
        for number, topic, msgtype, serialization, qos, digest in self._connection.execute(f"SELECT id, name, type, {', '.join(chosen)} FROM topics"):
            encoding, text = definitions.get(msgtype, ("", ""))
            channels[number] = Channel(topic, msgtype, text, encoding, digest or "", read_qos(qos), serialization)
        return channels
