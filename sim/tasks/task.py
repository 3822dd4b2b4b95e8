"""What a task is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep
from sim.arm_world import BlockPose
from sim.camera import Camera
from sim.tasks.episode import Episode


@dataclass(frozen=True)
class State:
    """Ground truth of the scene: true tool point ``(3,) m`` and block pose."""

    tool: NDArray[np.float64]
    block: BlockPose | None


class Scene(Protocol):
    """What a task needs of the world to try out a start and a goal."""

    def place(self, tool: NDArray[np.float64], block: BlockPose | None) -> None:
        """Put arm and block at rest."""
        ...

    def move(self, action: NDArray[np.floating]) -> None:
        """Carry out one action."""
        ...

    def state(self) -> State:
        """Ground truth now."""
        ...


class Task(Protocol):
    """A kind of episode: how it starts, what its goal is, and when it has succeeded."""

    name: str
    steps: int
    tolerance_m: float
    tool_step: ToolStep
    camera: Camera
    has_block: bool

    def draw(self, seed: int, rng: np.random.Generator, scene: Scene) -> Episode:
        """A start and a reachable goal, from ``rng`` alone."""
        ...

    def distance(self, state: State, episode: Episode) -> float:
        """Metres left to the goal. Ground truth: for evaluation only."""
        ...

    def teach(self, state: State, episode: Episode) -> NDArray[np.float64]:
        """The scripted oracle's action ``(A,)``. Ground truth: for evaluation and for collecting data only."""
        ...
