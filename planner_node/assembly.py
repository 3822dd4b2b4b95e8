"""A solver with its critics, guardrails and validator, put together by name. `solvers.registry` and `critics.registry` are where to add one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from arm_model import ToolStep
from planner_node.action import ActionMeaning
from planner_node.critics.registry import Sources, build_critics
from planner_node.guardrails.guardrail import Guardrail
from planner_node.guardrails.keep_out import KeepOutGuardrail
from planner_node.guardrails.learned import LearnedGuardrail
from planner_node.guardrails.workspace import WorkspaceGuardrail
from planner_node.guardrails.zone import Zone, ZoneError, ZoneGuardrail
from planner_node.objective import Objective
from planner_node.pace import PacedModel
from planner_node.solvers.registry import Parts, configured, descends, solver_kind
from planner_node.solvers.search import Imagination
from planner_node.solvers.solver import AnytimeSolver
from planner_node.validator import PlanValidator, ValidatedSolver
from world_model.protocol import CostHead, PlanningModel, SafetyHead

MODES = ("planner", "actor", "cem")
_SOLVER_OF = {"planner": "actor_rollouts"}


@dataclass(frozen=True)
class PlannerConfig:
    """``mode``: ``planner``, the default, searches along the actor; or the name of any solver, such as ``actor`` (alone) or ``cem``.

    ``critics``: weights or settings by name, None for the solver's own; ``solvers``: settings by solver's name, others have defaults; ``batch``: how
    many candidates are imagined at once, 0 for all. ``pace``: the actor is told no more than this share of the steps that the critic sees.
    ``heads`` are learned guardrails, evaluated on what is imagined; the actor alone knows neither them nor zones. ``cost_heads`` are what the critic
    ``goal_cost`` may name; ``guardrails`` judge the commanded tool path, besides workspace and zones.
    """

    mode: str = "planner"
    seed: int = 0
    clearance_m: float = 0.012
    pace: float = 0.5
    batch: int = 0
    critics: Mapping[str, object] | None = None
    solvers: Mapping[str, object] = field(default_factory=dict)
    heads: tuple[SafetyHead, ...] = ()
    cost_heads: tuple[CostHead, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()

    @property
    def solver(self) -> str:
        """The solver that ``mode`` stands for."""
        return _SOLVER_OF.get(self.mode, self.mode)


def build_solver(model: PlanningModel, meaning: ActionMeaning, zones: Sequence[Zone], config: PlannerConfig) -> ValidatedSolver:
    """The solver that ``config`` names, with a validator behind it.

    Raises:
        UnknownSolverError: there is no such solver; the message lists those that exist.
        SettingsError: a critic or a setting does not exist, or has a value that makes no sense.
        NotDifferentiableError: the solver needs gradients and the model has none.
        NoGradientError: it does, and a critic has none.
        ZoneError: there are zones, but no tool point that could enter one.
    """
    kind, settings = solver_kind(config.solver), configured(config.solver, config.solvers)
    paced = PacedModel(model, config.pace)
    fences = [ZoneGuardrail(zone, config.clearance_m) for zone in zones]
    workspace: list[Guardrail] = [WorkspaceGuardrail(meaning)] if isinstance(meaning, ToolStep) else []
    if fences and not workspace:
        raise ZoneError("zones are for arms: these actions move no tool point")
    guardrails = [*workspace, *fences, *config.guardrails] if kind.sees_zones else workspace
    learned = [LearnedGuardrail(head) for head in config.heads] if kind.sees_zones else []
    critics = build_critics(kind.critics if config.critics is None else config.critics, Sources(model, paced, config.cost_heads))
    objective = Objective(critics, guardrails, learned)
    if descends(config.solver, config.solvers):
        objective.differentiable()
    # Solids, and zones of the guardrails' own file, stand in the way as zones do, although nothing is slid along them.
    fenced = bool(fences) or bool(learned) or any(isinstance(guardrail, KeepOutGuardrail | ZoneGuardrail) for guardrail in config.guardrails)
    parts = Parts(model, paced, fences, fenced, np.random.default_rng(config.seed), config.solvers)
    strategy = kind.build(parts, settings)
    imagination = Imagination(model, meaning, objective, config.batch)
    return ValidatedSolver(AnytimeSolver(config.solver, strategy, imagination), PlanValidator(imagination))
