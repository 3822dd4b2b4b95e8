"""How many steps the actor is told it has: with all the time in the world it dawdles, as its teachers did."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from world_model.protocol import F32, ActionMixture, Context, PlanningModel


class PacedModel:
    """The same model with an actor in a hurry: it is told no more than ``share`` of the steps that the critic sees to the goal, and one.

    The critic counts steps at the pace of the data, much of which is noise and detours: half of them are enough.
    """

    def __init__(self, model: PlanningModel, share: float) -> None:
        if share <= 0:
            raise ValueError(f"pace is {share}, must be positive")
        self._model = model
        self._share = share
        self.history, self.latent_dim, self.action_dim = model.history, model.latent_dim, model.action_dim

    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """As the model does."""
        return self._model.encode(frames, joints)

    def rollout(self, context: Context, actions: F32) -> F32:
        """As the model does."""
        return self._model.rollout(context, actions)

    def distance(self, latents: F32, goal: F32) -> F32:
        """As the model does."""
        return self._model.distance(latents, goal)

    def propose(self, latents: F32, goal: F32, steps_left: NDArray[np.floating]) -> ActionMixture:
        """As the model does with ``steps_left (N,)``, or with fewer."""
        return self._model.propose(latents, goal, np.minimum(steps_left, self._share * self._model.distance(latents, goal) + 1.0))
