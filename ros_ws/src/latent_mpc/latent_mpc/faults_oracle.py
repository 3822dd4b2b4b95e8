"""PyBullet as the independent judge of where the arm was sent: it shares neither model nor code with the guardrail."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import numpy as np
import pybullet
import pybullet_data
from numpy.typing import NDArray
from pybullet_utils.bullet_client import BulletClient

from arm_model import ArmDescription, load_arm
from latent_mpc.faults_recording import Sent
from sim.arm_world import TABLE_CENTRE_M, TABLE_HALF_M
from sim.silence import silenced

_FAR_M = 0.3
# Joint angles closer to each other than this share one look.
_GRID_RAD = 2e-3
_NEIGHBOURS = 2


class Oracle:
    """The arm over its table in PyBullet. Use as a context manager."""

    def __init__(self, arm: ArmDescription | None = None) -> None:
        arm = arm or load_arm()
        with silenced(1):
            self._client = client = BulletClient(pybullet.DIRECT)
        with tempfile.NamedTemporaryFile("w", suffix=".urdf") as copy:
            copy.write(arm.urdf.read_text().replace("package://pybullet_data", pybullet_data.getDataPath()))
            copy.flush()
            self._body = int(client.loadURDF(copy.name, useFixedBase=True))
        infos = [client.getJointInfo(self._body, index) for index in range(client.getNumJoints(self._body))]
        self._names = {-1: arm.base_frame} | {index: info[12].decode() for index, info in enumerate(infos)}
        self._joints = [next(index for index, info in enumerate(infos) if info[1].decode() == name) for name in arm.joints]
        self._tool = next(index for index, name in self._names.items() if name == arm.tool_frame)
        shape = client.createCollisionShape(pybullet.GEOM_BOX, halfExtents=TABLE_HALF_M)
        self._table = int(client.createMultiBody(0.0, shape, -1, TABLE_CENTRE_M))
        parents = {index: int(info[16]) for index, info in enumerate(infos)}
        shaped = [index for index in self._names if client.getCollisionShapeData(self._body, index)]
        behind = {index: self._joints_behind(index, parents) for index in shaped}
        # Neighbours touch by design, and links with no driven joint between them, such as hand and stick, are one body.
        self._pairs = [(a, b) for a in shaped for b in shaped if a < b and len(behind[a] ^ behind[b]) > _NEIGHBOURS]
        # Links that hardly move over the table where the arm stands are not asked how far they are from it.
        self._over_table = [index for index in shaped if len(behind[index]) > _NEIGHBOURS]

    def _joints_behind(self, link: int, parents: dict[int, int]) -> frozenset[int]:
        """The driven joints between the base and ``link``."""
        found = set()
        while link != -1:
            found |= {link} & set(self._joints)
            link = parents[link]
        return frozenset(found)

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()

    def _put(self, q: NDArray[np.float64]) -> None:
        for joint, angle in zip(self._joints, q, strict=True):
            self._client.resetJointState(self._body, joint, float(angle))

    def least_distance(self, commands: Sequence[Sent]) -> tuple[float, str]:
        """Least distance in m between two links that are not neighbours, or a link and the table, over all published points; and which it was."""
        return min((self.distance(q) for q in _points(commands)), default=(float("inf"), "no commands"))

    def distance(self, q: NDArray[np.float64]) -> tuple[float, str]:
        """The same for one configuration ``q (J,) rad``; 0.3 m stands for anything beyond."""
        self._put(q)
        least = (_FAR_M, "nothing near")
        for a, b in self._pairs:
            for contact in self._client.getClosestPoints(self._body, self._body, _FAR_M, a, b):
                least = min(least, (float(contact[8]), f"{self._names[a]}, {self._names[b]}"))
        for link in self._over_table:
            for contact in self._client.getClosestPoints(self._body, self._table, _FAR_M, link, -1):
                least = min(least, (float(contact[8]), f"{self._names[link]}, table"))
        return least

    def least_inside(self, commands: Sequence[Sent], lower: Sequence[float], upper: Sequence[float]) -> float:
        """How far inside the box ``lower (3,)`` .. ``upper (3,) m`` the tool point stays at all published points; negative outside."""
        tools = np.array([self.tool(q) for q in _points(commands)]).reshape(-1, 3)
        return float(np.minimum(tools - np.asarray(lower), np.asarray(upper) - tools).min()) if len(tools) else float("-inf")

    def lowest_tool(self, commands: Sequence[Sent]) -> float:
        """Least height of the tool point above the table, m."""
        return min((self.tool(q)[2] for q in _points(commands)), default=float("-inf"))

    def tool(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Tool point ``(3,) m`` for ``q (J,) rad``."""
        self._put(q)
        return np.array(self._client.getLinkState(self._body, self._tool, computeForwardKinematics=1)[4])


def _points(commands: Sequence[Sent]) -> NDArray[np.float64]:
    """Distinct configurations ``(N, J)`` of all points of all commands."""
    if not commands:
        return np.empty((0, 0))
    rows = np.concatenate([command.positions for command in commands])
    _, first = np.unique(np.round(rows / _GRID_RAD).astype(np.int64), axis=0, return_index=True)
    return np.asarray(rows[first])
