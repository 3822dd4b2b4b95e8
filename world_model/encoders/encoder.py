"""What an encoder is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn


class EncoderSourceError(ValueError):
    """No encoder can be loaded from where the configuration points."""


class EncoderShapeError(ValueError):
    """Picture, patches and grid do not fit together."""


class Encoder(nn.Module):
    """Maps frames ``(B, h, w, 3) uint8`` RGB to ``tokens`` K of ``feature_dim`` F numbers each; resizing and normalisation belong to it."""

    tokens: int
    feature_dim: int
    backbone_config: dict[str, Any] | None = None
    """What else than ``EncoderConfig`` its shape depends on, as plain data: it travels with the weights."""

    @abstractmethod
    def forward(self, frames: Tensor) -> Tensor:
        """Tokens ``(B, K, F) float32``."""
