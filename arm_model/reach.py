"""How far a joint can carry a point of the arm: Lipschitz bounds of distances in joint motion, from the URDF alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from arm_model.description import ArmDescription, ArmError
from arm_model.urdf import collision_shapes, full_model, locked_joints


class Reach:
    """For each link the metres that a radian of each joint moves its farthest point at most, in whatever posture.

    A point that hangs on a revolute joint circles about its axis with the distance from the axis as radius. Along the chain, offsets of joints add up
    at most: the offset to the next joint counts with what is perpendicular to the axis, those behind it with their whole length, the shape with the
    sphere about its bounding box. A prismatic joint moves a point by its own motion: 1.

    Raises:
        ArmError: the URDF cannot be read or lacks a frame.
    """

    def __init__(self, arm: ArmDescription) -> None:
        full = full_model(arm)
        self._model, (shapes,) = pin.buildReducedModel(full, [collision_shapes(arm, full)], locked_joints(arm, full), pin.neutral(full))
        self._links: dict[str, NDArray[np.float64]] = {}
        for shape in shapes.geometryObjects:
            shape.geometry.computeLocalAABB()
            centre = shape.placement.act(np.asarray(shape.geometry.aabb_center, dtype=np.float64))
            reach = self._of_ball(int(shape.parentJoint), centre, float(shape.geometry.aabb_radius))
            name = self._model.frames[shape.parentFrame].name
            self._links[name] = np.maximum(reach, self._links.get(name, np.zeros_like(reach)))

    def of_link(self, name: str) -> NDArray[np.float64]:
        """``(J,) m/rad`` for the shapes of a link; zeros for what is no link of the arm or does not move."""
        return self._links.get(name, np.zeros(self._model.nv))

    def of_frame(self, name: str) -> NDArray[np.float64]:
        """``(J,) m/rad`` for the origin of a frame.

        Raises:
            ArmError: there is no such frame.
        """
        if not self._model.existFrame(name):
            raise ArmError(f"the arm has no frame '{name}'")
        frame = self._model.frames[self._model.getFrameId(name)]
        return self._of_ball(int(frame.parentJoint), np.asarray(frame.placement.translation, dtype=np.float64), 0.0)

    def of_pairs(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """``(K, J) m/rad`` for the distances of ``pairs`` of links, or of a link and an obstacle: ``|dd| <= sum_j reach_j |dq_j|``.

        A joint that carries both links changes nothing between them.
        """
        rows = np.zeros((len(pairs), self._model.nv))
        for index, (first, second) in enumerate(pairs):
            a, b = self.of_link(first), self.of_link(second)
            rows[index] = np.where((a > 0) & (b > 0), 0.0, a + b)
        return rows

    def _of_ball(self, joint: int, centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
        """Bound for every joint on the points of a ball that is fixed to ``joint``."""
        reach = np.zeros(self._model.nv)
        behind = radius  # from the origin of the joint before, how much lies beyond the point that is looked at
        point = centre
        while joint:
            mover = self._model.joints[joint]
            axis, revolute = _axis(mover.shortname())
            across = np.linalg.norm(point - axis * (axis @ point))
            # A hair more than nothing, so that what a joint carries can be told from what it does not.
            reach[mover.idx_v] = max(across + behind, 1e-9) if revolute else 1.0
            behind += float(np.linalg.norm(point))
            point = np.asarray(self._model.jointPlacements[joint].translation, dtype=np.float64)
            if not revolute:
                # What a slide can add to the distance behind it.
                behind += float(max(abs(self._model.lowerPositionLimit[mover.idx_q]), abs(self._model.upperPositionLimit[mover.idx_q])))
            joint = int(self._model.parents[joint])
        return reach


def _axis(kind: str) -> tuple[NDArray[np.float64], bool]:
    """Axis of a joint in its own frame, and whether it turns. An axis that is not a coordinate axis counts as unknown: nothing is then along it."""
    revolute = not kind.startswith("JointModelP")
    axes = {"X": 0, "Y": 1, "Z": 2}
    axis = np.zeros(3)
    if kind[-1] in axes and "Unaligned" not in kind:
        axis[axes[kind[-1]]] = 1.0
    return axis, revolute
