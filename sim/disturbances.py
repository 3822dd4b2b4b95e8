"""Impossible events, for the evaluation of surprise only: a block that jumps, vanishes or changes colour, a camera that freezes or is bumped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.arm_world import BLOCK_HALF_M, BlockPose
from sim.camera import Camera
from sim.tasks.pictured_goal import PicturedGoalEnv
from sim.tasks.push import BLOCK_AREA
from sim.tasks.task import Task

BLOCK_EVENTS = ("teleport", "vanish", "colour")
CAMERA_EVENTS = ("freeze", "camera")
EVENTS = (*BLOCK_EVENTS, *CAMERA_EVENTS)

_CLEAR_M = BLOCK_HALF_M[0] * 1.42 + 0.02
_DRAWS = 1000


class UnknownEventError(ValueError):
    """An event that does not exist, or that cannot happen in a task."""


@dataclass(frozen=True)
class EventSizes:
    """How large an event is, each between its two ends: teleport and camera shift in m, camera turn in degrees, least distance of a new colour."""

    teleport_m: tuple[float, float] = (0.05, 0.12)
    bump_m: tuple[float, float] = (0.01, 0.03)
    bump_deg: tuple[float, float] = (1.0, 3.0)
    least_colour: float = 0.5


def events_of(task: Task) -> tuple[str, ...]:
    """The events that can happen in ``task``."""
    return EVENTS if task.has_block else CAMERA_EVENTS


class DisturbedScene:
    """A scene as its camera shows it, to which one event may happen. ``PicturedGoalEnv.place`` and a new ``DisturbedScene`` undo it."""

    def __init__(self, env: PicturedGoalEnv, rng: np.random.Generator, sizes: EventSizes | None = None) -> None:
        self._env = env
        self._rng = rng
        self._sizes = sizes or EventSizes()
        self._camera = env.appearance.seen_by(env.task.camera)
        self._frozen: NDArray[np.uint8] | None = None
        self._newest: NDArray[np.uint8] | None = None

    def frame(self) -> NDArray[np.uint8]:
        """What the camera shows now, ``(h, w, 3) uint8``: a frozen one what it showed last."""
        if self._frozen is None:
            self._newest = self._camera.render(self._env.world.client, self._env.appearance.light)
        else:
            self._newest = self._frozen
        return self._newest

    def strike(self, event: str) -> None:
        """Let ``event`` happen now. A frozen camera keeps its last picture until ``thaw``.

        Raises:
            UnknownEventError: there is no such event in this task.
        """
        if event not in events_of(self._env.task):
            raise UnknownEventError(f"no event '{event}' in task {self._env.task.name}; choose among {', '.join(events_of(self._env.task))}")
        world = self._env.world
        if event == "teleport":
            world.move_block(self._elsewhere())
        elif event == "vanish":
            world.remove_block()
        elif event == "colour":
            world.colour_block(self._other_colour())
        elif event == "camera":
            self._camera = bumped(self._camera, self._rng, self._sizes)
        else:
            self._frozen = self._newest if self._newest is not None else self.frame()

    def thaw(self) -> None:
        """A frozen camera shows the scene again."""
        self._frozen = None

    def _elsewhere(self) -> BlockPose:
        """A place on the table some way from the block's and clear of the tool."""
        block, tool = self._env.world.block(), self._env.world.tool()
        assert block is not None
        for _ in range(_DRAWS):
            angle = self._rng.uniform(-np.pi, np.pi)
            x, y = np.array([block.x, block.y]) + self._rng.uniform(*self._sizes.teleport_m) * np.array([np.cos(angle), np.sin(angle)])
            inside = np.all(BLOCK_AREA[0] - 0.04 <= [x, y]) and np.all([x, y] <= BLOCK_AREA[1] + 0.04)
            if inside and np.hypot(x - tool[0], y - tool[1]) > _CLEAR_M:
                return BlockPose(float(x), float(y), block.yaw)
        # The block was pushed out of the area: towards its middle there is always room.
        middle = 0.5 * (BLOCK_AREA[0] + BLOCK_AREA[1]) - [block.x, block.y]
        x, y = np.array([block.x, block.y]) + self._sizes.teleport_m[1] * middle / max(float(np.linalg.norm(middle)), 1e-6)
        return BlockPose(float(x), float(y), block.yaw)

    def _other_colour(self) -> tuple[float, float, float]:
        while True:
            red, green, blue = self._rng.uniform(0.0, 1.0, 3)
            if np.linalg.norm(np.subtract((red, green, blue), self._env.appearance.block_rgb)) >= self._sizes.least_colour:
                return float(red), float(green), float(blue)


def bumped(camera: Camera, rng: np.random.Generator, sizes: EventSizes) -> Camera:
    """``camera`` shifted in a random direction and turned about a random axis."""
    shift, turn = ((vector / np.linalg.norm(vector)).tolist() for vector in rng.standard_normal((2, 3)))
    far, angle = rng.uniform(*sizes.bump_m), np.radians(rng.uniform(*sizes.bump_deg))
    return camera.moved((far * shift[0], far * shift[1], far * shift[2]), (angle * turn[0], angle * turn[1], angle * turn[2]))
