"""Solvers by name, with their critics and guardrails: the one place to add a solver, a critic or a guardrail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from arm_model import ToolStep
from planner_node.action import ActionMeaning
from planner_node.critics.actor_prior import ActorPriorCritic
from planner_node.critics.critic import Critic
from planner_node.critics.effort import EffortCritic
from planner_node.critics.latent_distance import LatentDistanceCritic
from planner_node.critics.temporal_distance import TemporalDistanceCritic
from planner_node.guardrails.guardrail import Guardrail
from planner_node.guardrails.learned import LearnedGuardrail
from planner_node.guardrails.workspace import WorkspaceGuardrail
from planner_node.guardrails.zone import Zone, ZoneError, ZoneGuardrail
from planner_node.objective import Objective
from planner_node.pace import PacedModel
from planner_node.solvers.actor_rollouts import ActorRollouts, ActorRolloutsConfig
from planner_node.solvers.cem import Cem, CemConfig
from planner_node.solvers.solver import Solver
from world_model.protocol import PlanningModel, SafetyHead

MODES = ("planner", "actor", "cem")


class UnknownModeError(ValueError):
    """A planner mode that does not exist."""


@dataclass(frozen=True)
class PlannerConfig:
    """``mode``: ``planner`` searches along the actor, ``actor`` is the actor's own future alone, ``cem`` searches without the actor.

    ``heads`` are learned guardrails, evaluated on what is imagined; the actor alone knows neither them nor zones.
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
    heads: tuple[SafetyHead, ...] = ()


def build_solver(model: PlanningModel, meaning: ActionMeaning, zones: Sequence[Zone], config: PlannerConfig) -> Solver:
    """The solver that ``config`` names.

    Raises:
        UnknownModeError: there is no such mode; the message lists those that exist.
        ZoneError: there are zones, but no tool point that could enter one.
    """
    rng = np.random.default_rng(config.seed)
    paced = PacedModel(model, config.pace)
    fences = [ZoneGuardrail(zone, config.clearance_m) for zone in zones]
    workspace: list[Guardrail] = [WorkspaceGuardrail(meaning)] if isinstance(meaning, ToolStep) else []
    if fences and not workspace:
        raise ZoneError("zones are for arms: these actions move no tool point")
    guardrails = [*workspace, *fences]
    learned = [LearnedGuardrail(head) for head in config.heads]
    critics: list[Critic] = [TemporalDistanceCritic(model)]
    if config.effort_weight:
        critics.append(EffortCritic(config.effort_weight))
    if config.mode == "planner":
        critics.append(ActorPriorCritic(paced, config.prior_weight))
        return ActorRollouts(paced, meaning, Objective(critics, guardrails, learned), fences, config.rollouts, rng)
    if config.mode == "actor":
        # The actor's imagined future, for people to see; it knows of no zone.
        alone = ActorRolloutsConfig(samples=0, horizon=config.rollouts.horizon)
        return ActorRollouts(paced, meaning, Objective(critics, workspace), [], alone, rng)
    if config.mode == "cem":
        critics.append(LatentDistanceCritic())
        return Cem(model, meaning, Objective(critics, guardrails, learned), config.cem, rng)
    raise UnknownModeError(f"unknown planner mode '{config.mode}'; choose one of {', '.join(MODES)}")
