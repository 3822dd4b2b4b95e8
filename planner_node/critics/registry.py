"""The critics by name: the one place to add one. Each is a frozen dataclass; its fields are what YAML may set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner_node.critics.actor_prior import ActorPriorCritic
from planner_node.critics.critic import Critic
from planner_node.critics.effort import EffortCritic
from planner_node.critics.goal_cost import GoalCostCritic
from planner_node.critics.latent_distance import LatentDistanceCritic
from planner_node.critics.smoothness import SmoothnessCritic
from planner_node.critics.temporal_distance import TemporalDistanceCritic
from planner_node.critics.terminal_value import TerminalValueCritic
from planner_node.critics.unfamiliarity import UnfamiliarityCritic
from planner_node.settings import SettingsError, meant, read_settings
from world_model.protocol import Actor, CostHead, TemporalDistance


class CriticError(SettingsError):
    """A critic that does not exist or cannot be built, with the reason in one line."""


@dataclass(frozen=True)
class Sources:
    """What critics may be made of: learned heads, never the dynamics."""

    distance: TemporalDistance
    actor: Actor
    cost_heads: tuple[CostHead, ...] = ()


def _no_source(sources: Sources, settings: dict[str, object]) -> dict[str, object]:
    return {}


def _distance(sources: Sources, settings: dict[str, object]) -> dict[str, object]:
    return {"head": sources.distance}


def _actor(sources: Sources, settings: dict[str, object]) -> dict[str, object]:
    return {"actor": sources.actor}


def _cost_head(sources: Sources, settings: dict[str, object]) -> dict[str, object]:
    """The head that is called as the setting ``head`` says, or the only one."""
    known = {head.name: head for head in sources.cost_heads}
    asked = settings.pop("head", None)
    if asked is None and len(known) == 1:
        return {"head": next(iter(known.values()))}
    if not isinstance(asked, str) or asked not in known:
        listed = ", ".join(known) or "none: fit one with `latent-mpc head fit` and open it"
        raise CriticError(f"critic 'goal_cost' needs a cost head, not {asked!r}; there is {listed}")
    return {"head": known[asked]}


@dataclass(frozen=True)
class CriticKind:
    """A critic's class, and where the fields come from that are no settings."""

    kind: type[Any]
    given: Callable[[Sources, dict[str, object]], dict[str, object]] = _no_source


CRITICS: dict[str, CriticKind] = {
    "temporal_distance": CriticKind(TemporalDistanceCritic, _distance),
    "terminal_value": CriticKind(TerminalValueCritic, _distance),
    "latent_distance": CriticKind(LatentDistanceCritic),
    "goal_cost": CriticKind(GoalCostCritic, _cost_head),
    "actor_prior": CriticKind(ActorPriorCritic, _actor),
    "effort": CriticKind(EffortCritic),
    "smoothness": CriticKind(SmoothnessCritic),
    "unfamiliarity": CriticKind(UnfamiliarityCritic),
}


def build_critics(settings: Mapping[str, object], sources: Sources) -> list[Critic]:
    """The critics that ``settings`` name, in their order; a mere number stands for a weight, and a weight of 0 leaves the critic out.

    Raises:
        CriticError: there is no such critic, a weight is negative or not finite, a head is missing, or no critic is left.
        SettingsError: a setting is unknown or of the wrong type.
    """
    critics = [_built(name, content, sources) for name, content in settings.items()]
    weighing = [critic for critic in critics if critic.weight > 0]
    if not weighing:
        raise CriticError(f"no critic has a weight: a search needs something to look for; there are {', '.join(CRITICS)}")
    return weighing


def _built(name: str, content: object, sources: Sources) -> Critic:
    if name not in CRITICS:
        raise CriticError(f"unknown critic '{name}'; there are {', '.join(CRITICS)}{meant(str(name), list(CRITICS))}")
    if isinstance(content, (int, float)) and not isinstance(content, bool):
        content = {"weight": content}
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise CriticError(f"critic '{name}' needs a weight or a mapping of settings, not {content!r}")
    rest = dict(content)
    given = CRITICS[name].given(sources, rest)
    critic: Critic = read_settings(CRITICS[name].kind, rest, f"critic '{name}'", given)
    if not 0 <= critic.weight < np.inf:
        raise CriticError(f"critic '{name}': weight is {critic.weight}, must be finite and at least 0")
    return critic
