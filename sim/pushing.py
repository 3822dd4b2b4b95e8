"""A scripted pusher: round the block to its far side, then straight at the goal. It knows the state: a teacher and an oracle, never a controller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.arm_world import BLOCK_HALF_M

_HALF_M = BLOCK_HALF_M[0]
_DIAGONAL_M = _HALF_M * 1.42
_ARRIVED_M = 0.008
_STANDOFF_M = _HALF_M + 0.045


def behind(block: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The tool point ``(2,)`` from which the block ``(2,)`` is pushed straight at ``goal (2,)``."""
    ahead = (goal - block) / np.linalg.norm(goal - block)
    point: NDArray[np.float64] = block - ahead * _STANDOFF_M
    return point


def push_towards(tool: NDArray[np.float64], block: NDArray[np.float64], goal: NDArray[np.float64], step_m: float) -> NDArray[np.float64]:
    """Action ``(2,)`` in units of ``step_m`` that brings the block ``(2,)`` nearer to ``goal (2,)`` with the tool at ``tool (2,)``, all in m."""
    to_goal = goal - block
    left = float(np.linalg.norm(to_goal))
    if left < _ARRIVED_M:
        return np.zeros(2)
    ahead = to_goal / left
    side = np.array([-ahead[1], ahead[0]])
    relative = tool - block
    along, across = float(relative @ ahead), float(relative @ side)
    if along < -_HALF_M and abs(across) < 0.02:
        move = ahead * (min(left, step_m) if left < 0.03 else min(left + 0.02, step_m)) - 0.6 * across * side
    elif along > -(_HALF_M + 0.02) and abs(across) < _DIAGONAL_M + 0.025:
        # Beside or before the block: swing out sideways before going back.
        clear = block + side * (np.sign(across) or 1.0) * (_DIAGONAL_M + 0.05) + ahead * (0.6 * min(along, 0.08) - 0.04)
        move = clear - tool
    else:
        move = block - ahead * _STANDOFF_M - tool
    length = float(np.linalg.norm(move))
    return move / max(length, step_m)
