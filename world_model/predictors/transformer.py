"""A causal transformer over the history, steered by actions: the predictor of DINO-WM and LeWorldModel (arXiv 2411.04983, 2603.19312)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_model.predictors.attention import ModulatedBlock, ModulatedReadout, embed_actions, positions
from world_model.predictors.predictor import StepPredictor


class TransformerPredictor(StepPredictor):
    """Each token of each frame is changed into that of the next; a token sees all tokens of its own and of earlier frames (block-causal).

    The action that follows a frame steers all of its tokens by AdaLN-zero. Untrained, it predicts that nothing changes.
    """

    sees: Tensor

    def __init__(self, history: int, tokens: int, token_dim: int, action_dim: int, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__(history, tokens, token_dim, action_dim)
        self.enter = nn.Linear(token_dim, width)
        self.frame_position = positions(history, width)
        self.token_position = positions(tokens, width)
        self.embed = embed_actions(action_dim, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads, dropout) for _ in range(depth))
        self.readout = ModulatedReadout(width, token_dim)
        self.register_buffer("sees", torch.ones(history, history, dtype=torch.bool).tril(), persistent=False)

    def places(self, latents: Tensor, actions: Tensor) -> Tensor:
        """What follows each of ``latents (N, L, D)`` when the action after it is that of ``actions (N, L, A)``: ``(N, L, D)``."""
        return self._predict(latents, actions, fixed=0)

    def step(self, latents: Tensor, actions: Tensor) -> Tensor:
        """Next latent ``(N, D)`` after ``latents (N, L, D)`` and ``actions (N, L, A)``: the last of the places, and the last layer for it alone."""
        return self._predict(latents, actions, fixed=self.history - 1)[:, 0]

    def _predict(self, latents: Tensor, actions: Tensor, fixed: int) -> Tensor:
        frames = latents.reshape(*latents.shape[:2], self.tokens, self.token_dim)
        condition = self.embed(actions)
        hidden = self.dropout(self.enter(frames) + self.frame_position[:, None] + self.token_position)
        for block in self.blocks[:-1]:
            hidden = block(hidden, condition, self.sees)
        hidden = self.blocks[-1](hidden, condition, self.sees[fixed:], fixed)
        change: Tensor = self.readout(hidden, condition[:, fixed:])
        return latents[:, fixed:] + change.flatten(2)
