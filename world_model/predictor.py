"""The action-conditioned predictor: from the last latents and actions to the next latent."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HistoryPredictor(nn.Module):
    """A residual network over the concatenated history of L latents and L actions: one token, no attention, a few hundred thousand parameters."""

    def __init__(self, latent_dim: int, action_dim: int, history: int, width: int, depth: int) -> None:
        super().__init__()
        self.history = history
        self.enter = nn.Linear(history * (latent_dim + action_dim), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for _ in range(depth)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent_dim))

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Next latent ``(B, D)`` after ``latents (B, L, D)`` and ``actions (B, L, A)``, the last of which is the one to imagine."""
        hidden = self.enter(torch.cat([latents.flatten(1), actions.flatten(1)], dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        change: Tensor = self.leave(hidden)
        return latents[:, -1] + change
