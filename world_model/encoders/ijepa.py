"""I-JEPA (arXiv 2301.08243): patches only, no class token; learned positions, interpolated to other sizes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import IJepaModel

from world_model.encoders.backbone import BackboneFamily, PatchTokens


class IJepa(BackboneFamily):
    """The target encoder of I-JEPA, as its authors use it downstream."""

    title = "I-JEPA"
    model_type = "ijepa"
    summary = False

    def model_class(self) -> Any:
        """``IJepaModel``."""
        return IJepaModel

    def tokens(self, encoder: nn.Module, pictures: Tensor) -> PatchTokens:
        """Every token is a patch."""
        config: Any = encoder.config
        other_size = pictures.shape[-1] != config.image_size
        return PatchTokens(encoder(pixel_values=pictures, interpolate_pos_encoding=other_size).last_hidden_state, None)
