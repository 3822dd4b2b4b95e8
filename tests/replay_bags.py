"""Bags made of others: the same messages but for what a test changes, leaves out or adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from latent_mpc.bag import TYPES
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

Edit = Callable[[str, int, Any], Any]
"""Topic, time in ns and message to a message, to bytes that are no message, or to None to leave it out."""


def rewritten(
    bag: Path,
    out: Path,
    edit: Edit,
    topics: Callable[[str], bool] = lambda topic: True,
    only: tuple[str, ...] = (),
    renamed: Callable[[str], str] = lambda topic: topic,
) -> Path:
    """A copy of ``bag`` at ``out`` with the topics that pass ``topics``. ``edit`` is asked about those of ``only``; the others are copied raw."""
    with AnyReader([bag], default_typestore=TYPES) as reader, Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kept = [connection for connection in reader.connections if topics(connection.topic)]
        added = {c.topic: writer.add_connection(renamed(c.topic), c.msgtype, typestore=TYPES) for c in kept}
        for connection, time_ns, data in reader.messages(kept):
            raw: Any = bytes(data)
            if connection.topic in only:
                changed = edit(connection.topic, time_ns, reader.deserialize(data, connection.msgtype))
                if changed is None:
                    continue
                raw = changed if isinstance(changed, bytes) else bytes(TYPES.serialize_cdr(changed, connection.msgtype))
            writer.write(added[connection.topic], time_ns, raw)
    return out
