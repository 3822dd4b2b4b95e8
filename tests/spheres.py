"""A scene that can be evaluated by hand: the tool point, balls to stay out of, and nothing else. Distances and gradients in closed form."""

from __future__ import annotations

import numpy as np

from arm_model import load_arm
from arm_model.reach import Reach
from arm_model.tool_frame import ToolFrame

ARM = load_arm()
TOOL = ToolFrame(ARM)
REACH = Reach(ARM).of_frame(ARM.tool_frame)


class Balls:
    """Distances from the tool point to balls ``(centre, radius)``, and how often they were asked for."""

    def __init__(self, *balls):
        self.centres = np.array([centre for centre, _ in balls], dtype=np.float64).reshape(-1, 3)
        self.radii = np.array([radius for _, radius in balls], dtype=np.float64)
        self.pairs = tuple(("tool", f"ball {index}") for index in range(len(balls)))
        self.reach = np.tile(REACH, (len(balls), 1))
        self.asked = 0

    def distances(self, q, among=None):
        self.asked += 1
        distances = np.linalg.norm(TOOL.point(q) - self.centres, axis=1) - self.radii
        return distances if among is None else distances[among]

    def gradients(self, q, indices):
        away = TOOL.point(q) - self.centres[indices]
        return away / np.linalg.norm(away, axis=1, keepdims=True) @ TOOL.jacobian(q)
