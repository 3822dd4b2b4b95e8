"""How the arm stands while its tool follows a path: how near it comes to the ends of its joints, to itself, to the scene, to a singular posture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.guardrails.joint_map import MarginField


@dataclass(frozen=True)
class JointPositionGuardrail:
    """Every joint keeps away from the ends of its range by what ``room`` was measured with."""

    room: MarginField
    name: str = "joint_position"

    def margins(self, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margin in rad, ``(..., S)``."""
        return self.room.at(path)


@dataclass(frozen=True)
class CollisionGuardrail:
    """The arm stays ``clearance`` m away from itself and from the scene that ``distance`` was measured in."""

    distance: MarginField
    clearance: float
    name: str = "collision"

    def margins(self, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margin in m, ``(..., S)``."""
        return self.distance.at(path) - self.clearance


@dataclass(frozen=True)
class SingularityGuardrail:
    """The smallest singular value of the tool's Jacobian stays above ``least``: below, a slow tool needs fast joints."""

    value: MarginField
    least: float
    name: str = "singularity"

    def margins(self, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margin in the Jacobian's unit, ``(..., S)``."""
        return self.value.at(path) - self.least
