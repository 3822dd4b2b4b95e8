"""Where the tool is for given joints, and which joints bring it to a given point."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from arm_model.description import ArmDescription, ArmError

_TOOL_DOWN = np.diag([1.0, -1.0, -1.0])
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 60
_DAMPING = 1e-4
_MAX_STEP = 0.3


class UnreachableError(ValueError):
    """No joint configuration inside the limits brings the tool to the asked point."""


class Kinematics:
    """Forward and inverse kinematics of an arm whose tool points straight down.

    The redundant joint stays at its home angle, so that a tool point has one configuration near home and the arm looks the same whenever it returns.

    Raises:
        ArmError: the URDF cannot be read, lacks a frame, has another root, or has its joints in another order than the description.
    """

    def __init__(self, arm: ArmDescription) -> None:
        self.arm = arm
        try:
            full = pin.buildModelFromUrdf(str(arm.urdf))
        except (RuntimeError, ValueError) as error:
            raise ArmError(f"{arm.urdf} is not a URDF: {' '.join(str(error).split())}") from error
        for frame in (arm.base_frame, arm.tool_frame):
            if not full.existFrame(frame):
                raise ArmError(f"{arm.urdf} has no frame '{frame}'")
        if full.frames[full.getFrameId(arm.base_frame)].parentJoint != 0:
            raise ArmError(f"{arm.urdf}: base_frame '{arm.base_frame}' is not the root")
        locked = [full.getJointId(name) for name in full.names[1:] if name not in arm.joints]
        self._model = pin.buildReducedModel(full, locked, pin.neutral(full))
        if tuple(self._model.names[1:]) != arm.joints:
            raise ArmError(f"arm '{arm.name}': name the joints in the order of the URDF: {', '.join(self._model.names[1:])}")
        self._data = self._model.createData()
        self._frame = self._model.getFrameId(arm.tool_frame)
        self._free = np.array([j for j in range(len(arm.joints)) if j != arm.held_joint])

    def tool_point(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tool point ``(3,) float64, m`` in the base frame for joints ``q (J,) rad``."""
        pin.forwardKinematics(self._model, self._data, q)
        point: NDArray[np.float64] = pin.updateFramePlacement(self._model, self._data, self._frame).translation.copy()
        return point

    def tool_points(self, qs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tool points ``(N, 3)`` for joints ``qs (N, J)``."""
        return np.array([self.tool_point(q) for q in qs]).reshape(-1, 3)

    def solve(self, point: NDArray[np.float64], seed: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Joints ``(J,) float64, rad`` that bring the tool to ``point (3,) m``, pointing down.

        Damped Gauss-Newton on the pose error (Nakamura and Hanafusa 1986) over the joints that are not held. The answer does not depend on ``seed``
        beyond the tolerance as long as the seed is near the working posture; a close seed only saves iterations.

        Raises:
            UnreachableError: it does not converge inside the joint limits.
        """
        target = pin.SE3(_TOOL_DOWN, np.asarray(point, dtype=np.float64))
        q = (self.arm.home if seed is None else seed).astype(np.float64).copy()
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
            square = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
            step = jacobian.T @ np.linalg.solve(square, error)
            q[self._free] += step * min(1.0, _MAX_STEP / max(float(np.abs(step).max()), 1e-12))
        raise UnreachableError(
            f"tool point {np.round(target.translation, 3).tolist()} m cannot be reached with the tool down inside the joint limits"
        )
