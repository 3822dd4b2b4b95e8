"""What a scripted planner proposes: joints that sway, dive or fold. No ROS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# How far and how fast each joint goes to and fro: rad, rad/s of the phase. A rush asks for more than the guardrail allows.
_SWAYS = {"sway": (0.15, 3.0), "rush": (0.4, 4.0)}
_HORIZON_S, _SPACING_S = 0.6, 0.05
# From home towards the end of a joint's range and back: the table for some joints, the arm's own links for others.
_REACHES: dict[str, tuple[float, ...]] = {
    "dive": (0.0, 1.4, 0.0, 0.3, 0.0, 0.2, 0.0),
    "fold": (0.0, -0.3, 0.0, -0.8, 0.0, -1.9, 0.0),
    "outside": (1.2, 0.9, 0.0, 1.2, 0.0, 0.0, 0.0),
}
MOTIONS = (*_SWAYS, *_REACHES)
_REACH_PERIOD_S = 6.0


def motion_at(motion: str, home: NDArray[np.float64], times_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions ``(N, J) rad`` and velocities ``(N, J) rad/s`` of ``motion`` at ``times_s (N,)``.

    ``sway`` and ``rush`` move each joint with another phase, so that at no time all of them stand still; the others go out and back along a cosine.

    Raises:
        ValueError: an unknown motion, or one that is made for seven joints and another arm.
    """
    if motion in _SWAYS:
        far, fast = _SWAYS[motion]
        phase = fast * times_s[:, None] + np.arange(home.size)
        positions: NDArray[np.float64] = home + far * np.sin(phase)
        velocities: NDArray[np.float64] = far * fast * np.cos(phase)
        return positions, velocities
    if motion not in _REACHES or len(_REACHES[motion]) != home.size:
        raise ValueError(f"no motion '{motion}' for {home.size} joints; choose one of {', '.join(MOTIONS)}")
    turn = 2.0 * np.pi / _REACH_PERIOD_S
    reach = np.array(_REACHES[motion])
    return home + np.outer(0.5 - 0.5 * np.cos(turn * times_s), reach), np.outer(0.5 * turn * np.sin(turn * times_s), reach)


def plan_times() -> NDArray[np.float64]:
    """Times ``(N,) s`` of the points of a plan after its stamp."""
    return np.arange(0.0, _HORIZON_S + 1e-9, _SPACING_S, dtype=np.float64)
