"""A small convolutional encoder, trained from scratch: the fastest one on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_model.encoders.encoder import Encoder


class ConvolutionalEncoder(Encoder):
    """Four stride-2 convolutions with group normalisation; 1.2 M parameters at 64 px."""

    def __init__(self, height: int, width: int, channels: tuple[int, ...] = (16, 32, 64, 128), feature_dim: int = 512) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for depth, after in enumerate(channels):
            kernel, padding = (5, 2) if depth == 0 else (4, 1)
            layers += [nn.Conv2d(before, after, kernel, stride=2, padding=padding), nn.GroupNorm(8, after), nn.GELU()]
            before = after
        self.convolutions = nn.Sequential(*layers)
        # The first convolution rounds an odd size up, the others down.
        rows, columns = (-(-size // 2) // 2 ** (len(channels) - 1) for size in (height, width))
        self.flatten = nn.Sequential(nn.Flatten(), nn.Linear(before * rows * columns, feature_dim), nn.LayerNorm(feature_dim), nn.GELU())
        self.feature_dim = feature_dim

    def forward(self, frames: Tensor) -> Tensor:
        """Features ``(B, F)`` of ``frames (B, h, w, 3) uint8``."""
        pictures = frames.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        features: Tensor = self.flatten(self.convolutions(pictures))
        return features
