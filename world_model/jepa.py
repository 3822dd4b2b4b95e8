"""The model: a joint-embedding predictive architecture with actions. It predicts latents, never pixels (LeWorldModel, arXiv 2603.19312)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from world_model.objectives import sigreg
from world_model.predictor import HistoryPredictor


class Jepa(nn.Module):
    """An encoder with a projector to D dimensions, and a predictor on L latents of history."""

    def __init__(self, encoder: nn.Module, feature_dim: int, predictor: HistoryPredictor, latent_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Sequential(nn.Linear(feature_dim, latent_dim), nn.BatchNorm1d(latent_dim, affine=False))
        self.predictor = predictor

    def encode(self, frames: Tensor) -> Tensor:
        """Latents ``(B, D)`` of ``frames (B, h, w, 3) uint8``."""
        latents: Tensor = self.projector(self.encoder(frames))
        return latents

    def rollout(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        """Imagined latents ``(N, H, D)``: ``latents (N, L, D)``, ``past_actions (N, L-1, A)``, ``actions (N, H, A)``."""
        imagined = []
        for step in range(actions.shape[1]):
            window = torch.cat([past_actions, actions[:, step : step + 1]], dim=1)
            after = self.predictor(latents, window)
            imagined.append(after)
            latents = torch.cat([latents[:, 1:], after[:, None]], dim=1)
            past_actions = window[:, 1:]
        return torch.stack(imagined, dim=1)

    def losses(self, latents: Tensor, actions: Tensor, directions: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The three terms of training for windows ``latents (B, T, D)`` and ``actions (B, T-1, A)``.

        ``next``: squared error of one step from true history, at every place of the window (history before its start is the first latent at rest).
        ``rollout``: squared error of imagining from the first L latents to the end of the window. ``sigreg``: distance of the latents from N(0, I).
        Gradients flow through targets too: SIGReg, not a stop-gradient, prevents collapse.
        """
        history = self.predictor.history
        batch, length, dim = latents.shape
        padded = torch.cat([latents[:, :1].expand(-1, history - 1, -1), latents[:, :-1]], dim=1)
        padded_actions = torch.cat([actions.new_zeros(batch, history - 1, actions.shape[2]), actions], dim=1)
        windows = padded.unfold(1, history, 1).transpose(2, 3).reshape(-1, history, dim)
        action_windows = padded_actions.unfold(1, history, 1).transpose(2, 3).reshape(-1, history, actions.shape[2])
        predicted = self.predictor(windows, action_windows).view(batch, length - 1, dim)
        imagined = self.rollout(latents[:, :history], actions[:, : history - 1], actions[:, history - 1 :])
        return {
            "next": functional.mse_loss(predicted, latents[:, 1:]),
            "rollout": functional.mse_loss(imagined, latents[:, history:]),
            "sigreg": sigreg(latents.flatten(0, 1), directions, generator),
        }
