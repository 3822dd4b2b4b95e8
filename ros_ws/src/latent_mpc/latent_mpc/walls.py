"""The wall task: a forbidden wall between start and goal that the planner is told of and the model has never seen."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep
from planner_node.guardrails.zone import Zone

WALL = "wall"
"""The task's name: ``reach`` with a wall in between."""

WALL_HALF_M = (0.09, 0.02)
# Room that the tool needs to pass the end of a wall, and to stand beside it.
_PASSAGE_M = 0.035
_BESIDE_M = 0.03
_POINTS_BETWEEN = 10


def wall_between(start: NDArray[np.float64], goal: NDArray[np.float64], workspace: ToolStep) -> Zone | None:
    """A wall half-way from ``start (3,)`` to ``goal (3,)``, square to the straight line; None where there is no room for it or no way round it."""
    along = (goal - start)[:2]
    length = float(np.linalg.norm(along))
    if length / 2 < WALL_HALF_M[1] + _BESIDE_M:
        return None
    middle, across = (start + goal)[:2] / 2, np.array([-along[1], along[0]]) / length
    ends = [middle + side * (WALL_HALF_M[0] + _PASSAGE_M) * across for side in (-1.0, 1.0)]
    inside = [bool(np.all(end >= workspace.lower[:2]) and np.all(end <= workspace.upper[:2])) for end in ends]
    if not any(inside):
        return None
    return Zone((float(middle[0]), float(middle[1])), WALL_HALF_M, float(np.arctan2(across[1], across[0])))


def zones_text(zones: tuple[Zone, ...]) -> str:
    """The planner's parameter ``zones``."""
    return json.dumps([{"centre": list(zone.centre), "half": list(zone.half), "yaw": zone.yaw} for zone in zones])


def clearance_m(zone: Zone, tool_path: NDArray[np.float64]) -> float:
    """Least distance in m of the true tool path ``(N, 3)``, straight from point to point, from the zone; negative where it went inside."""
    if not len(tool_path):
        return float("inf")
    between = np.linspace(tool_path[:-1], tool_path[1:], _POINTS_BETWEEN).reshape(-1, tool_path.shape[1])
    return float(zone.signed_distance(np.concatenate([tool_path, between])).min())
