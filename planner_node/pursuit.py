"""A tool that cannot change its velocity at once: it pursues the planned path a little ahead of itself, with bounded acceleration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep


@dataclass(frozen=True)
class PursuitConfig:
    """The tool heads for where the plan is ``lookahead_s`` later (pure pursuit, Coulter 1992), accelerates by at most ``acceleration`` m/s^2,
    and is given ``settle_s`` after the plan's last point to come to rest. Joints that turn a corner at once saturate and leave the path.
    """

    lookahead_s: float = 0.1
    acceleration: float = 2.5
    settle_s: float = 0.3
    cycle_s: float = 0.01


def pursue(
    points: NDArray[np.float64],
    tool_step: ToolStep,
    start: NDArray[np.float64],
    velocity: NDArray[np.float64],
    config: PursuitConfig,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Follow planned ``points (H+1, 3) m``, a step's period apart, from ``start (3,) m`` at ``velocity (3,) m/s``.

    Returns:
        Times ``(T,) s`` every ``cycle_s`` and tool points ``(T, 3) m``; the tool stays inside the workspace.
    """
    knots = np.arange(len(points)) * tool_step.period_s
    times: NDArray[np.float64] = np.arange(0.0, knots[-1] + config.settle_s + 0.5 * config.cycle_s, config.cycle_s)
    ahead = np.stack([np.interp(times + config.lookahead_s, knots, points[:, axis]) for axis in range(3)], axis=1)
    tools = np.empty((len(times), 3))
    tools[0], speed = start, velocity
    most = config.acceleration * config.cycle_s
    for k in range(1, len(times)):
        change = (ahead[k - 1] - tools[k - 1]) / config.lookahead_s - speed
        length = math.sqrt(change.dot(change))  # as np.linalg.norm, to the bit, at a third of its price
        speed = speed + change * min(1.0, most / max(length, 1e-12))
        tools[k] = tool_step.clamp(tools[k - 1] + speed * config.cycle_s)
    return times, tools
