"""ROS time as one integer: nanoseconds since the clock's epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

if TYPE_CHECKING:
    from rclpy.node import Node

NS_PER_S = 1_000_000_000


def stamp_ns(stamp: Time) -> int:
    """Nanoseconds of a message stamp (``Time`` or ``Duration``)."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def stamp_of(ns: int) -> Time:
    """The message stamp of ``ns`` nanoseconds."""
    seconds, nanoseconds = divmod(int(ns), NS_PER_S)
    return Time(sec=seconds, nanosec=nanoseconds)


def now_ns(node: Node) -> int:
    """ROS time of ``node``, ns. A float would lose a quarter of a microsecond at today's epoch, hence an integer."""
    return int(node.get_clock().now().nanoseconds)


def header_at(ns: int, frame_id: str = "") -> Header:
    """A header stamped ``ns``."""
    return Header(stamp=stamp_of(ns), frame_id=frame_id)
