"""The guard that parameters ask for, with all that it stands on: for the guardrail node, and for a replay of what that did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arm_model import ArmDescription, read_scene
from planner_node.barrier import BarrierConfig
from planner_node.grid import CYCLE_NS
from planner_node.journal import Journal
from planner_node.journaled_guard import JournaledGuard, JournaledStaleness
from planner_node.plan_gate import PlanGate
from planner_node.shield import Shield, ShieldConfig
from planner_node.staleness import StalenessConfig
from planner_node.surroundings import Surroundings, SurroundingsConfig, surroundings_of
from planner_node.workspace import read_workspace

if TYPE_CHECKING:
    from planner_node.guardrail_parameters import GuardrailParameters

_CYCLE_S = CYCLE_NS * 1e-9


def build_guard(p: GuardrailParameters, arm: ArmDescription) -> tuple[JournaledGuard, PlanGate, Surroundings]:
    """The guard that ``p`` asks for, the gate of its plans, and what is around the arm.

    Raises:
        ValueError: the scene or the workspace cannot be read.
    """
    limits = arm.limits.scaled(p.velocity_scale, p.acceleration_scale, p.jerk_scale, margin=p.position_margin)
    config = SurroundingsConfig(p.collision_margin_m, p.tool_speed, BarrierConfig(gain=p.barrier_gain))
    around = surroundings_of(arm, limits, read_scene(p.scene), read_workspace(p.workspace), config, _CYCLE_S)
    gate, journal = PlanGate(p.gate), Journal()
    streams = JournaledStaleness(StalenessConfig(p.frame_hold_s, p.frame_stop_s), journal)
    return JournaledGuard(p.guard, Shield(ShieldConfig(limits, _CYCLE_S), around), gate, streams, journal), gate, around


def retune(p: GuardrailParameters, guard: JournaledGuard, gate: PlanGate) -> None:
    """Take over what ``p`` says of tolerances and watchdogs; the rest is fixed once the guard is built."""
    gate.config, guard.config = p.gate, p.guard
    guard.streams.config = StalenessConfig(p.frame_hold_s, p.frame_stop_s)
