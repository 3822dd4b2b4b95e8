"""Forbidden zones: upright walls and pillars that the tool point must not enter, given at run time and known to no data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import yaml
from numpy.typing import NDArray


class ZoneError(ValueError):
    """A zone that cannot be understood, with the reason in one line."""


@dataclass(frozen=True)
class Zone:
    """An upright box of any height: ``centre`` and ``half`` lengths along its own axes in m, turned by ``yaw`` in rad, rounded by ``radius`` in m.

    A pillar is a zone with ``half = (0, 0)`` and its radius.
    """

    centre: tuple[float, float]
    half: tuple[float, float]
    yaw: float = 0.0
    radius: float = 0.0

    def __post_init__(self) -> None:
        numbers = (*self.centre, *self.half, self.yaw, self.radius)
        if not np.all(np.isfinite(numbers)):
            raise ZoneError(f"zone {numbers} holds a number that is not finite")
        if min(*self.half, self.radius) < 0 or max(*self.half, self.radius) == 0:
            raise ZoneError(f"zone at {self.centre} needs half lengths and a radius of at least 0, and a size: {self.half}, {self.radius}")

    def signed_distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metres from ``points (..., 2 or 3)`` to the zone, negative inside."""
        outside = np.abs(self._local(points)) - np.array(self.half)
        distance: NDArray[np.float64] = np.linalg.norm(np.maximum(outside, 0.0), axis=-1) + np.minimum(outside.max(-1), 0.0) - self.radius
        return distance

    def normal(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit direction ``(..., 2)`` that leads away from the zone fastest."""
        local = self._local(points)
        outside = np.abs(local) - np.array(self.half)
        sign = np.where(local >= 0, 1.0, -1.0)
        nearest_face = np.where(outside == outside.max(-1, keepdims=True), sign, 0.0)
        corner = np.maximum(outside, 0.0) * sign
        length = np.linalg.norm(corner, axis=-1, keepdims=True)
        away = np.where(
            length > 1e-9, corner / np.maximum(length, 1e-9), nearest_face / np.maximum(np.linalg.norm(nearest_face, axis=-1, keepdims=True), 1e-9)
        )
        normal: NDArray[np.float64] = away @ self._axes()
        return normal

    def corners(self) -> NDArray[np.float64]:
        """The four corners ``(4, 2)`` of the box with its rounding, in order, for drawing."""
        reach = np.array(self.half) + self.radius
        local = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * reach
        corners: NDArray[np.float64] = local @ self._axes() + np.array(self.centre)
        return corners

    def _axes(self) -> NDArray[np.float64]:
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cos, sin], [-sin, cos]])

    def _local(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        local: NDArray[np.float64] = (points[..., :2] - np.array(self.centre)) @ self._axes().T
        return local


@dataclass(frozen=True)
class ZoneGuardrail:
    """Stay ``clearance`` m away from a zone. It covers what the arm deviates from the commanded path."""

    zone: Zone
    clearance: float
    name: str = "zone"

    def margins(self, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margin in m, ``(...)``."""
        return self.zone.signed_distance(path) - self.clearance


def read_zones(text: str) -> tuple[Zone, ...]:
    """Zones from YAML (or JSON): a list of ``{centre: [x, y], half: [a, b], yaw: rad, radius: m}``; the last two may be left out.

    Instead of ``centre`` and ``half`` there may be ``min: [x, y]`` and ``max: [x, y]``, of a box along the axes.

    Raises:
        ZoneError: the text is not such a list, or a zone is malformed.
    """
    try:
        content = yaml.safe_load(text) if text.strip() else []
    except yaml.YAMLError as error:
        raise ZoneError(f"zones are not YAML: {str(error).splitlines()[0]}") from error
    return parse_zones(content)


def parse_zones(content: object) -> tuple[Zone, ...]:
    """Zones from what YAML holds; see ``read_zones``.

    Raises:
        ZoneError: it is not such a list, or a zone is malformed.
    """
    entries = [] if content is None else content
    if not isinstance(entries, list):
        raise ZoneError("zones must be a list of {centre, half, yaw, radius}")
    return tuple(_read_zone(entry) for entry in entries)


def _read_zone(entry: object) -> Zone:
    keys = entry.keys() if isinstance(entry, dict) else set()
    corners = {"min", "max"} <= keys and not keys & {"centre", "half", "yaw"}
    if not isinstance(entry, dict) or not (corners or {"centre", "half"} <= keys) or keys - {"centre", "half", "yaw", "radius", "min", "max"}:
        raise ZoneError(f"a zone is {{centre: [x, y], half: [a, b], yaw: rad, radius: m}}, not {entry}")
    try:
        radius = float(entry.get("radius", 0.0))
        if corners:
            (x, y), (a, b) = ((float(u), float(v)) for u, v in (entry["min"], entry["max"]))
            if x > a or y > b:
                raise ZoneError(f"zone {entry} has min > max in {'x' if x > a else 'y'}")
            return Zone(((x + a) / 2, (y + b) / 2), ((a - x) / 2, (b - y) / 2), 0.0, radius)
        (x, y), (a, b) = entry["centre"], entry["half"]
        return Zone((float(x), float(y)), (float(a), float(b)), float(entry.get("yaw", 0.0)), radius)
    except ZoneError:
        raise
    except (TypeError, ValueError) as error:
        raise ZoneError(f"zone {entry}: {error}") from error
