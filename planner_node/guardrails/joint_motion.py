"""How fast a tool path makes the joints move, and how fast their speed changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from planner_node.guardrails.guardrail import SAMPLES_PER_STEP
from planner_node.guardrails.joint_map import JointMap
from planner_node.guardrails.tool_speed import rates

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class JointVelocityGuardrail:
    """No joint moves faster than ``limit (J,) rad/s``. Margin in rad: what is left of the angle that the limit allows in a step of ``period_s``.

    The map's doubt about how far joints go for a way of the tool counts as speed.
    """

    map: JointMap
    limit: F64
    period_s: float
    name: str = "joint_velocity"
    timed: ClassVar[bool] = True

    def margins(self, path: F64) -> F64:
        """Margin in rad, ``(..., S)``."""
        tool_speed = np.linalg.norm(rates(path, self.period_s), axis=-1, keepdims=True)
        speed = np.abs(rates(self.map.at(path), self.period_s)) + self.map.slope_doubt * tool_speed
        margin: F64 = self.period_s * (self.limit - speed).min(-1)
        return margin


@dataclass(frozen=True)
class JointAccelerationGuardrail:
    """From one step of ``period_s`` to the next, no joint's mean velocity changes faster than ``limit (J,) rad/s^2``. Margin in rad, over a step.

    The corner between two steps is rounded before it is sent, over a step at most; the exact motion is for the shield to bound.
    """

    map: JointMap
    limit: F64
    period_s: float
    name: str = "joint_acceleration"
    timed: ClassVar[bool] = True

    def margins(self, path: F64) -> F64:
        """Margin in rad, ``(..., S)``, the same for all points of a step; the first step has nothing before it."""
        margin = np.full(path.shape[:-1], 0.5 * self.period_s**2 * float(self.limit.min()))
        steps = path.shape[-2] // SAMPLES_PER_STEP
        if steps < 2:
            return margin
        ends = self.map.at(path[..., SAMPLES_PER_STEP - 1 :: SAMPLES_PER_STEP, :])
        first = self.map.at(path[..., :1, :])
        # Within the first step there is one sample before its end that is known: its velocity is taken from there.
        begun = (ends[..., :1, :] - first) * (SAMPLES_PER_STEP / (SAMPLES_PER_STEP - 1))
        moved = np.concatenate([begun, np.diff(ends, axis=-2)], axis=-2) / self.period_s
        change = np.abs(np.diff(moved, axis=-2)) / self.period_s
        left = 0.5 * self.period_s**2 * (self.limit - change).min(-1)
        margin[..., SAMPLES_PER_STEP : steps * SAMPLES_PER_STEP] = np.repeat(left, SAMPLES_PER_STEP, axis=-1)
        return margin
