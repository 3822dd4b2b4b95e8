"""The temporal distance by regression: a critic that needs no labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TemporalDistanceHead(nn.Module):
    """Steps between two latents as the Euclidean distance of their embeddings.

    The latent's own distance is local: SIGReg whitens it, and it saturates a few steps away. Regressed on ``|i - j|`` of two frames of one episode
    with an expectile below one half, the embedding's distance leans towards the shortest way that was seen between two scenes.
    """

    def __init__(self, latent_dim: int, width: int, embedding_dim: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(latent_dim, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, embedding_dim))

    def forward(self, latents: Tensor, goals: Tensor) -> Tensor:
        """Steps ``(...)`` between ``latents (..., D)`` and ``goals (..., D)``."""
        return torch.sqrt(((self.embed(latents) - self.embed(goals)) ** 2).sum(-1) + 1e-8)
