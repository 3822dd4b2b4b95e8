"""The physical scene: an arm at a table, with or without a block, in PyBullet."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pybullet
import pybullet_data
from numpy.typing import NDArray
from pybullet_utils.bullet_client import BulletClient

from arm_model import ArmDescription
from sim.appearance import NOMINAL, Appearance, Distractor
from sim.silence import silenced

PHYSICS_STEP_S = 0.005
# Share of the joint error that one physics step closes: the arm follows its set point about 20 ms behind, as a stiff joint controller does.
_POSITION_GAIN = 0.2
_SOLVER_ITERATIONS = 30
# With the URDF's own efforts a set point that jumps by 0.02 rad saturates motors, and PyBullet's saturated motors may throw the arm about
# without end. Motion that saturates nothing is the same with any headroom, bit for bit.
_EFFORT_HEADROOM = 20.0

TABLE_CENTRE_M = (0.55, 0.0, -0.05)
TABLE_HALF_M = (0.35, 0.45, 0.05)
BLOCK_HALF_M = (0.045, 0.045, 0.03)
_BLOCK_MASS_KG = 0.1
_BLOCK_FRICTION = 0.5


@dataclass(frozen=True)
class BlockPose:
    """Block centre in m and yaw in rad, flat on the table."""

    x: float
    y: float
    yaw: float


class ArmWorld:
    """An arm, a table and, if asked for, a block. One instance owns one PyBullet client."""

    def __init__(self, arm: ArmDescription, block: bool, gui: bool = False) -> None:
        self.arm = arm
        with silenced(1):
            self.client = BulletClient(pybullet.GUI if gui else pybullet.DIRECT)
        client = self.client
        client.setAdditionalSearchPath(pybullet_data.getDataPath())
        client.setGravity(0.0, 0.0, -9.81)
        client.setTimeStep(PHYSICS_STEP_S)
        client.setPhysicsEngineParameter(numSolverIterations=_SOLVER_ITERATIONS)
        self._body = self._load(arm.urdf)
        indices = {client.getJointInfo(self._body, i)[1].decode(): i for i in range(client.getNumJoints(self._body))}
        self._joints = [indices[name] for name in arm.joints]
        self._efforts = [_EFFORT_HEADROOM * client.getJointInfo(self._body, i)[10] for i in self._joints]
        links = {client.getJointInfo(self._body, i)[12].decode(): i for i in range(client.getNumJoints(self._body))}
        self._tool_link = links[arm.tool_frame]
        self._link_rgba = {shape[1]: shape[7] for shape in client.getVisualShapeData(self._body)}
        self._table = self._box(TABLE_HALF_M, NOMINAL.table_rgb, TABLE_CENTRE_M, mass=0.0)
        for link in range(-1, client.getNumJoints(self._body)):
            client.setCollisionFilterPair(self._body, self._table, link, -1, 0)
        self._has_block = block
        self._block: int | None = None
        self._distractor: int | None = None
        self._appearance = NOMINAL
        self._pristine = client.saveState()

    def _load(self, urdf: Path) -> int:
        # PyBullet knows no package paths: it gets a copy with the meshes' absolute ones.
        with tempfile.NamedTemporaryFile("w", suffix=".urdf") as copy:
            copy.write(urdf.read_text().replace("package://pybullet_data", pybullet_data.getDataPath()))
            copy.flush()
            return int(self.client.loadURDF(copy.name, useFixedBase=True))

    def _box(self, half: tuple[float, float, float], rgb: tuple[float, float, float], centre: tuple[float, float, float], mass: float) -> int:
        shape = self.client.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half)
        visual = self.client.createVisualShape(pybullet.GEOM_BOX, halfExtents=half, rgbaColor=(*rgb, 1.0))
        return int(self.client.createMultiBody(mass, shape, visual, centre))

    def appear(self, appearance: Appearance) -> None:
        """Give arm and table the colours of ``appearance``; block and distractor follow with the next ``place``."""
        self._appearance = appearance
        for link, rgba in self._link_rgba.items():
            tinted = np.clip(np.multiply(rgba[:3], appearance.arm_tint), 0.0, 1.0)
            self.client.changeVisualShape(self._body, link, rgbaColor=(*tinted.tolist(), rgba[3]))
        self.client.changeVisualShape(self._table, -1, rgbaColor=(*appearance.table_rgb, 1.0))

    def _distract(self, distractor: Distractor) -> int:
        half = distractor.half_m
        visual = self.client.createVisualShape(pybullet.GEOM_BOX, halfExtents=(half, half, half), rgbaColor=(*distractor.rgb, 1.0))
        orientation = self.client.getQuaternionFromEuler([0.0, 0.0, distractor.yaw])
        return int(self.client.createMultiBody(0.0, -1, visual, (distractor.x, distractor.y, half), orientation))

    def place(self, q: NDArray[np.float64], block: BlockPose | None) -> None:
        """Put the arm at ``q (J,) rad`` and the block at ``block``, both at rest. The same placement gives the same future, bit for bit."""
        # Contact caches of an earlier episode would leak into this one: the old block goes, with all that the solver remembers of it.
        for body in (self._block, self._distractor):
            if body is not None:
                self.client.removeBody(body)
        self._block = self._distractor = None
        self.client.restoreState(self._pristine)
        for joint, angle in zip(self._joints, q, strict=True):
            self.client.resetJointState(self._body, joint, float(angle), 0.0)
        if self._has_block and block is not None:
            self._block = self._box(BLOCK_HALF_M, self._appearance.block_rgb, (block.x, block.y, BLOCK_HALF_M[2]), mass=_BLOCK_MASS_KG)
            self.client.changeDynamics(self._block, -1, lateralFriction=_BLOCK_FRICTION)
            orientation = self.client.getQuaternionFromEuler([0.0, 0.0, block.yaw])
            self.client.resetBasePositionAndOrientation(self._block, [block.x, block.y, BLOCK_HALF_M[2]], orientation)
        if self._appearance.distractor is not None:
            self._distractor = self._distract(self._appearance.distractor)
        self.command(q)

    def command(self, q: NDArray[np.float64], velocity: NDArray[np.float64] | None = None) -> None:
        """Set the joint set points ``q (J,) rad``, with a feed-forward ``velocity (J,) rad/s`` where there is one."""
        self.client.setJointMotorControlArray(
            self._body,
            self._joints,
            pybullet.POSITION_CONTROL,
            targetPositions=q.tolist(),
            targetVelocities=[0.0] * len(q) if velocity is None else velocity.tolist(),
            forces=self._efforts,
            positionGains=[_POSITION_GAIN] * len(q),
            velocityGains=[1.0] * len(q),
        )

    def advance(self, steps: int = 1) -> None:
        """Let ``steps`` physics steps of ``PHYSICS_STEP_S`` pass."""
        for _ in range(steps):
            self.client.stepSimulation()

    def joints(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Measured positions ``(J,) rad`` and velocities ``(J,) rad/s``."""
        states = self.client.getJointStates(self._body, self._joints)
        return np.array([s[0] for s in states]), np.array([s[1] for s in states])

    def tool(self) -> NDArray[np.float64]:
        """True tool point ``(3,) m``."""
        return np.array(self.client.getLinkState(self._body, self._tool_link, computeForwardKinematics=1)[4])

    def block(self) -> BlockPose | None:
        """True block pose, or None in a scene without a block."""
        if self._block is None:
            return None
        position, orientation = self.client.getBasePositionAndOrientation(self._block)
        return BlockPose(float(position[0]), float(position[1]), float(self.client.getEulerFromQuaternion(orientation)[2]))

    # What cannot happen by itself: for the evaluation of surprise only. The next ``place`` undoes it.

    def move_block(self, block: BlockPose) -> None:
        """Put the block elsewhere at once, at rest; the arm goes on."""
        if self._block is not None:
            orientation = self.client.getQuaternionFromEuler([0.0, 0.0, block.yaw])
            self.client.resetBasePositionAndOrientation(self._block, [block.x, block.y, BLOCK_HALF_M[2]], orientation)
            self.client.resetBaseVelocity(self._block, [0.0] * 3, [0.0] * 3)

    def remove_block(self) -> None:
        """Take the block away at once."""
        if self._block is not None:
            self.client.removeBody(self._block)
            self._block = None

    def colour_block(self, rgb: tuple[float, float, float]) -> None:
        """Give the block another colour, each part in [0, 1]."""
        if self._block is not None:
            self.client.changeVisualShape(self._block, -1, rgbaColor=[*rgb, 1.0])

    def close(self) -> None:
        """Disconnect from PyBullet."""
        if self.client.isConnected():
            self.client.disconnect()


def stock_arm() -> BulletClient:
    """A client with nothing but the Panda as pybullet_data draws it, visual meshes and all: what rendering costs without our simplification."""
    with silenced(1):
        client = BulletClient(pybullet.DIRECT)
    client.loadURDF(str(Path(pybullet_data.getDataPath()) / "franka_panda" / "panda.urdf"), useFixedBase=True)
    return client
