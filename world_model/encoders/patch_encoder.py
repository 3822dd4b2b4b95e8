"""What all vision transformers share here: resizing, normalisation, and how many tokens of a picture are kept."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from world_model.encoders.backbone import BackboneFamily
from world_model.encoders.encoder import Encoder, EncoderShapeError


class PatchEncoder(Encoder):
    """Tokens of a vision transformer.

    ``keep``: ``global``, one token, the class token (where there is one) beside ``grid x grid`` pooled patches, since the class token alone forgets
    where things are (DINO-WM, arXiv 2411.04983, section 4); ``pooled``, one token for each of ``grid x grid`` averaged regions; ``patches``, all.

    Attributes: ``backbone``, the transformers module; ``backbone_config``, its whole configuration as plain data, with which it can be built without
    the folder that it came from.

    Raises:
        EncoderShapeError: the patches do not fill the picture, or the grid does not divide them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        family: BackboneFamily,
        model: Any,
        size: int,
        keep: str,
        grid: int,
        frozen: bool,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        patch = patch_size(model.config)
        if size % patch or (keep != "patches" and (size // patch) % grid):
            raise EncoderShapeError(
                f"picture size {size} must be a multiple of the patch size {patch}, and their ratio a multiple of the grid {grid}"
            )
        self.family = family
        self.backbone = family.encoder(model)
        self.backbone_config = json.loads(model.config.to_json_string(use_diff=False))
        self.size = size
        self.keep = keep
        self.grid = grid
        self.frozen = frozen
        self.side = size // patch
        hidden = int(model.config.hidden_size)
        if keep == "global":
            self.tokens, self.feature_dim = 1, hidden * (int(family.summary) + grid * grid)
        else:
            self.tokens, self.feature_dim = (grid * grid if keep == "pooled" else self.side**2), hidden
        self.register_buffer("mean", torch.tensor(mean or family.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std or family.std).view(1, 3, 1, 1))
        if frozen:
            self.backbone.requires_grad_(False)
            self.backbone.eval()

    def train(self, mode: bool = True) -> PatchEncoder:
        """A frozen backbone stays as it is evaluated: neither dropout nor jittered positions."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, frames: Tensor) -> Tensor:
        """Tokens ``(B, K, F)`` of ``frames (B, h, w, 3) uint8``."""
        pictures = frames.to(torch.float32).permute(0, 3, 1, 2) / 255.0
        if frames.shape[1] != self.size or frames.shape[2] != self.size:
            pictures = functional.interpolate(pictures, size=(self.size, self.size), mode="bilinear", align_corners=False)
        patches, summary = self.family.tokens(self.backbone, (pictures - self.mean) / self.std)
        if self.keep == "patches":
            return patches
        pooled = functional.avg_pool2d(patches.transpose(1, 2).reshape(frames.shape[0], -1, self.side, self.side), self.side // self.grid)
        if self.keep == "pooled":
            return pooled.flatten(2).transpose(1, 2)
        whole = pooled.flatten(1) if summary is None else torch.cat([summary, pooled.flatten(1)], dim=1)
        return whole[:, None]


def patch_size(config: Any) -> int:
    """Side of a patch in pixels.

    Raises:
        EncoderShapeError: the patches are not square.
    """
    sides = {int(side) for side in (config.patch_size if isinstance(config.patch_size, list | tuple) else [config.patch_size])}
    if len(sides) != 1:
        raise EncoderShapeError(f"patches of {config.patch_size} are not square")
    return sides.pop()
