"""The guardrail's cycle as a stage of the bench: a tool in motion between a table and a wall. More of it: ``benchmarks/guard_cycle.py``."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from arm_model import ArmDescription, read_scene
from planner_node.shield import Motion, Shield, ShieldConfig
from planner_node.surroundings import SurroundingsConfig, surroundings_of
from planner_node.workspace import read_workspace

_CYCLE_S = 0.01
_SCENE = "[{name: table, half_space: {normal: [0, 0, 1], offset: -0.05}}, {name: wall, box: [0.1, 1.6, 1.0], xyz: [0.85, 0.0, 0.5]}]"
_WORKSPACE = "{min: [-1.0, -1.0, -0.05], max: [0.8, 1.0, 1.5]}"


def guard_cycle(arm: ArmDescription) -> Callable[[], object]:
    """One cycle of shield, collision check, workspace and tool speed, a little further along a swing of all joints by 0.1 rad with each call."""
    limits = arm.limits.scaled(0.5, 0.95, 0.5, margin=0.02)
    around = surroundings_of(arm, limits, read_scene(_SCENE), read_workspace(_WORKSPACE), SurroundingsConfig(tool_speed=1.0), _CYCLE_S)
    shield = Shield(ShieldConfig(limits, _CYCLE_S), around)
    braking, cycles = shield.hold(arm.home), itertools.count()

    def cycle() -> object:
        nonlocal braking
        angle = 0.02 * next(cycles)
        swing = np.full(arm.home.size, 0.1)
        target = Motion(arm.home + swing * (1 - np.cos(angle)), 2.0 * swing * np.sin(angle), 4.0 * swing * np.cos(angle))
        braking = shield.follow(braking, 1, target).braking
        return braking

    return cycle
