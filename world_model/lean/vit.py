"""DINOv2 (arXiv 2304.07193) with everything folded that can be: the same features, ready for 8 bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from world_model.lean.layer import Folded, gelu, norm

_LOGISTIC = 1.702
"""x sigmoid(1.702 x) is GELU to within 0.021 (arXiv 1606.08415, section 2)."""


class _Block(nn.Module):
    """Pre-norm attention and MLP; norms' affine parts, layer scale and the scale of attention are in the matrices."""

    def __init__(self, block: Any, heads: int, logistic: bool) -> None:
        super().__init__()
        self.heads, self.logistic = heads, logistic

        def of(layer: Any) -> tuple[Tensor, Tensor]:
            return layer.weight.detach().double(), layer.bias.detach().double()

        (affine, lift), (mlp_affine, mlp_lift) = of(block.norm1), of(block.norm2)
        scale, mlp_scale = block.layer_scale1.lambda1.detach().double(), block.layer_scale2.lambda1.detach().double()
        # Query, key, value and what mixes the heads, in this order; their names have changed with transformers' versions.
        query, key, value, mix = (of(layer) for layer in block.attention.modules() if isinstance(layer, nn.Linear))
        shrink = (affine.shape[0] // heads) ** -0.5

        def folded(weight: Tensor, bias: Tensor, times: float = 1.0) -> Folded:
            return Folded(times * weight * affine, times * (bias + weight @ lift))

        self.query, self.key, self.value = folded(*query, shrink), folded(*key), folded(*value)
        out, out_bias = mix
        self.out = Folded(scale[:, None] * out, scale * out_bias)
        enter, enter_bias = of(block.mlp.fc1)
        self.enter = Folded(enter * mlp_affine, enter_bias + enter @ mlp_lift)
        leave, leave_bias = of(block.mlp.fc2)
        self.leave = Folded(mlp_scale[:, None] * leave, mlp_scale * leave_bias)
        self.eps = float(block.norm1.eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """``(T, W)`` of ``hidden (T, W)``: the tokens of one picture."""
        normal = norm(hidden, self.eps)
        query, key, value = (self._by_head(layer(normal)) for layer in (self.query, self.key, self.value))
        mixed = (query @ key.transpose(-1, -2)).softmax(dim=-1) @ value
        hidden = hidden + self.out(mixed.transpose(0, 1).flatten(1))
        inside = self.enter(norm(hidden, self.eps))
        after: Tensor = hidden + self.leave(inside * torch.sigmoid(_LOGISTIC * inside) if self.logistic else gelu(inside))
        return after

    def _by_head(self, values: Tensor) -> Tensor:
        return values.reshape(values.shape[0], self.heads, -1).transpose(0, 1)


class LeanDinoV2(nn.Module):
    """Features of one picture, normalisation inside.

    Args:
        model: ``transformers.Dinov2Model``.
        size: side of the picture in pixels; the grid of positions is worked out for it once.
        mean, std: of the colours that the model was trained with, of pixels between 0 and 1.
        logistic_gelu: take x sigmoid(1.702 x) for GELU: no longer the same function, but less work.
    """

    first: Tensor
    offsets: Tensor
    affine: Tensor
    lift: Tensor

    def __init__(self, model: Any, size: int, mean: tuple[float, ...], std: tuple[float, ...], logistic_gelu: bool = False) -> None:
        super().__init__()
        config, embeddings = model.config, model.embeddings
        self.patch, self.side = int(config.patch_size), size // int(config.patch_size)
        convolution = embeddings.patch_embeddings.projection
        weight = convolution.weight.detach().double()  # (W, 3, p, p)
        deviation = torch.tensor(std, dtype=torch.float64) * 255
        bias = convolution.bias.detach().double() - (weight.sum((2, 3)) @ (torch.tensor(mean, dtype=torch.float64) * 255 / deviation))
        self.enter = Folded((weight / deviation[:, None, None]).permute(0, 2, 3, 1).flatten(1), bias)  # pixels lie (row, column, colour)
        with torch.no_grad():
            tokens = 1 + self.side**2
            grid = embeddings.interpolate_pos_encoding(torch.zeros(1, tokens, int(config.hidden_size)), size, size)[0]
        self.first = nn.Buffer((embeddings.cls_token[0] + grid[:1]).detach().clone())
        self.offsets = nn.Buffer(grid[1:].detach().clone())
        self.blocks = nn.ModuleList(_Block(block, int(config.num_attention_heads), logistic_gelu) for block in model.encoder.layer)
        self.eps = float(model.layernorm.eps)
        self.affine = nn.Buffer(model.layernorm.weight.detach().clone())
        self.lift = nn.Buffer(model.layernorm.bias.detach().clone())

    def forward(self, frames: Tensor) -> Tensor:
        """Tokens ``(1, T, W)``, the class token first, of ``frames (1, size, size, 3) uint8``."""
        side, patch = self.side, self.patch
        pixels = frames.reshape(side, patch, side, patch, 3).permute(0, 2, 1, 3, 4).reshape(side * side, patch * patch * 3).float()
        hidden = torch.cat([self.first, self.enter(pixels) + self.offsets], dim=0)
        for block in self.blocks:
            hidden = block(hidden)
        return (norm(hidden, self.eps) * self.affine + self.lift)[None]
