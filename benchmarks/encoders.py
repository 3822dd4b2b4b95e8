"""How large each encoder is and how long one frame takes on one thread: ``python benchmarks/encoders.py``. Weights are random: time is the same."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn
from transformers import DINOv3ViTConfig, IJepaConfig, VJEPA2Config

from world_model.encoders.dinov2 import untrained_config
from world_model.encoders.registry import EncoderConfig, build_encoder
from world_model.graphs import encoder_graph
from world_model.jepa import Jepa
from world_model.predictors.registry import PredictorConfig, build_predictor

_FRAME = (64, 64, 3)
_WINDOW, _LATENT = 6, 48
_SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}


def candidates() -> list[tuple[str, EncoderConfig, Any]]:
    """Name, configuration and, for pretrained families, the configuration of a backbone of the size that is used most."""
    vitl = VJEPA2Config(crop_size=224, pred_num_hidden_layers=1)
    return [
        ("convolutional, stem conv", EncoderConfig(), None),
        ("convolutional, stem patch", EncoderConfig(stem="patch"), None),
        ("vit 192 x 4, patch 16", EncoderConfig(kind="vit", patch=16), None),
        ("vit 192 x 4, patch 8", EncoderConfig(kind="vit"), None),
        ("vit 192 x 4, patch 8, patches", EncoderConfig(kind="vit", tokens="patches"), None),
        ("dinov2 ViT-S/14, 112 px", EncoderConfig(kind="dinov2", size=112), untrained_config(518, 14, 384, 12, 6)),
        ("dinov2 ViT-S/14, 224 px", EncoderConfig(kind="dinov2", size=224, grid=4), untrained_config(518, 14, 384, 12, 6)),
        ("dinov3 ViT-S/16, 224 px", EncoderConfig(kind="dinov3", size=224), DINOv3ViTConfig(num_register_tokens=4, **_SMALL)),
        ("vjepa2 ViT-L/16, 224 px", EncoderConfig(kind="vjepa2", size=224), vitl),
        (
            "ijepa ViT-H/14, 224 px",
            EncoderConfig(kind="ijepa", size=224),
            IJepaConfig(hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, intermediate_size=5120, patch_size=14),
        ),
    ]


def median_ms(call: Any, repeats: int) -> float:
    """Median wall time after one call that does not count."""
    call()
    spent = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        spent.append(1e3 * (time.perf_counter() - begun))
    return float(np.median(spent))


def train_ms(jepa: Jepa, batch: int) -> float:
    """Encode ``batch`` frames and go back, as training does."""
    frames = torch.randint(0, 256, (batch, *_FRAME), dtype=torch.uint8)
    jepa.train()

    def step() -> None:
        torch.autograd.backward(jepa.encode(frames).square().mean())

    return median_ms(step, 3)


def encode_ms(jepa: Jepa) -> float:
    """One frame through the exported graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(encoder_graph(jepa.eval(), _FRAME).SerializeToString(), options, providers=["CPUExecutionProvider"])
    frame = np.zeros((1, *_FRAME), np.uint8)
    return median_ms(lambda: session.run(None, {"frames": frame}), 20)


def parameters(module: nn.Module) -> float:
    """Millions of them."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def main() -> None:
    """Print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--largest", type=float, default=100.0, help="leave out encoders of more than so many million parameters")
    asked.add_argument("--only", default="", help="encoders whose name holds this")
    largest, only = (getattr(asked.parse_args(), name) for name in ("largest", "only"))
    torch.set_num_threads(1)
    print("| encoder | parameters, M | K | F | one frame, ms | training, ms a frame |\n|---|---|---|---|---|---|")
    for name, config, backbone in candidates():
        if only not in name:
            continue
        travelled = None if backbone is None else backbone.to_dict()
        with torch.device("meta"):
            size = parameters(build_encoder(config, *_FRAME[:2], travelled))
        if size > largest:
            print(f"| {name} | {size:.1f} | | | | |")
            continue
        encoder = build_encoder(config, *_FRAME[:2], travelled)
        jepa = Jepa(encoder, build_predictor(PredictorConfig(), 3, encoder.tokens, _LATENT, 2), _LATENT)
        learned = config.kind in ("convolutional", "vit")
        training = f"{train_ms(jepa, 32 * _WINDOW) / (32 * _WINDOW):.2f}" if learned else "frozen"
        print(f"| {name} | {size:.1f} | {encoder.tokens} | {encoder.feature_dim} | {encode_ms(jepa):.1f} | {training} |", flush=True)


if __name__ == "__main__":
    main()
