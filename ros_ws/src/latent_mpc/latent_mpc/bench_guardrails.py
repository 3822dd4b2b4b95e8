"""What the body and the guardrails of the search cost: stages of the bench."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from arm_model import CollisionModel, Kinematics, ToolStep, load_arm, read_scene, shipped_arms
from planner_node.guardrails.guardrail import Guardrail, sampled
from planner_node.guardrails.registry import build_guardrails

# The default solver's candidates: 24 from the actor, 32 in other directions, 10 steps each.
_CANDIDATES, _STEPS = 56, 10
_SCENE = "[{name: floor, half_space: {normal: [0, 0, 1], offset: -0.05}}, {name: post, box: {min: [0.4, 0.3, 0.0], max: [0.5, 0.4, 0.4]}}]"
_EVERY = f"""
zones: [{{centre: [0.5, 0.1], half: [0.09, 0.02], yaw: 0.8}}]
keep_out: [{{name: solid, box: [0.1, 0.1, 0.1], xyz: [0.6, 0.2, 0.2]}}]
tool_speed: {{limit: 0.4}}
joint_position: {{}}
joint_velocity: {{}}
joint_acceleration: {{}}
collision: {{scene: {_SCENE}}}
singularity: {{}}
"""


def guardrail_stages(step: ToolStep) -> list[tuple[str, Callable[[], object]]]:
    """Distances of every shipped arm, alone and with a scene, and each guardrail of the search for 56 candidates of 10 steps."""
    stages: list[tuple[str, Callable[[], object]]] = []
    for name in shipped_arms():
        arm = load_arm(name)
        for scene, what in ((None, ""), (read_scene(_SCENE), ", scene of 2")):
            model = CollisionModel(arm) if scene is None else CollisionModel(arm, scene)
            stages.append((f"distances: {name}{what}, {len(model.pairs)} pairs", _distances(model)))
            if scene is not None:
                stages.append((f"distances and slopes: {name}{what}", _near(model)))
    arm = load_arm()
    rng = np.random.default_rng(0)
    points = [rng.uniform(step.lower, step.upper, (_CANDIDATES, 3))]
    for _ in range(_STEPS):
        points.append(step.advance(points[-1], rng.uniform(-1, 1, (_CANDIDATES, step.action_dim))))
    path = sampled(np.stack(points, axis=1))
    for guardrail in build_guardrails(_EVERY, arm, Kinematics(arm), step):
        stages.append((f"guardrail, {_CANDIDATES} x {_STEPS}: {guardrail.name}", _margins(guardrail, path)))
    return stages


def _distances(model: CollisionModel) -> Callable[[], object]:
    return lambda: model.distances(model.arm.home)


def _near(model: CollisionModel) -> Callable[[], object]:
    return lambda: model.near(model.arm.home, 0.1)


def _margins(guardrail: Guardrail, path: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Callable[[], object]:
    return lambda: guardrail.margins(path)
