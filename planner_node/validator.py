"""The last look at a plan before it leaves: the search judged its corners, what is sent has rounded them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planner_node.guardrails.zone import Zone
from planner_node.joint_path import JointPathError

# Rounding a corner costs a few millimetres of the clearance that the search kept.
_LEAST_SHARE = 0.5
_ROUNDING_M = 1e-9


def require_clear(tools: NDArray[np.float64], zones: Sequence[Zone], clearance_m: float) -> None:
    """Refuse tool points ``(T, 3) m`` that come nearer to a zone than half of ``clearance_m``; one that begins nearer may leave, but not go deeper.

    Raises:
        JointPathError: it comes too near.
    """
    for zone in zones:
        distance = zone.signed_distance(tools)
        least = float(distance.min())
        if least < min(_LEAST_SHARE * clearance_m, float(distance[0])) - _ROUNDING_M:
            raise JointPathError(f"the tool would come within {1e3 * least:.0f} mm of a zone")
