"""DINOv2 through transformers: pretrained from a local folder or a hub id, or the same architecture trained here from scratch."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, Dinov2Config, Dinov2Model

from world_model.encoders.encoder import Encoder

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class EncoderSourceError(ValueError):
    """No DINOv2 model can be loaded from where the configuration points."""


class EncoderShapeError(ValueError):
    """Picture, patches and grid do not fit together."""


class DinoV2Encoder(Encoder):
    """Features are the class token beside a pooled ``grid x grid`` of patch tokens.

    The class token alone forgets where things are (DINO-WM, arXiv 2411.04983, section 4).

    Raises:
        EncoderShapeError: the patches do not fill the picture, or the grid does not divide them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Dinov2Model, size: int, grid: int, frozen: bool) -> None:
        super().__init__()
        patch = int(backbone.config.patch_size)
        if size % patch or (size // patch) % grid:
            raise EncoderShapeError(
                f"picture size {size} must be a multiple of the patch size {patch}, and their ratio a multiple of the grid {grid}"
            )
        self.backbone = backbone
        self.size = size
        self.grid = grid
        self.frozen = frozen
        self.side = size // patch
        self.feature_dim = int(backbone.config.hidden_size) * (1 + grid * grid)
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1))
        if frozen:
            backbone.requires_grad_(False)

    def forward(self, frames: Tensor) -> Tensor:
        """Features ``(B, hidden * (1 + grid^2))`` of ``frames (B, h, w, 3) uint8``."""
        pictures = frames.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        if frames.shape[1] != self.size or frames.shape[2] != self.size:
            pictures = functional.interpolate(pictures, size=(self.size, self.size), mode="bilinear", align_corners=False)
        tokens = self.backbone((pictures - self.mean) / self.std).last_hidden_state
        patches = tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], -1, self.side, self.side)
        pooled = functional.avg_pool2d(patches, self.side // self.grid)
        return torch.cat([tokens[:, 0], pooled.flatten(1)], dim=1)


def pretrained_dinov2(source: str, size: int, grid: int, frozen: bool) -> DinoV2Encoder:
    """DINOv2 from a local folder or a hub id.

    Raises:
        EncoderSourceError: there is nothing to load, it is another kind of model, it is pickled, or it lacks weights.
        EncoderShapeError: size, patches and grid do not fit together.
    """
    try:
        kind = AutoConfig.from_pretrained(source).model_type
        if kind != "dinov2":
            raise ValueError(f"it holds a model of type '{kind}'")
        backbone, loading = Dinov2Model.from_pretrained(source, use_safetensors=True, output_loading_info=True)
        if loading["missing_keys"]:
            # transformers would go on with random ones.
            raise ValueError(f"it lacks the weights {min(loading['missing_keys'])} and {len(loading['missing_keys']) - 1} others")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EncoderSourceError(f"cannot load DINOv2 from '{source}': {str(error).splitlines()[0]}") from error
    return DinoV2Encoder(backbone, size, grid, frozen)


def scratch_dinov2(size: int, patch: int, width: int, depth: int, heads: int, grid: int) -> DinoV2Encoder:
    """The DINOv2 architecture with random weights, to be trained here.

    Raises:
        EncoderShapeError: size, patches and grid, or width and heads, do not fit together.
    """
    if width % heads:
        raise EncoderShapeError(f"width {width} must be a multiple of the number of heads, {heads}")
    config = Dinov2Config(
        image_size=size, patch_size=patch, hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, mlp_ratio=4, drop_path_rate=0.0
    )
    return DinoV2Encoder(Dinov2Model(config), size, grid, frozen=False)
