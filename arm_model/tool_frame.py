"""Where the tool point is and how the joints move it: forward kinematics alone, for any arm."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from arm_model.description import ArmDescription
from arm_model.urdf import full_model, locked_joints


class ToolFrame:
    """The tool point of an arm in its base frame. Not to be shared between threads: a call works in buffers of its own.

    Raises:
        ArmError: the URDF cannot be read, lacks a frame, or has its joints in another order than the description.
    """

    def __init__(self, arm: ArmDescription) -> None:
        full = full_model(arm)
        self._model = pin.buildReducedModel(full, locked_joints(arm, full), pin.neutral(full))
        self._data = self._model.createData()
        self._frame = self._model.getFrameId(arm.tool_frame)
        base = self._model.frames[self._model.getFrameId(arm.base_frame)].placement
        self._turn = np.array(base.rotation).T
        self._origin = np.array(base.translation)
        self._aligned = bool(base.isIdentity())

    def point(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tool point ``(3,) float64, m`` at joints ``q (J,) rad``."""
        pin.forwardKinematics(self._model, self._data, q)
        point: NDArray[np.float64] = pin.updateFramePlacement(self._model, self._data, self._frame).translation
        return point.copy() if self._aligned else self._turn @ (point - self._origin)

    def jacobian(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Velocity of the tool point by joint velocity, ``(3, J) float64, m/rad``, at joints ``q (J,) rad``."""
        full = pin.computeFrameJacobian(self._model, self._data, q, self._frame, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED)
        jacobian: NDArray[np.float64] = full[:3] if self._aligned else self._turn @ full[:3]
        return jacobian
