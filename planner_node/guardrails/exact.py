"""The last look at the joints of a plan before it leaves: every posture measured, nothing interpolated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arm_model import CollisionModel
from planner_node.joint_path import JointPathError

# Rounding a corner costs a few millimetres of the clearance that the search kept.
_LEAST_SHARE = 0.5
_ROUNDING_M = 1e-6


@dataclass(frozen=True)
class PostureCheck:
    """Refuses joints that bring the arm nearer to itself or to the scene than half of ``clearance`` m."""

    model: CollisionModel
    clearance: float

    def require_clear(self, positions: NDArray[np.float64]) -> None:
        """Look at joints ``(P, J) rad``, in order; a path that begins nearer may leave, but not go deeper.

        Raises:
            JointPathError: it comes too near; the message names the pair.
        """
        bound = _LEAST_SHARE * self.clearance
        allowed: NDArray[np.float64] | None = None
        for q in positions:
            distances = self.model.distances(q)
            allowed = np.minimum(bound, distances) if allowed is None else allowed
            short = allowed - distances
            if short.size and float(short.max()) > _ROUNDING_M:
                worst = int(short.argmax())
                first, second = self.model.pairs[worst]
                raise JointPathError(f"{first} would come within {1e3 * distances[worst]:.0f} mm of {second}")
