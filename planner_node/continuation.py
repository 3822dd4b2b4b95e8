"""From planned tool points to joint motion that continues, without a jump, what is commanded already. ROS times in ns come in as arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arm_model import JointLimits, Kinematics, ToolStep
from planner_node.commanded import Commanded
from planner_node.guardrails.exact import PostureCheck
from planner_node.guardrails.zones_in_force import ZoneSet
from planner_node.joint_path import JointPath, resolve
from planner_node.pursuit import PursuitConfig, pursue
from planner_node.validator import require_clear

_S = 1e-9
_SPACING_S = 0.05
_PURSUIT = PursuitConfig()

Vector = NDArray[np.float64]


class Continuation:
    """What the arm is commanded to do, and how a new plan goes on from there."""

    def __init__(self, kinematics: Kinematics, limits: JointLimits, tool_step: ToolStep, posture: PostureCheck | None = None) -> None:
        self.kinematics = kinematics
        self._posture = posture
        self._limits = limits
        self._tool_step = tool_step
        self.commanded: Commanded | None = None

    def stand(self, joints: Vector, ns: int) -> None:
        """From ``ns`` on the arm is taken to be commanded where it stands, at ``joints (J,) rad``."""
        self.commanded = Commanded(joints, self._tool_step.clamp(self.kinematics.tool_point(joints)), ns)

    def strays(self, joints: Vector, ns: int, within_m: float) -> bool:
        """Whether the tool of an arm at ``joints (J,) rad`` is further than ``within_m`` from where it is commanded to be at ``ns``."""
        assert self.commanded is not None
        return float(np.linalg.norm(self.kinematics.tool_point(joints) - self.commanded.tool_at(ns))) > within_m

    def motion(self, points: Vector, switch: int, fenced: ZoneSet, clearance_m: float) -> JointPath:
        """The joints' way along planned ``points (H+1, 3) m``, from where and as fast as the tool will be at ``switch``.

        Raises:
            UnreachableError: a point has no joint configuration inside the limits.
            JointPathError: a joint would leave its limits on the way, the tool come too close to a zone, or the arm to itself or the scene.
        """
        assert self.commanded is not None
        tool, seed = self.commanded.tool_at(switch), self.commanded.joints_at(switch)
        _, tools = pursue(points, self._tool_step, tool, self.commanded.velocity_at(switch), _PURSUIT)
        require_clear(tools, fenced.zones, clearance_m, fenced.solids)
        every = round(_SPACING_S / _PURSUIT.cycle_s)
        path = resolve(tools[::every], _SPACING_S, _SPACING_S, self.kinematics, self._limits, seed)
        if self._posture is not None:
            self._posture.require_clear(path.positions)
        return path

    def follow(self, path: JointPath, stamp: int, begins: int) -> tuple[Vector, Vector, Vector]:
        """Command a path that begins at ``begins``, and give what to send: the old path from ``stamp`` on leads up to it.

        Returns:
            Times ``(P,) s`` after ``stamp``, positions ``(P, J) rad``, velocities ``(P, J) rad/s``, at rest at the end.
        """
        assert self.commanded is not None
        lead_s = (begins - stamp) * _S
        before = np.arange(0.0, lead_s - 0.5 * _SPACING_S, _SPACING_S)
        old = np.array([self.commanded.joints_at(stamp + round(1e9 * float(t))) for t in before]).reshape(-1, path.positions.shape[1])
        positions = np.concatenate([old, path.positions])
        times = np.concatenate([before, lead_s + path.times])
        velocities = np.gradient(positions, times, axis=0)
        velocities[-1] = 0.0
        self.commanded.follow(path, begins)
        return times, positions, velocities

    def adopt(self, stamp: int, times: Vector, positions: Vector, velocities: Vector) -> None:
        """Take it that something else was sent: from ``stamp`` on, ``positions (P, J) rad`` at ``times (P,) s`` are what is commanded.

        For a replay that plans again where another planner moved the arm.
        """
        assert self.commanded is not None
        points = self._tool_step.clamp(self.kinematics.tool_points(positions))
        self.commanded.follow(JointPath(times, positions, velocities, points), stamp)
