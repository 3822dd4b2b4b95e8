"""Recorded bags: their topics, and their messages one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.rosbag2 import ReaderError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.stores.ros2_kilted import builtin_interfaces__msg__Duration as Duration
from rosbags.typesys.stores.ros2_kilted import builtin_interfaces__msg__Time as Time
from rosbags.typesys.stores.ros2_kilted import diagnostic_msgs__msg__DiagnosticStatus as DiagnosticStatus
from rosbags.typesys.stores.ros2_kilted import sensor_msgs__msg__Image as Image

NS_PER_S = 1_000_000_000
TYPES = get_typestore(Stores.ROS2_KILTED)
"""Message definitions of the distribution that the wheels bring; those of the standard messages here have not changed since Humble."""


class BagError(ValueError):
    """A bag that cannot be read, with the reason in one line."""


@dataclass(frozen=True)
class BagMessage:
    """One message: ``time_ns`` is when the recorder received it; ``message`` has the fields of its ROS type, arrays as numpy arrays."""

    topic: str
    time_ns: int
    message: Any


def read_topics(bag: Path) -> dict[str, str]:
    """Message type of every topic that the bag holds.

    Raises:
        BagError: the bag cannot be opened.
    """
    with _open(bag) as reader:
        return {connection.topic: connection.msgtype for connection in reader.connections}


def read_messages(bag: Path, topics: Iterable[str], pass_over_malformed: bool = False) -> Iterator[BagMessage]:
    """Messages of ``topics`` in the order in which they were received. Topics that the bag lacks are passed over.

    So are messages that cannot be decoded, where ``pass_over_malformed`` says so: somebody may have published no message at all.

    Raises:
        BagError: the bag cannot be opened or a message in it cannot be decoded.
    """
    wanted = set(topics)
    with _open(bag) as reader:
        connections = [connection for connection in reader.connections if connection.topic in wanted]
        # The reader takes an empty list for "all".
        if not connections:
            return
        for connection, time_ns, data in reader.messages(connections):
            try:
                message = reader.deserialize(data, connection.msgtype)
            except (AnyReaderError, ValueError, KeyError, IndexError, AssertionError) as error:
                if pass_over_malformed:
                    continue
                raise BagError(f"{bag}: a message on {connection.topic} cannot be decoded as {connection.msgtype}") from error
            yield BagMessage(connection.topic, time_ns, message)


def stamp_ns(stamp: Time | Duration) -> int:
    """Nanoseconds of a message stamp or duration."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def pixels(message: Image) -> NDArray[np.uint8]:
    """Picture ``(H, W, 3) uint8`` of an ``rgb8`` Image message.

    Raises:
        BagError: another encoding, or a size that does not fit the data.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    if message.encoding != "rgb8" or height == 0 or width == 0 or step < 3 * width or message.data.size != height * step:
        raise BagError(f"not an rgb8 picture: encoding '{message.encoding}', {width} x {height}, step {step}, {message.data.size} bytes")
    rows = np.asarray(message.data, np.uint8).reshape(height, step)
    return np.ascontiguousarray(rows[:, : 3 * width]).reshape(height, width, 3)


def status_values(message: DiagnosticStatus) -> dict[str, str]:
    """Values of a DiagnosticStatus by key."""
    return {str(pair.key): str(pair.value) for pair in message.values}


@contextmanager
def _open(bag: Path) -> Iterator[AnyReader]:
    if not bag.is_dir():
        raise BagError(f"no bag folder {bag}")
    if not (bag / "metadata.yaml").is_file():
        raise BagError(f"{bag} has no metadata.yaml: not a rosbag2 folder, or its recorder was killed before it could close it")
    reader = AnyReader([bag], default_typestore=TYPES)
    try:
        reader.open()
    except (AnyReaderError, ReaderError, OSError, ValueError, KeyError, AssertionError) as error:
        raise BagError(f"{bag} cannot be read: {' '.join(str(error).split())}") from error
    try:
        yield reader
    finally:
        reader.close()
