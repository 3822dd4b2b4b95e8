"""Solvers by name, with their critics and guardrails: the one place to add a solver, a critic or a guardrail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from arm_model import ToolStep
from planner_node.critics.actor_prior import ActorPriorCritic
from planner_node.critics.critic import Critic
from planner_node.critics.effort import EffortCritic
from planner_node.critics.latent_distance import LatentDistanceCritic
from planner_node.critics.temporal_distance import TemporalDistanceCritic
from planner_node.guardrails.guardrail import Guardrail
from planner_node.guardrails.workspace import WorkspaceGuardrail
from planner_node.guardrails.zone import Zone, ZoneGuardrail
from planner_node.objective import Objective
from planner_node.pace import PacedModel
from planner_node.solvers.actor_rollouts import ActorRollouts, ActorRolloutsConfig
from planner_node.solvers.cem import Cem, CemConfig
from planner_node.solvers.solver import Solver
from world_model.protocol import PlanningModel

MODES = ("planner", "actor", "cem")


class UnknownModeError(ValueError):
    """A planner mode that does not exist."""


@dataclass(frozen=True)
class PlannerConfig:
    """``mode``: ``planner`` searches along the actor, ``actor`` is the actor's own future alone, ``cem`` searches without the actor.

    ``pace``: the actor is told no more than this share of the steps that the critic sees to the goal.
    """

    mode: str = "planner"
    seed: int = 0
    clearance_m: float = 0.012
    prior_weight: float = 1.0
    effort_weight: float = 0.0
    pace: float = 0.5
    rollouts: ActorRolloutsConfig = field(default_factory=ActorRolloutsConfig)
    cem: CemConfig = field(default_factory=CemConfig)


def build_solver(model: PlanningModel, tool_step: ToolStep, zones: Sequence[Zone], config: PlannerConfig) -> Solver:
    """The solver that ``config`` names.

    Raises:
        UnknownModeError: there is no such mode; the message lists those that exist.
    """
    rng = np.random.default_rng(config.seed)
    paced = PacedModel(model, config.pace)
    fences = [ZoneGuardrail(zone, config.clearance_m) for zone in zones]
    guardrails: list[Guardrail] = [WorkspaceGuardrail(tool_step), *fences]
    critics: list[Critic] = [TemporalDistanceCritic(model)]
    if config.effort_weight:
        critics.append(EffortCritic(config.effort_weight))
    if config.mode == "planner":
        critics.append(ActorPriorCritic(paced, config.prior_weight))
        return ActorRollouts(paced, tool_step, Objective(critics, guardrails), fences, config.rollouts, rng)
    if config.mode == "actor":
        # The actor's imagined future, for people to see; it knows of no zone.
        alone = ActorRolloutsConfig(samples=0, horizon=config.rollouts.horizon)
        return ActorRollouts(paced, tool_step, Objective(critics, guardrails[:1]), [], alone, rng)
    if config.mode == "cem":
        critics.append(LatentDistanceCritic())
        return Cem(model, tool_step, Objective(critics, guardrails), config.cem, rng)
    raise UnknownModeError(f"unknown planner mode '{config.mode}'; choose one of {', '.join(MODES)}")
