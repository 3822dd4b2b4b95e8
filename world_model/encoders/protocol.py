"""What an encoder is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Encoder(Protocol):
    """A module that maps frames ``(B, h, w, 3) uint8`` RGB to features ``(B, F) float32``; resizing and normalisation belong to it."""

    feature_dim: int

    def __call__(self, frames: Tensor) -> Tensor:
        """Features ``(B, F)``."""
        ...
