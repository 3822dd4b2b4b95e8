"""What a critic is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from planner_node.plan import Candidates, Problem
from world_model.protocol import F32


class Critic(Protocol):
    """Judges imagined futures; it sees what was imagined, never the model that imagined it."""

    @property
    def name(self) -> str:
        """How its share is called in a plan's terms."""
        ...

    @property
    def weight(self) -> float:
        """By what its cost is multiplied."""
        ...

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """A cost for each candidate, ``(N,)``, before the weight."""
        ...


@dataclass(frozen=True)
class Slope:
    """Derivatives of each candidate's cost: by its ``latents (N, H, D)`` and by its ``actions (N, H, A)``, each with the other held."""

    latents: F32
    actions: F32


@runtime_checkable
class DifferentiableCritic(Critic, Protocol):
    """A critic that a gradient solver can descend on. The chain through the dynamics is the solver's business."""

    def slope(self, problem: Problem, candidates: Candidates) -> Slope:
        """Derivatives of ``cost``, before the weight."""
        ...


def level(candidates: Candidates) -> Slope:
    """No slope anywhere, as a place to write one into."""
    return Slope(np.zeros_like(candidates.latents), np.zeros_like(candidates.actions))
