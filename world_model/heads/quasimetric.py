"""Quasi-metrics on the latent: distances that obey the triangle inequality and need not be the same there and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_COMPONENTS = 4


class QuasimetricHead(nn.Module):
    """Steps between two latents as a metric residual network (MRN, Liu 2023, arXiv 2208.08133) over an embedding.

    ``d(x, y) = || s(x) - s(y) ||_2 + mean_k max_m relu(a_km(x) - a_km(y))``: a symmetric part s, and an asymmetric part a in K components. Both are
    zero for x = y and obey the triangle inequality whatever the weights are. ``steps_per_unit`` brings d to steps at the pace of the data.
    """

    steps_per_unit: Tensor

    def __init__(self, latent_dim: int, width: int, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        outputs = 2 * embedding_dim
        self.embed = nn.Sequential(nn.Linear(latent_dim, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs))
        self.register_buffer("steps_per_unit", torch.ones(()))

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance ``(...)`` from embedding ``first (..., 2 * embedding_dim)`` to ``second``, which may broadcast."""
        gap = first - second
        symmetric, asymmetric = gap[..., : self.embedding_dim], gap[..., self.embedding_dim :]
        parts = torch.relu(asymmetric).reshape(*asymmetric.shape[:-1], _COMPONENTS, -1).amax(-1).mean(-1)
        distance: Tensor = torch.sqrt((symmetric**2).sum(-1) + 1e-8) + parts
        return distance

    def forward(self, latents: Tensor, goals: Tensor) -> Tensor:
        """Steps ``(...)`` from ``latents (..., D)`` to ``goals (..., D)``."""
        steps: Tensor = self.steps_per_unit * self.between(self.embed(latents), self.embed(goals))
        return steps
