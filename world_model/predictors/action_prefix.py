"""All steps of a plan in one pass: prediction h from the context and the action prefix a_1..a_h (Fast-LeWM, arXiv 2606.26217)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_model.predictors.attention import ModulatedBlock, ModulatedReadout, embed_actions, positions
from world_model.predictors.predictor import Predictor


class ActionPrefixPredictor(Predictor):
    """A transformer over the H steps ahead, K tokens each, that starts from the newest latent and looks at the L latents of the context.

    Step h sees the context and the steps up to h, is steered by action h, and never sees an imagined latent: errors do not feed on themselves within
    ``horizon`` steps. Longer plans roll on from what was imagined. Untrained, it predicts that nothing changes.
    """

    sees: Tensor

    def __init__(
        self, history: int, tokens: int, token_dim: int, action_dim: int, width: int, depth: int, heads: int, dropout: float, horizon: int
    ) -> None:
        super().__init__(history, tokens, token_dim, action_dim)
        self.horizon = horizon
        self.enter = nn.Linear(token_dim, width)
        self.start = nn.Linear(token_dim, width)
        self.frame_position = positions(history, width)
        self.step_position = positions(horizon, width)
        self.token_position = positions(tokens, width)
        self.embed = embed_actions(action_dim, width)
        self.now = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads, dropout) for _ in range(depth))
        self.readout = ModulatedReadout(width, token_dim)
        context = torch.ones(horizon, history, dtype=torch.bool)
        steps = torch.ones(horizon, horizon, dtype=torch.bool).tril()
        self.register_buffer("sees", torch.cat([context, steps], dim=1), persistent=False)

    def forward(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        """Latents ``(N, H, D)`` after each of ``actions (N, H, A)``; beyond ``horizon`` from pass to pass."""
        passes = []
        for chunk in torch.split(actions, self.horizon, dim=1):
            imagined = self.one_pass(latents, past_actions, chunk)
            passes.append(imagined)
            latents = torch.cat([latents, imagined], dim=1)[:, -self.history :]
            past_actions = torch.cat([past_actions, chunk], dim=1)[:, chunk.shape[1] :]
        return torch.cat(passes, dim=1)

    def one_pass(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        """Latents ``(N, H, D)`` for H up to ``horizon``, from ``latents (N, L, D)`` with ``past_actions (N, L-1, A)`` between them."""
        count, ahead = actions.shape[:2]
        frames = latents.reshape(count, self.history, self.tokens, self.token_dim)
        context = self.enter(frames) + self.frame_position[:, None] + self.token_position
        steps = (self.start(frames[:, -1]) + self.token_position)[:, None] + self.step_position[:ahead, None]
        # What was done after a frame steers it as it steers a step; after the newest nothing was done yet.
        past = torch.cat([self.embed(past_actions), self.now.expand(count, 1, -1)], dim=1)
        ahead_condition = self.embed(actions)
        condition = torch.cat([past, ahead_condition], dim=1)
        context, steps = self.dropout(context), self.dropout(steps)
        for block in self.blocks:
            steps = block(torch.cat([context, steps], dim=1), condition, self.sees[:ahead, : self.history + ahead], self.history)
        change: Tensor = self.readout(steps, ahead_condition)
        return latents[:, -1:] + change.flatten(2)
