"""The solvers by name: the one place to add one. A solver is a frozen dataclass of settings, and a strategy made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from planner_node.guardrails.zone import ZoneGuardrail
from planner_node.settings import SettingsError, meant, read_settings, require_counts
from planner_node.solvers.actor_rollouts import ActorRollouts, ActorRolloutsConfig
from planner_node.solvers.cem import Cem, CemConfig
from planner_node.solvers.gradient import Gradient, GradientConfig
from planner_node.solvers.icem import Icem, IcemConfig
from planner_node.solvers.mixture import Mixture, MixtureConfig
from planner_node.solvers.mppi import Mppi, MppiConfig
from planner_node.solvers.predictive_sampling import PredictiveSampling, PredictiveSamplingConfig
from planner_node.solvers.solver import Strategy
from world_model.protocol import Actor, DifferentiableDistance, DifferentiableRollout, WorldModel

# What the prototypes found (docs/solvers.md): a search along the actor needs its likelihood, one without it a cost that is sharp near the goal.
_ALONG_THE_ACTOR: Mapping[str, object] = {"temporal_distance": 1.0, "actor_prior": 1.0}
_FREE: Mapping[str, object] = {"temporal_distance": 1.0, "latent_distance": 5.0}


class UnknownSolverError(SettingsError):
    """A solver that does not exist."""


class NotDifferentiableError(SettingsError):
    """A model that gradients do not run through."""


@dataclass(frozen=True)
class Parts:
    """What a strategy may be made of: ``settings`` of all solvers are for those that are made of others."""

    model: WorldModel
    actor: Actor
    zones: Sequence[ZoneGuardrail]
    fenced: bool
    rng: np.random.Generator
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class SolverKind:
    """``config``: its settings; ``build``: a strategy from parts and settings; ``critics``: what it minimises unless told otherwise.

    ``descends``: it needs critics and a model with gradients. ``sees_zones``: off for the actor alone, which is shown as it is.
    """

    config: type[Any]
    build: Callable[[Parts, Any], Strategy]
    critics: Mapping[str, object]
    descends: bool = False
    sees_zones: bool = True


@dataclass(frozen=True)
class ActorConfig:
    """The actor's own future, ``horizon`` steps ahead. Nothing is searched."""

    horizon: int = 10

    def __post_init__(self) -> None:
        require_counts("actor", horizon=self.horizon)


def _actor_rollouts(parts: Parts, config: ActorRolloutsConfig) -> Strategy:
    return ActorRollouts(config, parts.actor, parts.zones, parts.fenced, parts.rng)


def _actor(parts: Parts, config: ActorConfig) -> Strategy:
    return ActorRollouts(ActorRolloutsConfig(samples=0, horizon=config.horizon), parts.actor, (), False, parts.rng)


def _gradient(parts: Parts, config: GradientConfig) -> Strategy:
    if not isinstance(parts.model, DifferentiableRollout) or not isinstance(parts.model, DifferentiableDistance):
        raise NotDifferentiableError(
            f"solver 'gradient' needs a model that gradients run through (world_model.differentiable), not {type(parts.model).__name__}"
        )
    parts.model.prepare()
    return Gradient(config, parts.model, parts.rng)


def _mixture(parts: Parts, config: MixtureConfig) -> Strategy:
    members = []
    for number, name in enumerate(config.members):
        kind, settings = solver_kind(name), configured(name, parts.settings)
        equally_far = {field.name: config.horizon for field in fields(settings) if field.name in ("horizon", "fenced_horizon")}
        settings = replace(settings, **equally_far)
        # A generator of its own each: what one member draws does not depend on who else is there.
        own = np.random.default_rng([number, *parts.rng.integers(0, 2**32, 4).tolist()])
        members.append(kind.build(replace(parts, rng=own), settings))
    return Mixture(members)


SOLVERS: dict[str, SolverKind] = {
    "actor_rollouts": SolverKind(ActorRolloutsConfig, _actor_rollouts, _ALONG_THE_ACTOR),
    "actor": SolverKind(ActorConfig, _actor, {"temporal_distance": 1.0}, sees_zones=False),
    "cem": SolverKind(CemConfig, lambda parts, config: Cem(config, parts.rng), _FREE),
    "icem": SolverKind(IcemConfig, lambda parts, config: Icem(config, parts.rng), _FREE),
    "mppi": SolverKind(MppiConfig, lambda parts, config: Mppi(config, parts.rng), _FREE),
    "predictive_sampling": SolverKind(PredictiveSamplingConfig, lambda parts, config: PredictiveSampling(config, parts.rng), _FREE),
    "gradient": SolverKind(GradientConfig, _gradient, _FREE, descends=True),
    "mixture": SolverKind(MixtureConfig, _mixture, _FREE),
}


def solver_kind(name: str) -> SolverKind:
    """The solver called ``name``.

    Raises:
        UnknownSolverError: there is none; the message lists those that exist.
    """
    if name not in SOLVERS:
        raise UnknownSolverError(f"unknown solver '{name}'; there are {', '.join(SOLVERS)}{meant(name, list(SOLVERS))}")
    return SOLVERS[name]


def configured(name: str, settings: Mapping[str, object]) -> Any:
    """The settings of the solver ``name``: those in ``settings``, as a mapping or read already, or its defaults.

    Raises:
        UnknownSolverError: there is no such solver.
        SettingsError: a setting is unknown, of the wrong type or out of range.
    """
    kind, content = solver_kind(name), settings.get(name)
    return content if isinstance(content, kind.config) else read_settings(kind.config, content, f"solver '{name}'")


def descends(name: str, settings: Mapping[str, object]) -> bool:
    """Whether the solver ``name``, or one that it is made of, needs gradients."""
    kind = solver_kind(name)
    if kind.config is MixtureConfig:
        return any(descends(member, settings) for member in configured(name, settings).members)
    return kind.descends
