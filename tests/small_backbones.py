"""Small models of each family with random weights, saved as transformers saves them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel, IJepaConfig, IJepaModel, VJEPA2Config, VJEPA2Model

HIDDEN, PATCH, SIZE, SIDE = 24, 8, 32, 4
FAMILIES = ("dinov2", "dinov3", "vjepa2", "ijepa")
_SMALL = {"hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": PATCH}
_MODELS = {
    "dinov2": lambda: Dinov2Model(Dinov2Config(image_size=SIZE, mlp_ratio=2, **_SMALL)),
    "dinov3": lambda: DINOv3ViTModel(DINOv3ViTConfig(image_size=SIZE, intermediate_size=48, num_register_tokens=3, **_SMALL)),
    "vjepa2": lambda: VJEPA2Model(
        VJEPA2Config(
            crop_size=64,
            frames_per_clip=8,
            mlp_ratio=2,
            num_pooler_layers=1,
            pred_hidden_size=24,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
            **_SMALL,
        )
    ),
    "ijepa": lambda: IJepaModel(IJepaConfig(image_size=SIZE, intermediate_size=48, **_SMALL)),
}


@cache
def small_backbone(session: Path, family: str) -> Path:
    """A folder with a model of ``family`` for patches of 8 x 8 pixels; V-JEPA 2's is for pictures of 64, the others' for 32."""
    torch.manual_seed(0)
    model = _MODELS[family]()
    with torch.no_grad():
        for parameter in model.parameters():  # tokens and scales that begin at zero or one would hide mistakes
            parameter += 0.05 * torch.randn_like(parameter)
    folder = session / f"small-{family}"
    model.save_pretrained(folder)
    return folder
