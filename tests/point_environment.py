"""A user's environment, as a test brings it: a dot in a plane, drawn in NumPy, driven by a box of actions with ends of its own."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces

SIDE, REACH = 48, 0.12


class Plane(gymnasium.Env):
    """The dot moves by the action times ``REACH`` in a plane of side 1. Nothing here knows of goals."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0.0, 1.0, (2,), np.float64)
        self.action_space = spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64)
        self.dot = np.full(2, 0.5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.dot = self.np_random.uniform(0.1, 0.9, 2)
        return self.dot.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.dot = np.clip(self.dot + REACH * np.array([action[0] / 2, action[1] / 5 - 1]), 0.1, 0.9)
        return self.dot.copy(), 0.0, False, False, {}

    def render(self):
        x, y = np.meshgrid(*[(np.arange(SIDE) + 0.5) / SIDE] * 2)
        dot = np.exp(-((x - self.dot[0]) ** 2 + (y - self.dot[1]) ** 2) / (2 * 0.06**2))
        return np.round(np.stack([40 + 200 * dot, 90 - 40 * dot, 60 + 100 * x * y], -1)).astype(np.uint8)


class PlaneThatKnowsItsGoals(Plane):
    """The same, as an environment that measures the distance to a remembered scene itself."""

    goal_tolerance = 0.1

    def goal_state(self):
        return self.dot.copy()

    def goal_distance(self, goal):
        return float(np.linalg.norm(self.dot - goal))


class Seeing(Plane):
    """The same, observed in pictures from two cameras, and over as soon as the dot is on the right."""

    def __init__(self, cameras=("front", "back"), over=1.0):
        super().__init__()
        picture = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.cameras, self.over = cameras, over
        self.observation_space = spaces.Dict({name: picture for name in cameras} | {"dot": spaces.Box(0.0, 1.0, (2,))})

    def look(self):
        return {"dot": self.dot.astype(np.float32)} | {name: self.render() if name == "front" else self.render()[:, ::-1] for name in self.cameras}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.look(), {}

    def step(self, action):
        super().step(action)
        return self.look(), 0.0, bool(self.dot[0] >= self.over), False, {"is_success": bool(self.dot[0] >= self.over)}


class NearTheDot:
    """A judge beside the environment."""

    goal_tolerance = 0.1

    def goal_state(self, scene):
        return scene.dot.copy()

    def goal_distance(self, scene, goal):
        return float(np.linalg.norm(scene.dot - goal))


def to_the_right(observation, rng):
    """A policy in the environment's own units."""
    return np.array([2.0, 5.0]) + rng.normal(0.0, 0.1, 2)


def drunk(observation, rng):
    """A policy that does not know how many numbers an action has."""
    return np.zeros(3)


gymnasium.register("Plane-v0", Plane, max_episode_steps=7)
gymnasium.register("KnowingPlane-v0", PlaneThatKnowsItsGoals)
gymnasium.register("SeeingPlane-v0", Seeing)
gymnasium.register("NoPlane-v0", "point_environment:Missing")
