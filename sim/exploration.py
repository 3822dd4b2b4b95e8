"""How an arm explores while it collects data: random walks, and scripted goal seeking with noise and bursts.

The teacher knows the state; a controller never does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.arm_world import BLOCK_HALF_M, BlockPose
from sim.pushing import push_towards
from sim.tasks.push import BLOCK_AREA, draw_tool
from sim.tasks.task import State, Task

_NEAR_BLOCK_M = (0.092, 0.13)
_NOISE_LEVELS = (0.05, 0.15, 0.3, 0.5)
_NEW_GOAL_SHARE = 0.02
_BURST_SHARE = 0.05


class ExplorationError(ValueError):
    """A mix of exploration that makes no sense, with the reason in one line."""


@dataclass(frozen=True)
class ExplorationMix:
    """What a collection is made of, as shares of its episodes.

    ``random_walk``: a random walk throughout; all others follow the script. ``near_block``: the arm starts beside the block; all others start
    anywhere. The two are drawn independently.
    """

    random_walk: float = 0.2
    near_block: float = 0.4

    def __post_init__(self) -> None:
        for name, share in (("random_walk", self.random_walk), ("near_block", self.near_block)):
            if not 0.0 <= share <= 1.0:
                raise ExplorationError(f"{name} is {share}, must be a share between 0 and 1")


class Exploration(Protocol):
    """Where an exploring episode starts and what it does next."""

    def start(self) -> tuple[NDArray[np.float64], BlockPose | None]:
        """Tool point ``(3,) m`` and block pose to begin with."""
        ...

    def act(self, state: State, commanded: NDArray[np.float64]) -> NDArray[np.float32]:
        """The next action ``(A,)`` in [-1, 1]."""
        ...


class RandomWalk:
    """Ornstein-Uhlenbeck actions that turn back at the edge of the workspace."""

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        self._step = task.tool_step
        self._rng = rng
        self._velocity = rng.uniform(-1.0, 1.0, self._step.action_dim)

    def act(self, commanded: NDArray[np.float64]) -> NDArray[np.float64]:
        """Next action ``(A,)`` with the commanded tool at ``commanded (3,) m``."""
        dim = self._step.action_dim
        velocity = np.clip(0.8 * self._velocity + 0.6 * self._rng.standard_normal(dim), -1.0, 1.0)
        at_lower = (commanded[:dim] <= np.array(self._step.lower[:dim]) + 1e-3) & (velocity < 0)
        at_upper = (commanded[:dim] >= np.array(self._step.upper[:dim]) - 1e-3) & (velocity > 0)
        self._velocity = np.where(at_lower | at_upper, -velocity, velocity)
        return self._velocity


_USUAL = ExplorationMix()


class _Seeking(ABC):
    """Goal seeking with noise, bursts of random motion, and a fresh goal once the old one has been held."""

    def __init__(self, task: Task, rng: np.random.Generator, goal: NDArray[np.float64] | None = None, mix: ExplorationMix = _USUAL) -> None:
        self.task = task
        self.rng = rng
        self.mix = mix
        self.walk = RandomWalk(task, rng) if goal is None and rng.random() < mix.random_walk else None
        self._noise = rng.choice(_NOISE_LEVELS)
        self._burst: NDArray[np.float64] = np.zeros(task.tool_step.action_dim)
        self._burst_left = 0
        self._held = 0
        self.goal = self.draw_goal() if goal is None else goal

    @abstractmethod
    def draw_goal(self) -> NDArray[np.float64]: ...

    @abstractmethod
    def left_m(self, state: State) -> float: ...

    @abstractmethod
    def seek(self, state: State) -> NDArray[np.float64]: ...

    def act(self, state: State, commanded: NDArray[np.float64]) -> NDArray[np.float32]:
        """The next action: the walk's, a burst's, or the seeker's with noise."""
        if self.walk is not None:
            return np.clip(self.walk.act(commanded), -1.0, 1.0).astype(np.float32)
        self._held += self.left_m(state) < 0.015
        if self._held > 2 or self.rng.random() < _NEW_GOAL_SHARE:
            self.goal, self._held = self.draw_goal(), 0
        if self._burst_left == 0 and self.rng.random() < _BURST_SHARE:
            self._burst_left = int(self.rng.integers(2, 5))
            self._burst = self.rng.uniform(-1.0, 1.0, self._burst.shape)
        if self._burst_left > 0:
            self._burst_left -= 1
            action = self._burst
        else:
            action = self.seek(state) + self._noise * self.rng.standard_normal(self._burst.shape)
        return np.clip(action, -1.0, 1.0).astype(np.float32)


class ReachExploration(_Seeking):
    """Straight to one random point of the workspace after another."""

    def start(self) -> tuple[NDArray[np.float64], BlockPose | None]:
        """Anywhere in the workspace."""
        return self.rng.uniform(self.task.tool_step.lower, self.task.tool_step.upper), None

    def draw_goal(self) -> NDArray[np.float64]:
        """A random point of the workspace."""
        return self.rng.uniform(self.task.tool_step.lower, self.task.tool_step.upper)

    def left_m(self, state: State) -> float:
        """Distance to the present goal in m."""
        return float(np.linalg.norm(self.goal - state.tool))

    def seek(self, state: State) -> NDArray[np.float64]:
        """Straight at it, at most one step long."""
        move = (self.goal - state.tool) / self.task.tool_step.length_m
        return move / max(1.0, float(np.abs(move).max()))


class PushExploration(_Seeking):
    """Push the block from one random place to another; a share of the starts is beside the block."""

    def start(self) -> tuple[NDArray[np.float64], BlockPose | None]:
        """A random block, and a tool beside it or anywhere."""
        block = self.rng.uniform(*BLOCK_AREA)
        pose = BlockPose(block[0], block[1], self.rng.uniform(-np.pi / 4, np.pi / 4))
        step = self.task.tool_step
        if self.rng.random() < self.mix.near_block:
            for _ in range(50):
                angle, radius = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(*_NEAR_BLOCK_M)
                tool = np.array([block[0] + radius * np.cos(angle), block[1] + radius * np.sin(angle), step.lower[2]])
                if np.all(tool == step.clamp(tool)):
                    return tool, pose
        return draw_tool(self.rng, step, block, BLOCK_HALF_M[0] * 1.42 + 0.025), pose

    def draw_goal(self) -> NDArray[np.float64]:
        """A random place on the table."""
        return self.rng.uniform(BLOCK_AREA[0] - [0.01, 0.02], BLOCK_AREA[1] + [0.02, 0.02])

    def left_m(self, state: State) -> float:
        """Distance of the block to the present goal in m."""
        assert state.block is not None
        return float(np.linalg.norm(self.goal - [state.block.x, state.block.y]))

    def seek(self, state: State) -> NDArray[np.float64]:
        """The scripted pusher."""
        assert state.block is not None
        return push_towards(state.tool[:2], np.array([state.block.x, state.block.y]), self.goal, self.task.tool_step.length_m)


def exploration_for(task: Task, rng: np.random.Generator, goal: NDArray[np.float64] | None = None, mix: ExplorationMix = _USUAL) -> Exploration:
    """The exploration that suits ``task``; with a ``goal``, that of the block ``(2,)`` or of the tool ``(3,)`` in m, it seeks that one first."""
    return PushExploration(task, rng, goal, mix) if task.has_block else ReachExploration(task, rng, goal, mix)
