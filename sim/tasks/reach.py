"""Reach: bring the tool to the pictured place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep
from sim.camera import Camera
from sim.tasks.episode import Episode
from sim.tasks.task import Scene, State

_MIN_DISTANCE_M = 0.12


class Reach:
    """The tool starts somewhere over the table; the picture shows the arm at least 12 cm away."""

    name = "reach"
    steps = 20
    tolerance_m = 0.025
    tool_step = ToolStep(length_m=0.04, period_s=0.2, lower=(0.36, -0.25, 0.06), upper=(0.64, 0.25, 0.32))
    camera = Camera(eye=(1.30, 0.35, 0.75), target=(0.47, 0.0, 0.17), fov_deg=40.0)
    has_block = False

    def draw(self, seed: int, rng: np.random.Generator, scene: Scene) -> Episode:
        """Two uniform points of the workspace, far enough apart."""
        start = rng.uniform(self.tool_step.lower, self.tool_step.upper)
        goal = start
        while np.linalg.norm(goal - start) < _MIN_DISTANCE_M:
            goal = rng.uniform(self.tool_step.lower, self.tool_step.upper)
        return Episode(self.name, seed, (start[0], start[1], start[2]), None, (goal[0], goal[1], goal[2]), None)

    def distance(self, state: State, episode: Episode) -> float:
        """From the true tool point to the pictured one."""
        return float(np.linalg.norm(state.tool - np.array(episode.goal_tool)))

    def teach(self, state: State, episode: Episode) -> NDArray[np.float64]:
        """Straight to the goal."""
        return np.clip((np.array(episode.goal_tool) - state.tool) / self.tool_step.length_m, -1.0, 1.0)
