"""A task as a Gymnasium environment: pictures in, tool steps out, ground truth in ``info`` only."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from arm_model import Kinematics, load_arm
from sim.appearance import NOMINAL, Appearance
from sim.arm_world import PHYSICS_STEP_S, ArmWorld, BlockPose
from sim.tasks.episode import Episode
from sim.tasks.task import State, Task

Observation = dict[str, Any]

SETPOINT_PERIOD_S = 0.01
_WAYPOINTS = 4
_SETTLE_STEPS = 12
_REACH_M = 2.0
# Swung behind its base, where no task's camera looks.
_ASIDE_RAD = 2.4


class PicturedGoalEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """One arm, one camera, one goal picture.

    Observation: ``image`` and ``goal`` ``(h, w, 3) uint8`` RGB, ``tool (3,) float32``: the commanded tool point in m, known on any arm from its own
    commands, and ``joints (J,) float32``: measured positions in rad. Action: ``(A,) float32`` in [-1, 1], see ``arm_model.ToolStep``. Reward: minus
    the distance left in m. ``info``: ``distance_m``, ``success``, ``true_tool``, ``true_block``, ``episode``, for evaluation only.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(self, task: Task, render_mode: str | None = "rgb_array", gui: bool = False) -> None:
        self.task = task
        self.render_mode = render_mode
        self.trace_tool = False
        self.appearance = NOMINAL
        self.arm_in_goal = True
        arm = load_arm()
        self.kinematics = Kinematics(arm)
        self.world = ArmWorld(arm, block=task.has_block, gui=gui)
        picture = spaces.Box(0, 255, (task.camera.height, task.camera.width, 3), np.uint8)
        tool = spaces.Box(-_REACH_M, _REACH_M, (3,), np.float32)
        joints = spaces.Box(-2 * np.pi, 2 * np.pi, (len(arm.joints),), np.float32)
        self.observation_space = spaces.Dict({"image": picture, "goal": picture, "tool": tool, "joints": joints})
        self.action_space = spaces.Box(-1.0, 1.0, (task.tool_step.action_dim,), np.float32)
        self.commanded = np.array(task.tool_step.lower, dtype=np.float64)
        self._q = arm.home.copy()
        self._goal = np.zeros(picture.shape, np.uint8)
        self._steps = 0
        self._tool_path: list[NDArray[np.float64]] = []
        self.episode: Episode | None = None

    def appear(self, appearance: Appearance) -> None:
        """Look like ``appearance`` from the next ``place`` or ``reset`` on."""
        self.appearance = appearance
        self.world.appear(appearance)

    # The scene, as a task sees it while it draws an episode.

    def place(self, tool: NDArray[np.float64], block: BlockPose | None) -> None:
        """Put the tool at ``tool (3,) m`` and the block at ``block``, at rest, and let contacts settle."""
        self.commanded = self.task.tool_step.clamp(np.asarray(tool, dtype=np.float64))
        self._q = self.kinematics.solve(self.commanded)
        self.world.place(self._q, block)
        self.world.advance(_SETTLE_STEPS)

    def move(self, action: NDArray[np.floating]) -> None:
        """Lead the commanded tool point along the action at constant speed, a joint set point every 10 ms."""
        start = self.commanded
        self.commanded = self.task.tool_step.advance(start, action)
        setpoints = round(self.task.tool_step.period_s / _WAYPOINTS / SETPOINT_PERIOD_S)
        physics_steps = round(SETPOINT_PERIOD_S / PHYSICS_STEP_S)
        for waypoint in range(1, _WAYPOINTS + 1):
            before = self._q
            self._q = self.kinematics.solve(start + (self.commanded - start) * waypoint / _WAYPOINTS, before)
            for k in range(1, setpoints + 1):
                self.world.command(before + (self._q - before) * k / setpoints)
                self.world.advance(physics_steps)
                if self.trace_tool:
                    self._tool_path.append(self.world.tool())

    def tool_path(self) -> NDArray[np.float64]:
        """True tool points ``(N, 3) m`` every 10 ms since the reset, if ``trace_tool`` was set. Ground truth: for evaluation only."""
        return np.array(self._tool_path).reshape(-1, 3)

    def state(self) -> State:
        """Ground truth now."""
        return State(self.world.tool(), self.world.block())

    # The Gymnasium interface.

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Draw an episode from ``seed``, or play ``options["episode"]``, an ``Episode``.

        Raises:
            ValueError: the given episode is one of another task.
        """
        super().reset(seed=seed)
        episode = (options or {}).get("episode")
        if episode is None:
            if seed is None:
                # A seed of its own, so that the episode can be drawn again from what it reports.
                seed = int(self.np_random.integers(2**31))
                super().reset(seed=seed)
            episode = self.task.draw(seed, self.np_random, self)
        elif episode.task != self.task.name:
            raise ValueError(f"an episode of task '{episode.task}' cannot be played as '{self.task.name}'")
        self.episode = episode
        self._goal = self._picture(episode)
        self.place(np.array(episode.tool), episode.block)
        self._steps = 0
        self._tool_path = []
        return self._observe(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One action; never terminates early, so that holding the goal counts. Truncates after the task's steps."""
        self.move(np.asarray(action))
        self._steps += 1
        info = self._info()
        return self._observe(), -float(info["distance_m"]), False, self._steps >= self.task.steps, info

    def render(self) -> NDArray[np.uint8]:
        """What the camera sees, ``(h, w, 3) uint8``."""
        return self.appearance.seen_by(self.task.camera).render(self.world.client, self.appearance.light)

    def close(self) -> None:
        """Disconnect from PyBullet."""
        self.world.close()

    def _picture(self, episode: Episode) -> NDArray[np.uint8]:
        """The goal picture; with ``arm_in_goal`` off, as a person would take it, with the arm out of the way."""
        self.place(np.array(episode.goal_tool), episode.goal_block)
        if not self.arm_in_goal:
            aside = self.world.arm.home.copy()
            aside[0] = _ASIDE_RAD
            self.world.place(aside, episode.goal_block)
        return self.render()

    def _observe(self) -> Observation:
        return {
            "image": self.render(),
            "goal": self._goal.copy(),
            "tool": self.commanded.astype(np.float32),
            "joints": self.world.joints()[0].astype(np.float32),
        }

    def _info(self) -> dict[str, Any]:
        assert self.episode is not None
        state = self.state()
        distance = self.task.distance(state, self.episode)
        block = None if state.block is None else np.array([state.block.x, state.block.y, state.block.yaw])
        return {
            "distance_m": distance,
            "success": distance <= self.task.tolerance_m,
            "true_tool": state.tool,
            "true_block": block,
            "episode": self.episode,
        }
