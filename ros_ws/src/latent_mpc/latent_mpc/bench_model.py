"""A model that says how much its graphs were asked to compute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latent_mpc.flops import count_file
from world_model.protocol import F32, ActionMixture, Context
from world_model.runtime import OnnxModel


class CountedModel:
    """A ``PlanningModel`` that does what ``model`` does; ``flop`` grows by what each call must compute at least. Needs onnx."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self.history, self.latent_dim, self.action_dim = model.history, model.latent_dim, model.action_dim
        self.flop = 0

    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """As the model's."""
        self._add("encoder", N=len(frames))
        return self._model.encode(frames, joints)

    def rollout(self, context: Context, actions: F32) -> F32:
        """As the model's."""
        self._add("rollout", N=len(actions), H=actions.shape[1])
        return self._model.rollout(context, actions)

    def distance(self, latents: F32, goal: F32) -> F32:
        """As the model's."""
        self._add("heads", N=len(latents))
        return self._model.distance(latents, goal)

    def propose(self, latents: F32, goal: F32, steps_left: NDArray[np.floating]) -> ActionMixture:
        """As the model's."""
        self._add("actor", N=len(latents))
        return self._model.propose(latents, goal, steps_left)

    def _add(self, graph: str, **sizes: int) -> None:
        self.flop += count_file(self._model.directory / f"{graph}.onnx", sizes).total
