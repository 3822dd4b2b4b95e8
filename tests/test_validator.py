"""What is sent is checked once more against the zones."""

import numpy as np
import pytest

from arm_model.scene import Obstacle, Sphere
from planner_node.guardrails.keep_out import KeepOutGuardrail
from planner_node.guardrails.zone import Zone
from planner_node.joint_path import JointPathError
from planner_node.validator import require_clear

WALL = Zone((0.5, 0.0), (0.09, 0.02))


def line(start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    shares = np.linspace(0.0, 1.0, 50)[:, None]
    flat = np.array(start) + shares * (np.array(end) - np.array(start))
    return np.column_stack([flat, np.full(50, 0.2)])


def test_a_path_beside_the_wall_passes():
    require_clear(line((0.4, 0.05), (0.6, 0.05)), (WALL,), clearance_m=0.015)


def test_a_path_through_the_wall_is_refused_and_says_how_near():
    with pytest.raises(JointPathError, match="within -18 mm of a zone"):
        require_clear(line((0.5, 0.1), (0.5, -0.1)), (WALL,), clearance_m=0.015)


def test_half_of_the_clearance_is_enough_and_less_is_not():
    require_clear(line((0.4, 0.028), (0.6, 0.028)), (WALL,), clearance_m=0.015)
    with pytest.raises(JointPathError):
        require_clear(line((0.4, 0.05), (0.6, 0.026)), (WALL,), clearance_m=0.015)


def test_a_tool_that_stands_too_near_may_leave_but_not_go_deeper():
    require_clear(line((0.5, 0.021), (0.5, 0.1)), (WALL,), clearance_m=0.015)
    with pytest.raises(JointPathError):
        require_clear(line((0.5, 0.021), (0.5, 0.015)), (WALL,), clearance_m=0.015)


def test_a_solid_is_kept_at_half_of_its_own_clearance_whatever_that_of_zones_is():
    post = KeepOutGuardrail(Obstacle("post", Sphere(0.05), (0.5, 0.0, 0.2)), clearance=0.02)
    for clearance_m in (0.0, 0.02, 0.5):
        require_clear(line((0.4, 0.061), (0.6, 0.061)), (), clearance_m, (post,))
        with pytest.raises(JointPathError, match="within 9 mm of post"):
            require_clear(line((0.4, 0.1), (0.5, 0.059)), (), clearance_m, (post,))


def test_without_zones_everything_passes():
    require_clear(line((0.5, 0.1), (0.5, -0.1)), (), clearance_m=0.015)
