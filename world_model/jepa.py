"""The model: a joint-embedding predictive architecture with actions. It predicts latents, never pixels (LeWorldModel, arXiv 2603.19312)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from world_model.encoders.encoder import Encoder
from world_model.encoders.proprioception import Proprioception
from world_model.predictors.predictor import Predictor


@dataclass(frozen=True)
class Prediction:
    """What was predicted for windows of T latents.

    ``next (B, T-1, D)``: the second to the last, each one step from true history. ``imagined (B, T-L, D)``: those after the first L, from these.
    """

    next: Tensor
    imagined: Tensor


class Jepa(nn.Module):
    """An encoder with a projector to ``tokens`` x ``token_dim`` numbers, a predictor on L latents of history and, where it is told them, joints.

    To everyone outside a latent is one vector of ``latent_dim`` D = K d numbers, token after token.
    """

    def __init__(self, encoder: Encoder, predictor: Predictor, token_dim: int, proprioception: Proprioception | None = None) -> None:
        super().__init__()
        self.tokens = encoder.tokens
        self.token_dim = token_dim
        self.latent_dim = encoder.tokens * token_dim
        self.encoder = encoder
        self.projector = nn.Sequential(nn.Linear(encoder.feature_dim, token_dim), nn.BatchNorm1d(token_dim, affine=False))
        self.predictor = predictor
        self.proprioception = proprioception

    def encode(self, frames: Tensor, joints: Tensor | None = None) -> Tensor:
        """Latents ``(B, D)`` of ``frames (B, h, w, 3) uint8`` and, for a model with proprioception, ``joints (B, J)`` rad.

        Rows of joints with NaN, and None, mean that they are unknown. Models without proprioception ignore them.
        """
        features = self.encoder(frames)
        projected = self.projector[0](features)
        if self.proprioception is not None:
            if joints is None:
                joints = projected.new_full((len(frames), self.proprioception.joints), torch.nan)
            projected = projected + self.proprioception(joints)[:, None]
        latents: Tensor = self.projector[1](projected.flatten(0, 1))  # its statistics are over frames and tokens
        return latents.reshape(features.shape[0], self.latent_dim)

    def shape(self) -> dict[str, Any]:
        """What its shape depends on besides the configuration, as plain data: it travels with the weights, so that no other folder is needed."""
        return {"joints": 0 if self.proprioception is None else self.proprioception.joints, "backbone": self.encoder.backbone_config}

    def rollout(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        """Imagined latents ``(N, H, D)``: ``latents (N, L, D)``, ``past_actions (N, L-1, A)``, ``actions (N, H, A)``."""
        imagined: Tensor = self.predictor(latents, past_actions, actions)
        return imagined

    def predict_window(self, latents: Tensor, actions: Tensor) -> Prediction:
        """Predictions inside windows ``latents (B, T, D)``, ``actions (B, T-1, A)`` with T > L.

        History before the start of a window is its first latent, at rest.
        """
        history = self.predictor.history
        batch, length, dim = latents.shape
        padded = torch.cat([latents[:, :1].expand(-1, history - 1, -1), latents[:, :-1]], dim=1)
        padded_actions = torch.cat([actions.new_zeros(batch, history - 1, actions.shape[2]), actions], dim=1)
        windows = padded.unfold(1, history, 1).transpose(2, 3).reshape(-1, history, dim)
        action_windows = padded_actions.unfold(1, history, 1).transpose(2, 3).reshape(-1, history, actions.shape[2])
        after = self.predictor(windows, action_windows[:, :-1], action_windows[:, -1:])
        imagined = self.rollout(latents[:, :history], actions[:, : history - 1], actions[:, history - 1 :])
        return Prediction(after.view(batch, length - 1, dim), imagined)
