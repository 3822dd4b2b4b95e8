"""Solids in space that the tool point must not enter: boxes, balls, capsules and half spaces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from arm_model.scene import Box, Capsule, HalfSpace, Obstacle, Sphere


@dataclass(frozen=True)
class KeepOutGuardrail:
    """Keep the tool point ``clearance`` m away from ``obstacle``. The arm behind the tool is the collision guardrail's business."""

    obstacle: Obstacle
    clearance: float

    @property
    def name(self) -> str:
        """The obstacle's."""
        return self.obstacle.name

    def margins(self, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margin in m, ``(..., S)``."""
        return self.signed_distance(path) - self.clearance

    def signed_distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metres from ``points (..., 3)`` to the solid, negative inside."""
        shape = self.obstacle.shape
        distance: NDArray[np.float64]
        if isinstance(shape, HalfSpace):
            distance = points @ np.array(shape.normal) - shape.offset
            return distance
        local = (points - np.array(self.obstacle.xyz)) @ self._turn
        if isinstance(shape, Box):
            outside = np.abs(local) - np.array(shape.size) / 2
            distance = np.linalg.norm(np.maximum(outside, 0.0), axis=-1) + np.minimum(outside.max(-1), 0.0)
        elif isinstance(shape, Sphere):
            distance = np.linalg.norm(local, axis=-1) - shape.radius
        elif isinstance(shape, Capsule):
            local[..., 2] -= np.clip(local[..., 2], -shape.length / 2, shape.length / 2)
            distance = np.linalg.norm(local, axis=-1) - shape.radius
        return distance

    @cached_property
    def _turn(self) -> NDArray[np.float64]:
        """Axes of the solid as columns, from roll, pitch and yaw about fixed axes as in a URDF."""
        (r, p, y) = self.obstacle.rpy
        (cr, cp, cy), (sr, sp, sy) = np.cos([r, p, y]), np.sin([r, p, y])
        return np.array(
            [
                [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
                [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
                [-sp, cp * sr, cp * cr],
            ]
        )
