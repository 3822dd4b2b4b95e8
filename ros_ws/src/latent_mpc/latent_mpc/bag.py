"""Recorded bags: their topics, and their messages one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.stores.ros2_kilted import builtin_interfaces__msg__Duration as Duration
from rosbags.typesys.stores.ros2_kilted import builtin_interfaces__msg__Time as Time
from rosbags.typesys.stores.ros2_kilted import diagnostic_msgs__msg__DiagnosticStatus as DiagnosticStatus
from rosbags.typesys.stores.ros2_kilted import sensor_msgs__msg__Image as Image

from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.storage import BagError
from ros_bridge.encodings import ImageError, picture_pixels

__all__ = ["NS_PER_S", "TYPES", "BagError", "BagMessage", "pixels", "read_messages", "read_topics", "stamp_ns", "status_values"]

NS_PER_S = 1_000_000_000
TYPES = get_typestore(Stores.ROS2_KILTED)
"""Message definitions of the distribution that the wheels bring; those of the standard messages here have not changed since Humble."""


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
    with BagReader(bag) as reader:
        return {channel.topic: channel.msgtype for channel in reader.channels}


def read_messages(bag: Path, topics: Iterable[str], pass_over_malformed: bool = False) -> Iterator[BagMessage]:
    """Messages of ``topics`` in the order in which they were received. Topics that the bag lacks are passed over.

    So are messages that cannot be decoded, where ``pass_over_malformed`` says so: somebody may have published no message at all.

    Raises:
        BagError: the bag cannot be opened or a message in it cannot be decoded.
    """
    with BagReader(bag) as reader:
        for raw in reader.raw(set(topics)):
            try:
                message = reader.decode(raw)
            except BagError as error:
                if pass_over_malformed:
                    continue
                raise BagError(f"{bag}: {error}") from error
            yield BagMessage(raw.channel.topic, raw.time_ns, message)


def stamp_ns(stamp: Time | Duration) -> int:
    """Nanoseconds of a message stamp or duration."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def pixels(message: Image) -> NDArray[np.uint8]:
    """Picture ``(H, W, 3) uint8``, red first, of an Image or CompressedImage message in any colour encoding.

    Raises:
        BagError: another encoding, or a size that does not fit the data.
    """
    try:
        return picture_pixels(message)
    except ImageError as error:
        raise BagError(str(error)) from error


def status_values(message: DiagnosticStatus) -> dict[str, str]:
    """Values of a DiagnosticStatus by key."""
    return {str(pair.key): str(pair.value) for pair in message.values}
