"""What a planner may ask of a world model. Torch, ONNX Runtime and a test double answer alike; arrays are NumPy throughout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Context:
    """What the predictor is conditioned on: L latents, oldest first, and the L-1 actions between them.

    ``latents (N, L, D) float32`` and ``actions (N, L-1, A) float32``; L is the model's history length.
    """

    latents: F32
    actions: F32

    def extended(self, actions: F32, latents: F32) -> Context:
        """The context one step later, after ``actions (N, A)`` led to ``latents (N, D)``."""
        return Context(
            latents=np.concatenate([self.latents[:, 1:], latents[:, None]], axis=1),
            actions=np.concatenate([self.actions[:, 1:], actions[:, None]], axis=1),
        )

    def after(self, actions: F32, latents: F32) -> Context:
        """The context H steps later, after ``actions (N, H, A)`` led through ``latents (N, H, D)``."""
        length = self.latents.shape[1]
        return Context(
            latents=np.concatenate([self.latents, latents], axis=1)[:, -length:],
            actions=np.concatenate([self.actions, actions], axis=1)[:, actions.shape[1] :],
        )

    def repeated(self, count: int) -> Context:
        """The same context for ``count`` candidates; ``self`` must hold one."""
        return Context(np.repeat(self.latents, count, axis=0), np.repeat(self.actions, count, axis=0))


@dataclass(frozen=True)
class ActionMixture:
    """A mixture of K Gaussians over actions: ``logits (N, K)``, ``mean (N, K, A)``, ``std (N, K, A)``, all float32."""

    logits: F32
    mean: F32
    std: F32

    def repeated(self, count: int) -> ActionMixture:
        """The same distribution for ``count`` actions; ``self`` must hold one."""
        return ActionMixture(*(np.repeat(values, count, axis=0) for values in (self.logits, self.mean, self.std)))

    def mode(self) -> F32:
        """The mean of the component with the highest density at its own mean, clipped to [-1, 1]: ``(N, A)``."""
        peak = (self._log_weights() - np.log(self.std).sum(-1)).argmax(-1)
        best: F32 = np.clip(self.mean[np.arange(len(peak)), peak], -1.0, 1.0)
        return best

    def sample(self, rng: np.random.Generator) -> F32:
        """One action for each row, clipped to [-1, 1]: ``(N, A)``."""
        gumbel = rng.gumbel(size=self.logits.shape)
        pick = (self._log_weights() + gumbel).argmax(-1)
        rows = np.arange(len(pick))
        noise = rng.standard_normal((len(pick), self.mean.shape[-1]))
        drawn: F32 = np.clip(self.mean[rows, pick] + self.std[rows, pick] * noise, -1.0, 1.0).astype(np.float32)
        return drawn

    def negative_log_likelihood(self, actions: F32) -> F32:
        """``-log p(a)`` up to the constant ``A/2 log 2 pi``, for ``actions (N, A)``: ``(N,)``."""
        standard = (actions[:, None] - self.mean) / self.std
        terms = self._log_weights() - 0.5 * (standard**2).sum(-1) - np.log(self.std).sum(-1)
        top = terms.max(-1, keepdims=True)
        result: F32 = -(top[:, 0] + np.log(np.exp(terms - top).sum(-1)))
        return result

    def _log_weights(self) -> F32:
        top = self.logits.max(-1, keepdims=True)
        shifted: F32 = self.logits - top - np.log(np.exp(self.logits - top).sum(-1, keepdims=True))
        return shifted


class WorldModel(Protocol):
    """Encodes frames and imagines what actions lead to."""

    history: int
    latent_dim: int
    action_dim: int

    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """Latents ``(B, D)`` of frames ``(B, h, w, 3) uint8`` RGB in the model's own picture size.

        A model with proprioception also looks at the joint positions ``(B, J)`` rad at each frame; rows with NaN, and None, mean unknown.
        """
        ...

    def rollout(self, context: Context, actions: F32) -> F32:
        """Imagined latents ``(N, H, D)`` after each of ``actions (N, H, A)``."""
        ...


class TemporalDistance(Protocol):
    """A learned critic: how many steps lie between two latents."""

    def distance(self, latents: F32, goal: F32) -> F32:
        """Steps ``(N,)`` from ``latents (N, D)`` to ``goal (D,)``."""
        ...


class Actor(Protocol):
    """A goal-conditioned policy, used as the planner's proposal and prior."""

    def propose(self, latents: F32, goal: F32, steps_left: NDArray[np.floating]) -> ActionMixture:
        """Action distributions for ``latents (N, D)``, one ``goal (D,)`` and ``steps_left (N,)``."""
        ...


class SafetyHead(Protocol):
    """A learned guardrail: how far a scene is from what is forbidden."""

    @property
    def name(self) -> str:
        """How it is called in messages."""
        ...

    def margins(self, latents: F32) -> F32:
        """Margins ``(N,)`` of ``latents (N, D)`` in the head's own unit; at least 0 is safe."""
        ...


class CostHead(Protocol):
    """A learned cost of a scene, such as ``world_model.heads`` fits to what a person said of frames."""

    @property
    def name(self) -> str:
        """How it is called."""
        ...

    def values(self, latents: F32) -> F32:
        """Costs ``(N, 1)`` of ``latents (N, D)``; the lower, the better."""
        ...


@runtime_checkable
class DifferentiableDistance(Protocol):
    """A temporal distance that can be descended on."""

    def distance_gradient(self, latents: F32, goal: F32) -> F32:
        """Derivative ``(N, D)`` of the distance, in steps, by ``latents (N, D)``."""
        ...


@runtime_checkable
class DifferentiableRollout(Protocol):
    """Dynamics that can be descended through."""

    def prepare(self) -> None:
        """Load what gradients need; a second call does nothing.

        Raises:
            ValueError: it is not there, in one line.
        """
        ...

    def pullback(self, context: Context, actions: F32) -> tuple[F32, Callable[[F32], F32]]:
        """Imagined latents ``(N, H, D)`` as ``rollout`` gives them, and the map from a slope by these to the slope ``(N, H, A)`` by the actions.

        The map is the transposed Jacobian of each candidate's rollout.
        """
        ...


class PlanningModel(WorldModel, TemporalDistance, Actor, Protocol):
    """All that the default planner needs in one object, such as a bundle."""
