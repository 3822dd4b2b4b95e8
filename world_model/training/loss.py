"""The loss: predictions in latent space, and what keeps the latents from collapsing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from world_model.jepa import Jepa
from world_model.objectives import AntiCollapse, Window


def loss_terms(
    jepa: Jepa, objective: AntiCollapse, latents: Tensor, targets: Tensor, actions: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """The terms of training for windows ``latents (B, T, D)``, what to predict ``targets (B, T, D)``, and ``actions (B, T-1, A)``.

    ``next``: squared error of one step from true history, at every place of the window. ``rollout``: squared error of imagining from the first L
    latents to the end of the window. ``penalty``: the objective against collapse, weighted.
    """
    predicted = jepa.predict_window(latents, actions)

    def as_tokens(values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], jepa.tokens, jepa.token_dim)

    return {
        "next": functional.mse_loss(predicted.next, targets[:, 1:]),
        "rollout": functional.mse_loss(predicted.imagined, targets[:, jepa.predictor.history :]),
        "penalty": objective(Window(as_tokens(latents), as_tokens(targets), as_tokens(predicted.next)), generator),
    }


class Loss(nn.Module):
    """The model with its objective, as one module: data parallelism wraps a forward pass."""

    def __init__(self, jepa: Jepa, objective: AntiCollapse) -> None:
        super().__init__()
        self.jepa = jepa
        self.objective = objective

    def forward(
        self, frames: Tensor, actions: Tensor, generator: torch.Generator, joints: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss, its terms, and the latents ``(B, T, D)`` of ``frames (B, T, h, w, 3) uint8`` with ``actions (B, T-1, A)`` between them.

        ``joints (B, T, J)`` are for a model with proprioception.
        """
        latents = self.jepa.encode(frames.flatten(0, 1), None if joints is None else joints.flatten(0, 1)).view(*frames.shape[:2], -1)
        shape = (*frames.shape[:2], self.jepa.tokens, self.jepa.token_dim)
        targets = self.objective.targets(frames, latents.view(shape), joints).flatten(2)
        terms = loss_terms(self.jepa, self.objective, latents, targets, actions, generator)
        loss = self.objective.prediction_weight * (terms["next"] + terms["rollout"]) + terms["penalty"]
        return loss, terms, latents
