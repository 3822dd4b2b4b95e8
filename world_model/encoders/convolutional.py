"""A small convolutional encoder, trained from scratch: the fastest one on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_model.encoders.encoder import Encoder, EncoderShapeError

_CONV = ((16, 5, 2, 2), (32, 4, 2, 1), (64, 4, 2, 1), (128, 4, 2, 1))
_PATCH = ((32, 4, 4, 0), (64, 4, 2, 1), (128, 4, 2, 1))
_STEMS = {"conv": _CONV, "patch": _PATCH}
"""Of each layer: channels, kernel, stride, padding."""


class ConvolutionalEncoder(Encoder):
    """Convolutions down to a sixteenth of the picture, with group normalisation; 1.2 M parameters at 64 px.

    ``stem``: ``conv``, four with stride 2; ``patch``, one on patches of 4 x 4 pixels and two with stride 2: faster, its pictures are smaller.

    Raises:
        EncoderShapeError: the picture is too small, or patches do not fill it.
    """

    def __init__(self, height: int, width: int, stem: str = "conv", feature_dim: int = 512) -> None:
        super().__init__()
        if min(height, width) < 16:
            raise EncoderShapeError(f"pictures of {width} x {height} are too small, 16 x 16 is the least")
        if stem == "patch" and (height % 4 or width % 4):
            raise EncoderShapeError(f"pictures of {width} x {height} are not made of patches of 4 x 4; choose stem: conv")
        layers: list[nn.Module] = []
        before, rows, columns = 3, height, width
        for after, kernel, stride, padding in _STEMS[stem]:
            layers += [nn.Conv2d(before, after, kernel, stride=stride, padding=padding), nn.GroupNorm(8, after), nn.GELU()]
            rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in (rows, columns))
            before = after
        self.convolutions = nn.Sequential(*layers)
        self.flatten = nn.Sequential(nn.Flatten(), nn.Linear(before * rows * columns, feature_dim), nn.LayerNorm(feature_dim), nn.GELU())
        self.tokens, self.feature_dim = 1, feature_dim

    def forward(self, frames: Tensor) -> Tensor:
        """One token ``(B, 1, F)`` of ``frames (B, h, w, 3) uint8``."""
        pictures = frames.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0
        features: Tensor = self.flatten(self.convolutions(pictures))
        return features[:, None]
