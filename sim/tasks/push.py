"""Push: bring the block to the pictured place, from near (``push``) or from anywhere (``push-far`` and its harder kin)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep
from sim.arm_world import BLOCK_HALF_M, BlockPose
from sim.camera import Camera
from sim.pushing import push_towards
from sim.tasks.episode import Episode
from sim.tasks.task import Scene, State

TOOL_HEIGHT_M = 0.02
BLOCK_AREA = (np.array([0.43, -0.16]), np.array([0.65, 0.16]))
_FAR_AREA = np.array([[0.44, -0.15], [0.64, 0.15]])
_ROOM_M = 0.01
_AHEAD_STEPS = 10
_MIN_MOVED_M = 0.06
_SCRIPT_STEPS = 22
_MAX_SIDE_M = 0.2
_ORACLE_ARRIVED_M = 0.015


def _xy(pose: BlockPose | None) -> NDArray[np.float64]:
    assert pose is not None
    return np.array([pose.x, pose.y])


def draw_tool(rng: np.random.Generator, step: ToolStep, block: NDArray[np.float64], clearance_m: float) -> NDArray[np.float64]:
    """A uniform tool point ``(3,)`` of the workspace at least ``clearance_m`` from the block's centre ``(2,)``."""
    while True:
        tool = rng.uniform(step.lower, step.upper)
        if np.linalg.norm(tool[:2] - block) > clearance_m:
            return tool


class Push:
    """The picture shows where a scripted push had the block ten steps later; the block moves more than 6 cm."""

    name = "push"
    steps = 16
    tolerance_m = 0.04
    tool_step = ToolStep(length_m=0.04, period_s=0.2, lower=(0.36, -0.24, TOOL_HEIGHT_M), upper=(0.72, 0.24, TOOL_HEIGHT_M))
    camera = Camera(eye=(0.54, -0.80, 0.80), target=(0.54, -0.02, 0.0), fov_deg=29.0)
    has_block = True

    def draw(self, seed: int, rng: np.random.Generator, scene: Scene) -> Episode:
        """Cut ten steps out of a noisy scripted push in which the block moves far enough."""
        while True:
            block = rng.uniform(*BLOCK_AREA)
            tool = draw_tool(rng, self.tool_step, block, BLOCK_HALF_M[0] * 1.42 + 0.025)
            goal = rng.uniform(*BLOCK_AREA)
            noise = rng.uniform(0.1, 0.4)
            scene.place(tool, BlockPose(block[0], block[1], rng.uniform(-np.pi / 4, np.pi / 4)))
            states = [scene.state()]
            for _ in range(_SCRIPT_STEPS):
                now = states[-1]
                scene.move(push_towards(now.tool[:2], _xy(now.block), goal, self.tool_step.length_m) + noise * rng.standard_normal(2))
                states.append(scene.state())
            pairs = list(zip(states[:-_AHEAD_STEPS], states[_AHEAD_STEPS:], strict=True))
            good = [(a, b) for a, b in pairs if np.linalg.norm(_xy(b.block) - _xy(a.block)) > _MIN_MOVED_M and abs(_xy(b.block)[1]) < _MAX_SIDE_M]
            if good:
                start, end = good[int(rng.integers(len(good)))]
                return _episode(self.name, seed, start, end)

    def distance(self, state: State, episode: Episode) -> float:
        """From the true block centre to the pictured one."""
        return float(np.linalg.norm(_xy(state.block) - _xy(episode.goal_block)))

    def teach(self, state: State, episode: Episode) -> NDArray[np.float64]:
        """The scripted pusher."""
        return push_towards(state.tool[:2], _xy(state.block), _xy(episode.goal_block), self.tool_step.length_m)


class PushFar(Push):
    """Arm and block start anywhere; the pictured place is 8 to 18 cm away, and the arm must often go round the block."""

    name = "push-far"
    steps = 30
    range_m = (0.08, 0.18)
    tool_apart_m = 0.1
    teacher_steps = 40

    def draw(self, seed: int, rng: np.random.Generator, scene: Scene) -> Episode:
        """A random start and a goal that the scripted pusher reaches in time; the picture is taken there."""
        nearest, farthest = self.range_m
        while True:
            block = rng.uniform(*_FAR_AREA)
            if np.linalg.norm(np.maximum(*np.abs(_FAR_AREA - block))) < nearest + _ROOM_M:
                continue  # in the middle: nowhere is far enough
            yaw = rng.uniform(-np.pi / 4, np.pi / 4)
            tool = draw_tool(rng, self.tool_step, block, self.tool_apart_m)
            goal = block
            while not nearest < np.linalg.norm(goal - block) < farthest:
                goal = rng.uniform(*_FAR_AREA)
            scene.place(tool, BlockPose(block[0], block[1], yaw))
            start = scene.state()
            for _ in range(self.teacher_steps):
                now = scene.state()
                if np.linalg.norm(_xy(now.block) - goal) < _ORACLE_ARRIVED_M:
                    if nearest < np.linalg.norm(_xy(now.block) - _xy(start.block)) < farthest:
                        return _episode(self.name, seed, start, now)
                    break
                scene.move(push_towards(now.tool[:2], _xy(now.block), goal, self.tool_step.length_m))


class PushFurther(PushFar):
    """The pictured place is 22 to 34 cm away: the block moves as far as this in hardly any episode of the data, and there is more time."""

    name = "push-further"
    steps = 50
    range_m = (0.22, 0.34)
    teacher_steps = 60


class PushAround(PushFar):
    """The arm starts at least 20 cm from the block, so that something may stand between them, and has time for a detour."""

    name = "push-around"
    steps = 40
    tool_apart_m = 0.2


def _episode(name: str, seed: int, start: State, end: State) -> Episode:
    tool, goal = (state.tool.round(6).tolist() for state in (start, end))
    return Episode(name, seed, (tool[0], tool[1], TOOL_HEIGHT_M), start.block, (goal[0], goal[1], TOOL_HEIGHT_M), end.block)
