"""An arm in PyBullet, loaded from nothing but its URDF: what the kinematics and the collision model are measured against."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pybullet
from pybullet_utils.bullet_client import BulletClient

from arm_model import ArmDescription
from arm_model.urdf import resolved_urdf
from sim.silence import silenced


class BulletArm:
    """One arm at a fixed base, without physics."""

    def __init__(self, arm: ArmDescription) -> None:
        self._arm = arm
        with silenced(1), silenced(2), tempfile.TemporaryDirectory() as folder:
            self.client = BulletClient(pybullet.DIRECT)
            file = Path(folder) / "arm.urdf"
            file.write_text(resolved_urdf(arm.urdf))
            self.body = self.client.loadURDF(str(file), useFixedBase=True)
        infos = [self.client.getJointInfo(self.body, i) for i in range(self.client.getNumJoints(self.body))]
        self._joints = [next(info[0] for info in infos if info[1].decode() == name) for name in arm.joints]
        self.links = {info[12].decode(): info[0] for info in infos}
        self.links[self.client.getBodyInfo(self.body)[0].decode()] = -1

    def place(self, q: np.ndarray) -> None:
        """Put the joints at ``q (J,)``."""
        for joint, angle in zip(self._joints, q, strict=True):
            self.client.resetJointState(self.body, joint, float(angle))

    def tool(self) -> np.ndarray:
        """Tool point ``(3,) m``."""
        return np.array(self.client.getLinkState(self.body, self.links[self._arm.tool_frame], computeForwardKinematics=True)[4])

    def distance(self, first: str, second: str) -> float:
        """Metres between two links, infinite beyond 1 m."""
        points = self.client.getClosestPoints(self.body, self.body, 1.0, self.links[first], self.links[second])
        return min((point[8] for point in points), default=np.inf)

    def close(self) -> None:
        """Free the client."""
        self.client.disconnect()
