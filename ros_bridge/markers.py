"""What is drawn for people: lines and boxes."""

from __future__ import annotations

import math
from collections.abc import Iterable

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

RGBA = tuple[float, float, float, float]


def line_marker(header: Header, namespace: str, points: list[Point], width_m: float, rgba: RGBA) -> Marker:
    """A line through ``points``."""
    line = Marker(header=header, ns=namespace, type=Marker.LINE_STRIP, action=Marker.ADD, color=_colour(rgba), points=points)
    line.scale.x = width_m
    return line


def box_marker(header: Header, namespace: str, number: int, centre: Point, yaw: float, size_m: tuple[float, float, float], rgba: RGBA) -> Marker:
    """An upright box, turned by ``yaw`` rad."""
    box = Marker(header=header, ns=namespace, id=number, type=Marker.CUBE, action=Marker.ADD, color=_colour(rgba))
    box.pose.position = centre
    box.pose.orientation.z, box.pose.orientation.w = math.sin(yaw / 2), math.cos(yaw / 2)
    box.scale.x, box.scale.y, box.scale.z = size_m
    return box


def wall_markers(
    header: Header, namespace: str, boxes: Iterable[tuple[tuple[float, float], float, tuple[float, ...]]], height_m: float, rgba: RGBA
) -> list[Marker]:
    """Upright walls on the ground, each of ``(centre, yaw, (length, width))``, in the place of all that was drawn before."""
    drawn = [Marker(action=Marker.DELETEALL)]
    for number, (centre, yaw, (length, width)) in enumerate(boxes):
        middle = Point(x=centre[0], y=centre[1], z=height_m / 2)
        drawn.append(box_marker(header, namespace, number, middle, yaw, (length, width, height_m), rgba))
    return drawn


def _colour(rgba: RGBA) -> ColorRGBA:
    return ColorRGBA(r=rgba[0], g=rgba[1], b=rgba[2], a=rgba[3])
