"""PyBullet as a witness of what was commanded: distances between shapes, and where the tool is. It shares no geometry code with the guardrail.

PyBullet rounds convex hulls and boxes by a millimetre on every side, so its distances between two of them are up to 2 mm smaller than true ones;
:data:`ROUNDING_M` says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import numpy as np
import pybullet
from numpy.typing import NDArray
from pybullet_utils.bullet_client import BulletClient

from arm_model import ArmDescription, Scene
from arm_model.scene import Box, Capsule, HalfSpace, Obstacle, Sphere
from arm_model.urdf import resolved_urdf
from sim.silence import silenced

ROUNDING_M = 0.002
# Farther than this PyBullet is not asked; a distance is then known to be at least as much.
FAR_M = 0.1

F64 = NDArray[np.float64]


class OracleError(ValueError):
    """An arm or a scene that the oracle cannot be built from, with the reason in one line."""


class Oracle:
    """An arm and a scene in a PyBullet of its own.

    Raises:
        OracleError: the URDF lacks a joint or the tool's frame.
    """

    def __init__(self, arm: ArmDescription, scene: Scene) -> None:
        with silenced(1, 2):
            self._client = BulletClient(pybullet.DIRECT)
            with tempfile.NamedTemporaryFile("w", suffix=".urdf") as copy:
                copy.write(resolved_urdf(arm.urdf))
                copy.flush()
                self._arm = int(self._client.loadURDF(copy.name, useFixedBase=True))
        self._links = {self._client.getBodyInfo(self._arm)[0].decode(): -1}
        joints: dict[str, int] = {}
        for index in range(self._client.getNumJoints(self._arm)):
            info = self._client.getJointInfo(self._arm, index)
            joints[info[1].decode()] = index
            self._links[info[12].decode()] = index
        missing = [name for name in (*arm.joints, arm.tool_frame) if name not in joints and name not in self._links]
        if missing:
            raise OracleError(f"{arm.urdf} has no {', '.join(missing)}")
        self._joints = [joints[name] for name in arm.joints]
        self._tool = self._links[arm.tool_frame]
        self._obstacles = {obstacle.name: self._place(obstacle) for obstacle in scene.obstacles}

    def close(self) -> None:
        """Let go of PyBullet's memory."""
        self._client.disconnect()

    def stand(self, q: F64) -> None:
        """Put the joints at ``q (J,) rad``."""
        for joint, angle in zip(self._joints, q.tolist(), strict=True):
            self._client.resetJointState(self._arm, joint, angle)

    def distances(self, pairs: Sequence[tuple[str, str]]) -> F64:
        """Distances in m of pairs of links, or of a link and an obstacle, where the arm stands; ``FAR_M`` for what is farther."""
        found = np.full(len(pairs), FAR_M)
        for index, (first, second) in enumerate(pairs):
            if second in self._obstacles:
                points = self._client.getClosestPoints(self._arm, self._obstacles[second], FAR_M, linkIndexA=self._links[first])
            else:
                points = self._client.getClosestPoints(self._arm, self._arm, FAR_M, linkIndexA=self._links[first], linkIndexB=self._links[second])
            found[index] = min((point[8] for point in points), default=FAR_M)
        return found

    def tool_point(self) -> F64:
        """Where the tool is, ``(3,) m``."""
        state = self._client.getLinkState(self._arm, self._tool, computeForwardKinematics=True)
        return np.array(state[4], dtype=np.float64)

    def _place(self, obstacle: Obstacle) -> int:
        shape = obstacle.shape
        client = self._client
        xyz, turn = list(obstacle.xyz), client.getQuaternionFromEuler(obstacle.rpy)
        if isinstance(shape, Box):
            collision = client.createCollisionShape(pybullet.GEOM_BOX, halfExtents=[edge / 2 for edge in shape.size])
        elif isinstance(shape, Sphere):
            collision = client.createCollisionShape(pybullet.GEOM_SPHERE, radius=shape.radius)
        elif isinstance(shape, Capsule):
            collision = client.createCollisionShape(pybullet.GEOM_CAPSULE, radius=shape.radius, height=shape.length)
        elif isinstance(shape, HalfSpace):
            collision = client.createCollisionShape(pybullet.GEOM_PLANE, planeNormal=list(shape.normal))
            xyz = [component * shape.offset for component in shape.normal]
        else:
            raise OracleError(f"obstacle '{obstacle.name}' is a {type(shape).__name__}, which PyBullet does not know")
        return int(client.createMultiBody(0.0, collision, basePosition=xyz, baseOrientation=turn))
