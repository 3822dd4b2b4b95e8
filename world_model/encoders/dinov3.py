"""DINOv3 (arXiv 2508.10104): a class token, register tokens and patches; rotary positions, so that any size will do."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import DINOv3ViTModel

from world_model.encoders.backbone import BackboneFamily, PatchTokens


class DinoV3(BackboneFamily):
    """The vision transformers of DINOv3, not its ConvNeXts. Models for satellite pictures bring other mean and std in their folder."""

    title = "DINOv3"
    model_type = "dinov3_vit"
    summary = True

    def model_class(self) -> Any:
        """``DINOv3ViTModel``."""
        return DINOv3ViTModel

    def tokens(self, encoder: nn.Module, pictures: Tensor) -> PatchTokens:
        """The class token comes first, then the registers, which hold what belongs to no place and are left out."""
        hidden = encoder(pixel_values=pictures).last_hidden_state
        config: Any = encoder.config
        return PatchTokens(hidden[:, 1 + int(config.num_register_tokens) :], hidden[:, 0])
