"""What stands around the arm, as the shield asks about it: may it stand here, should it be steered aside, is its stop clear."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from arm_model import ArmDescription, CollisionModel, JointLimits, Scene
from arm_model.reach import Reach
from arm_model.tool_frame import ToolFrame
from planner_node.barrier import Barrier, BarrierConfig
from planner_node.clearance import AllMargins, CollisionMargins, Margins, MarginSource, WorkspaceMargins
from planner_node.stop_check import SpeedLimit, StopCheck
from planner_node.workspace import Workspace

F64 = NDArray[np.float64]

# Share of the tool's speed limit that the filter aims at, so that the check behind it seldom has to refuse.
_AIMED = 0.95
# rad that all joints together may have moved since gradients were taken, for them to say that nothing is to be done; margins are then good to a
# millimetre or two. They never say more than that: to bend the motion they are taken anew, and the stop is checked without them.
_STALE_RAD = 0.04
# Share of the wished velocity that is left where nothing of the buffer is.
_SLOWEST = 0.05
# 1/s: how fast a filtered arm closes in on the place where its plan wants it.
_CATCH_UP = 10.0


@dataclass(frozen=True)
class SurroundingsConfig:
    """``collision_margin_m`` between any two checked shapes; ``tool_speed`` m/s of the tool point at most, 0 for no limit; and the filter."""

    collision_margin_m: float = 0.01
    tool_speed: float = 0.0
    barrier: BarrierConfig = field(default_factory=BarrierConfig)


@dataclass(frozen=True)
class Steering:
    """``velocity (J,) rad/s`` to take instead of the wished motion; None when that is fine as it is, or when ``blocked`` says why nothing is."""

    velocity: F64 | None = None
    blocked: str = ""


class Surroundings:
    """Margins, filter and stop check of one arm. Not to be shared between threads."""

    def __init__(self, source: MarginSource, barrier: Barrier, limits: JointLimits, cycle_s: float, speed: SpeedLimit | None = None) -> None:
        self.check = StopCheck(source, cycle_s, speed)
        self._source = source
        self._barrier = barrier
        self._limits = limits
        self._speed = speed
        self._near: Margins | None = None
        self._bent = False

    def lowest(self, q: F64) -> tuple[float, str]:
        """The smallest margin at ``q (J,)`` in m and what it is between, measured now; infinite when nothing is watched."""
        margins = self.check.measure(q)
        if not margins.size:
            return np.inf, ""
        return float(margins.min()), self._source.names[int(np.argmin(margins))]

    def steer(self, position: F64, step_velocity: F64, target_position: F64, target_velocity: F64) -> Steering:
        """What to do at ``position`` where the next step would have, or lead to, ``step_velocity`` on the way to the target; all ``(J,)``.

        Gradients are only asked for when reach cannot rule out that a barrier is passed too fast.
        """
        fastest = np.abs(step_velocity)
        fast = self._speed is not None and float(self._speed.reach.dot(fastest)) > self._speed.limit
        fast = fast and self._tool_speed(position, step_velocity) > _AIMED * (self._speed.limit if self._speed else np.inf)
        # Motion that had to be bent just now mostly has to be again.
        look, self._bent = fast or self._bent, False
        if not look and self._free(position, step_velocity):
            return Steering()
        lowest, near_m = self.check.lowest_at(position), self._barrier.config.near_m
        if not look and all((self._source.reach.dot(fastest) <= -self._barrier.floor(lowest)).tolist()):
            # No joint motion that fast could pass a barrier, by reach and what was measured last.
            return Steering()
        # Whoever is known to be farther has no say.
        near = self._near = self._source.near(position, near_m, (~(lowest >= near_m)).nonzero()[0])
        self.check.know(position, np.maximum(lowest, near.lowest))
        margins = near.lowest.take(near.indices)
        if not fast and all((near.gradients.dot(step_velocity) >= self._barrier.floor(margins)).tolist()):
            return Steering()
        self._bent = True
        wished = self._scaled(position, target_velocity + _CATCH_UP * (target_position - position))
        if margins.size:
            # Inside the buffer out comes before along: fast along what is that close, every step but the first would be refused.
            wished *= min(1.0, max(_SLOWEST, float(margins[margins.argmin()]) / self._barrier.config.buffer_m))
        velocity = self._barrier.filtered(wished, position, margins, near.gradients)
        return Steering(velocity) if velocity is not None else Steering(blocked="no velocity keeps away from what is near")

    def _free(self, position: F64, velocity: F64) -> bool:
        """Whether gradients that were taken close by show no barrier that is passed too fast."""
        near = self._near
        if near is None:
            return False
        moved = position - near.q
        if float(np.abs(moved).sum()) > _STALE_RAD:
            return False
        floor = self._barrier.floor(near.lowest.take(near.indices) + near.gradients.dot(moved))
        return all((near.gradients.dot(velocity) >= floor).tolist())

    def _scaled(self, position: F64, velocity: F64) -> F64:
        """``velocity`` slowed down as a whole, so that the direction stays, until joints and tool may have it."""
        fastest = np.abs(velocity)
        share: float = min((self._limits.velocity / np.maximum(fastest, self._limits.velocity)).tolist())
        # Only where reach cannot rule out that the tool is too fast.
        if self._speed is not None and not share * float(self._speed.reach.dot(fastest)) <= _AIMED * self._speed.limit:
            tool_speed = share * self._tool_speed(position, velocity)
            share *= min(1.0, _AIMED * self._speed.limit / max(tool_speed, 1e-9))
        return share * velocity

    def _tool_speed(self, position: F64, velocity: F64) -> float:
        if self._speed is None:
            return 0.0
        tool_velocity = self._speed.tool.jacobian(position).dot(velocity)
        return sqrt(tool_velocity.dot(tool_velocity))


def surroundings_of(
    arm: ArmDescription, limits: JointLimits, scene: Scene, workspace: Workspace, config: SurroundingsConfig, cycle_s: float
) -> Surroundings:
    """The surroundings of ``arm`` in ``scene``: every pair of shapes that is not allowed to touch, the workspace of its tool, and its tool's speed.

    Raises:
        ArmError: the arm's URDF cannot be read, or an allowed pair names no link.
    """
    reach, tool = Reach(arm), ToolFrame(arm)
    tool_reach = reach.of_frame(arm.tool_frame)
    model = CollisionModel(arm, scene)
    sources: list[MarginSource] = [CollisionMargins(model, reach.of_pairs(model.pairs), config.collision_margin_m)]
    if workspace.names:
        sources.append(WorkspaceMargins(tool, tool_reach, workspace))
    speed = SpeedLimit(tool, tool_reach, config.tool_speed) if config.tool_speed > 0 else None
    return Surroundings(AllMargins(sources, len(arm.joints)), Barrier(config.barrier, limits), limits, cycle_s, speed)
