"""The goal-conditioned actor: inverse dynamics over many steps, (z, z_goal, steps left) -> action distribution (GC-IDM, arXiv 2605.08732)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_MIN_LOG_STD = math.log(0.2)
_MAX_LOG_STD = 0.5
_MEAN_REACH = 1.2
_SOON = 4.0


class GoalActor(nn.Module):
    """A mixture of K Gaussians. The standard deviation has a floor of 0.2: below it the likelihood rewards memory, not skill."""

    def __init__(self, latent_dim: int, action_dim: int, width: int, depth: int, components: int, horizon: int, dropout: float) -> None:
        super().__init__()
        self.components = components
        self.horizon = float(horizon)
        self.enter = nn.Linear(3 * latent_dim + 3, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)) for _ in range(depth)
        )
        self.leave = nn.Linear(width, components * (2 * action_dim + 1))

    def forward(self, latents: Tensor, goals: Tensor, steps_left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``logits (N, K)``, ``mean (N, K, A)``, ``std (N, K, A)`` for ``latents (N, D)``, ``goals (N, D)``, ``steps_left (N,) float32``."""
        steps = steps_left[:, None]
        clock = torch.cat([steps / self.horizon, (steps / _SOON).clamp(max=1.0), 1.0 / steps.clamp(min=1.0)], dim=1)
        hidden = self.enter(torch.cat([latents, goals, goals - latents, clock], dim=1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        logits, rest = self.leave(hidden).split([self.components, self.leave.out_features - self.components], dim=1)
        mean, log_std = rest.view(latents.shape[0], self.components, -1).chunk(2, dim=-1)
        return logits, torch.tanh(mean) * _MEAN_REACH, log_std.clamp(_MIN_LOG_STD, _MAX_LOG_STD).exp()

    def negative_log_likelihood(self, latents: Tensor, goals: Tensor, steps_left: Tensor, actions: Tensor) -> Tensor:
        """``-log p(a)`` up to a constant for ``actions (N, A)``: ``(N,)``."""
        logits, mean, std = self(latents, goals, steps_left)
        log_density = (-0.5 * ((actions[:, None] - mean) / std) ** 2 - std.log()).sum(-1)
        return -torch.logsumexp(torch.log_softmax(logits, dim=1) + log_density, dim=1)
