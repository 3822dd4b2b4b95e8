"""V-JEPA 2 (arXiv 2506.09985): a video model; patches only, rotary positions. A picture is shown as the shortest clip, one tubelet of itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import VJEPA2Model

from world_model.encoders.backbone import BackboneFamily, PatchTokens


class VJepa2(BackboneFamily):
    """The encoder alone: V-JEPA 2's own predictor knows no actions, and is not kept."""

    title = "V-JEPA 2"
    model_type = "vjepa2"
    summary = False

    def model_class(self) -> Any:
        """``VJEPA2Model``."""
        return VJEPA2Model

    def fitted(self, config: Any, size: int) -> Any:
        """Positions are counted in rows of ``crop_size``."""
        config.crop_size = size
        return config

    def encoder(self, model: Any) -> nn.Module:
        """Without the predictor: what ``skip_predictor=True`` computes."""
        part: nn.Module = model.encoder
        return part

    def tokens(self, encoder: nn.Module, pictures: Tensor) -> PatchTokens:
        """One tubelet has one layer of patches."""
        config: Any = encoder.config
        clip = pictures[:, None].expand(-1, int(config.tubelet_size), -1, -1, -1)
        return PatchTokens(encoder(pixel_values_videos=clip).last_hidden_state, None)
