"""What an encoder is."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class Encoder(nn.Module):
    """Maps frames ``(B, h, w, 3) uint8`` RGB to features ``(B, F) float32``; resizing and normalisation belong to it."""

    feature_dim: int

    @abstractmethod
    def forward(self, frames: Tensor) -> Tensor:
        """Features ``(B, F)``."""
