"""DINOv2 (arXiv 2304.07193): a class token and patches; learned positions, interpolated to other sizes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model

from world_model.encoders.backbone import BackboneFamily, PatchTokens
from world_model.encoders.encoder import EncoderShapeError


class DinoV2(BackboneFamily):
    """The family behind the kinds ``dinov2`` and ``vit``."""

    title = "DINOv2"
    model_type = "dinov2"
    summary = True

    def model_class(self) -> Any:
        """``Dinov2Model``."""
        return Dinov2Model

    def tokens(self, encoder: nn.Module, pictures: Tensor) -> PatchTokens:
        """The class token comes first."""
        hidden = encoder(pixel_values=pictures).last_hidden_state
        return PatchTokens(hidden[:, 1:], hidden[:, 0])


def untrained_config(size: int, patch: int, width: int, depth: int, heads: int) -> Any:
    """The architecture in a size of one's own, to be trained here.

    Raises:
        EncoderShapeError: width and heads do not fit together.
    """
    if width % heads:
        raise EncoderShapeError(f"width {width} must be a multiple of the number of heads, {heads}")
    return Dinov2Config(
        image_size=size, patch_size=patch, hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, mlp_ratio=4, drop_path_rate=0.0
    )
