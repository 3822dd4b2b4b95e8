"""What a user adds to bring Gymnasium's Reacher-v5 (MuJoCo): who says that the arm reached what a picture shows. See docs/data.md."""

from __future__ import annotations

from typing import Any

import numpy as np


class TipAtPlace:
    """Success is the finger tip within 2 cm of where it is in the goal picture."""

    goal_tolerance = 0.02

    def goal_state(self, scene: Any) -> np.ndarray:
        """Place of the tip ``(2,) m``."""
        return np.array(scene.get_body_com("fingertip")[:2])

    def goal_distance(self, scene: Any, goal: np.ndarray) -> float:
        """Metres between the tip and its place in the picture."""
        return float(np.linalg.norm(scene.get_body_com("fingertip")[:2] - goal))
