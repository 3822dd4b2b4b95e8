"""Where the tool is for given joints, and which joints bring it to a given point."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from arm_model.description import ArmDescription
from arm_model.urdf import full_model, locked_joints

_TOOL_DOWN = np.diag([1.0, -1.0, -1.0])
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 60
_DAMPING = 1e-4**2 * np.eye(6)
_MAX_STEP = 0.3


class UnreachableError(ValueError):
    """No joint configuration inside the limits brings the tool to the asked point."""


class Kinematics:
    """Forward and inverse kinematics of an arm whose tool points straight down, or as far to the front as the description's ``tool_pitch`` says.

    A redundant joint stays at its home angle, so that a tool point has one configuration near home and the arm looks the same whenever it returns.

    Raises:
        ArmError: the URDF cannot be read, lacks a frame, has another root, or has its joints in another order than the description.
    """

    def __init__(self, arm: ArmDescription) -> None:
        self.arm = arm
        full = full_model(arm)
        self._model = pin.buildReducedModel(full, locked_joints(arm, full), pin.neutral(full))
        self._data = self._model.createData()
        self._frame = self._model.getFrameId(arm.tool_frame)
        self._free = np.array([j for j in range(len(arm.joints)) if j != arm.held_joint])
        self._base = self._model.frames[self._model.getFrameId(arm.base_frame)].placement
        self._tilt = pin.rpy.rpyToMatrix(0.0, -arm.tool_pitch, 0.0) @ _TOOL_DOWN @ pin.rpy.rpyToMatrix(0.0, 0.0, arm.tool_yaw)

    def tool_point(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tool point ``(3,) float64, m`` in the base frame for joints ``q (J,) rad``."""
        pin.forwardKinematics(self._model, self._data, q)
        placement = pin.updateFramePlacement(self._model, self._data, self._frame)
        point: NDArray[np.float64] = self._base.actInv(placement).translation.copy()
        return point

    def tool_points(self, qs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tool points ``(N, 3)`` for joints ``qs (N, J)``."""
        return np.array([self.tool_point(q) for q in qs]).reshape(-1, 3)

    def jacobian(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Velocity of the tool by joint velocity, ``(6, J) float64``: three rows in m/rad, three in rad/rad, along the axes of the base."""
        spatial = pin.computeFrameJacobian(self._model, self._data, q, self._frame, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)
        turn = self._base.rotation.T
        return np.vstack([turn @ spatial[:3], turn @ spatial[3:]])

    def solve(self, point: NDArray[np.float64], seed: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Joints ``(J,) float64, rad`` that bring the tool to ``point (3,) m``, pointing as it should.

        Damped Gauss-Newton on the pose error (Nakamura and Hanafusa 1986) over the joints that are not held. The answer does not depend on ``seed``
        beyond the tolerance as long as the seed is near the working posture; a close seed only saves iterations.

        Raises:
            UnreachableError: it does not converge inside the joint limits.
        """
        target = self._base * pin.SE3(self._tilt, np.asarray(point, dtype=np.float64))
        q = (self.arm.home if seed is None else seed).astype(np.float64).copy()
        if self.arm.held_joint is not None:
            q[self.arm.held_joint] = self.arm.home[self.arm.held_joint]
        for _ in range(_MAX_ITERATIONS):
            pin.forwardKinematics(self._model, self._data, q)
            here = pin.updateFramePlacement(self._model, self._data, self._frame)
            error = pin.log6(here.actInv(target)).vector
            if float(error @ error) < _TOLERANCE**2:
                if np.any(q < self.arm.limits.lower) or np.any(q > self.arm.limits.upper):
                    break
                return q
            jacobian = pin.computeFrameJacobian(self._model, self._data, q, self._frame)[:, self._free]
            square = jacobian @ jacobian.T + _DAMPING
            step = jacobian.T @ np.linalg.solve(square, error)
            q[self._free] += step * min(1.0, _MAX_STEP / max(float(np.abs(step).max()), 1e-12))
        posture = "down" if self.arm.tool_pitch == 0 else "tilted as described"
        raise UnreachableError(f"tool point {np.round(point, 3).tolist()} m cannot be reached with the tool {posture} inside the joint limits")
