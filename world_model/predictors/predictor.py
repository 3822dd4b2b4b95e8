"""What a predictor is."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn


class Predictor(nn.Module):
    """Imagines the latents that follow ``history`` = L latents under H actions.

    A latent is one vector of ``D = tokens * token_dim`` numbers, the tokens of a frame one after the other. Prediction h depends on the actions up to
    h only: an outcome cannot know what is done after it.
    """

    def __init__(self, history: int, tokens: int, token_dim: int, action_dim: int) -> None:
        super().__init__()
        self.history = history
        self.tokens = tokens
        self.token_dim = token_dim
        self.action_dim = action_dim

    @abstractmethod
    def forward(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        """Latents ``(N, H, D)`` after each of ``actions (N, H, A)``, from ``latents (N, L, D)`` with ``past_actions (N, L-1, A)`` between them."""


class StepPredictor(Predictor):
    """A predictor that imagines one step at a time, each from the last L latents, imagined ones included."""

    @abstractmethod
    def step(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Next latent ``(N, D)`` after ``latents (N, L, D)`` and ``actions (N, L, A)``, the last of which is the one to imagine."""

    def forward(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        """Latents ``(N, H, D)`` after each of ``actions (N, H, A)``; gradients run through the whole of the rollout."""
        imagined = []
        for place in range(actions.shape[1]):
            window = torch.cat([past_actions, actions[:, place : place + 1]], dim=1)
            after = self.step(latents, window)
            imagined.append(after)
            latents = torch.cat([latents[:, 1:], after[:, None]], dim=1)
            past_actions = window[:, 1:]
        return torch.stack(imagined, dim=1)
