"""The smallest predictor: a residual network on a history that is one vector. No attention, a few hundred thousand parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_model.predictors.predictor import StepPredictor


class OneTokenPredictor(StepPredictor):
    """Takes the concatenated history of L latents and L actions, and predicts the change of the latent."""

    def __init__(self, history: int, tokens: int, token_dim: int, action_dim: int, width: int, depth: int, dropout: float) -> None:
        super().__init__(history, tokens, token_dim, action_dim)
        latent_dim = tokens * token_dim
        self.enter = nn.Linear(history * (latent_dim + action_dim), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.Dropout(dropout)) for _ in range(depth)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent_dim))

    def step(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Next latent ``(N, D)`` after ``latents (N, L, D)`` and ``actions (N, L, A)``."""
        hidden = self.enter(torch.cat([latents.flatten(1), actions.flatten(1)], dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        change: Tensor = self.leave(hidden)
        return latents[:, -1] + change
