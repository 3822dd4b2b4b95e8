"""Transformer blocks whose normalisation is steered by actions: AdaLN-zero (DiT, arXiv 2212.09748; LeWorldModel, arXiv 2603.19312)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def modulated(values: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``values * (1 + scale) + shift``."""
    return values * (1 + scale) + shift


def zero_linear(width: int, out: int) -> nn.Linear:
    """A linear map that begins at zero."""
    layer = nn.Linear(width, out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ModulatedBlock(nn.Module):
    """Attention and MLP, each normalised, shifted, scaled and gated by a condition; with zero gates at first, so that it begins as the identity."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width), nn.Dropout(dropout))
        self.modulation = nn.Sequential(nn.SiLU(), zero_linear(width, 6 * width))

    def forward(self, hidden: Tensor, condition: Tensor, sees: Tensor, fixed: int = 0) -> Tensor:
        """New ``(N, F - fixed, K, W)`` of ``hidden (N, F, K, W)``, K tokens in each of F frames, under ``condition (N, F, W)``.

        ``sees (F - fixed, F) bool``: which frames a frame may look at, and always all of their tokens. The first ``fixed`` frames are looked at only.
        """
        count, frames, tokens, width = hidden.shape
        # One projection, then (N, F, 1, W) each: a condition holds for all tokens of its frame.
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(condition)[:, :, None].chunk(6, dim=-1)
        normal = modulated(self.norm_attention(hidden), shift, scale)
        key, value = self.key_value(normal).reshape(count, frames * tokens, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query = self.query(normal[:, fixed:]).reshape(count, (frames - fixed) * tokens, self.heads, width // self.heads).transpose(1, 2)
        mask = sees.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0)
        hidden = hidden[:, fixed:] + gate[:, fixed:] * self.mix(mixed.transpose(1, 2).reshape(count, frames - fixed, tokens, width))
        after: Tensor = hidden + mlp_gate[:, fixed:] * self.mlp(modulated(self.norm_mlp(hidden), mlp_shift[:, fixed:], mlp_scale[:, fixed:]))
        return after


class ModulatedReadout(nn.Module):
    """The last norm, steered likewise, and a linear map that begins at zero."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), zero_linear(width, 2 * width))
        self.leave = zero_linear(width, out)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """``(N, F, K, out)`` of ``hidden (N, F, K, W)`` under ``condition (N, F, W)``."""
        shift, scale = self.modulation(condition)[:, :, None].chunk(2, dim=-1)
        result: Tensor = self.leave(modulated(self.norm(hidden), shift, scale))
        return result


def embed_actions(action_dim: int, width: int) -> nn.Sequential:
    """Actions ``(..., A)`` to conditions ``(..., W)``."""
    return nn.Sequential(nn.Linear(action_dim, width), nn.SiLU(), nn.Linear(width, width))


def positions(count: int, width: int) -> nn.Parameter:
    """Learned embeddings ``(count, W)`` of places."""
    return nn.Parameter(0.02 * torch.randn(count, width))
