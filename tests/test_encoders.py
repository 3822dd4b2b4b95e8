"""Encoders: pictures in, features out, and pretrained ones from a folder without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import silent, tiny_config, tiny_data
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from arm_model import load_arm
from world_model.encoders.dinov2 import EncoderShapeError, EncoderSourceError
from world_model.encoders.registry import EncoderConfig, build_encoder
from world_model.export import export_bundle
from world_model.runtime import OnnxModel
from world_model.training import build, train

SHORT = {"jepa": {"steps": 2, "batch": 2}, "distance": {"steps": 2}, "actor": {"steps": 2}}
SMALL_VIT = EncoderConfig(kind="vit", size=32, patch=8, width=24, depth=1, heads=2)


@pytest.fixture(scope="module")
def dinov2_folder(tmp_path_factory) -> Path:
    """A small DINOv2 with random weights, saved as transformers saves it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dinov2") / "small"
    config = Dinov2Config(image_size=28, patch_size=14, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2)
    Dinov2Model(config).save_pretrained(folder)
    return folder


def dinov2(folder: Path, **changes: object) -> EncoderConfig:
    return EncoderConfig(**({"kind": "dinov2", "source": str(folder), "size": 56, "grid": 2} | changes))


def pictures(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (63, 45)])
@pytest.mark.parametrize("config", [EncoderConfig(), SMALL_VIT], ids=["convolutional", "vit"])
def test_an_encoder_takes_pictures_of_any_size_and_says_how_wide_its_features_are(config, size):
    encoder = build_encoder(config, *size).eval()
    features = encoder(pictures(*size))
    assert features.shape == (3, encoder.feature_dim) and torch.isfinite(features).all()
    assert not torch.allclose(features[0], features[1], atol=1e-3)


@pytest.mark.parametrize("config", [EncoderConfig(), SMALL_VIT], ids=["convolutional", "vit"])
def test_an_encoder_built_here_learns(config):
    encoder = build_encoder(config, 64, 64)
    encoder(pictures(64, 64)).square().sum().backward()
    with_gradient = [p for p in encoder.parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert len(with_gradient) > 0.7 * len(list(encoder.parameters()))


def test_dinov2_comes_from_a_folder_and_computes_what_transformers_computes(dinov2_folder):
    encoder = build_encoder(dinov2(dinov2_folder), 64, 64).eval()
    frames = pictures(64, 64)
    with torch.no_grad():
        features = encoder(frames)
        resized = functional.interpolate(frames.permute(0, 3, 1, 2) / 255.0, size=(56, 56), mode="bilinear")
        normal = (resized - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        tokens = Dinov2Model.from_pretrained(dinov2_folder).eval()(normal).last_hidden_state
    assert encoder.feature_dim == 24 * 5 and torch.allclose(features[:, :24], tokens[:, 0], atol=1e-4)
    corner = tokens[:, 1:].reshape(3, 4, 4, 24)[:, :2, 2:].mean((1, 2))  # top right quarter of the patches
    assert torch.allclose(features[:, 24:].reshape(3, 24, 2, 2)[:, :, 0, 1], corner, atol=1e-4)


def test_a_frozen_dinov2_does_not_learn(dinov2_folder):
    frozen, free = (build_encoder(dinov2(dinov2_folder, frozen=choice), 64, 64) for choice in (True, False))
    assert not any(p.requires_grad for p in frozen.parameters()) and any(p.requires_grad for p in free.parameters())


@pytest.mark.parametrize("source", ["no/such/folder/anywhere", ""])
def test_a_missing_folder_is_one_line(source, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderSourceError, match=f"cannot load DINOv2 from '{source}'") as caught:
        build_encoder(EncoderConfig(kind="dinov2", source=source, size=56), 64, 64)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_one_line(tmp_path):
    with pytest.raises(EncoderSourceError, match="cannot load DINOv2") as caught:
        build_encoder(dinov2(tmp_path), 64, 64)
    assert "\n" not in str(caught.value)


def test_another_kind_of_model_is_refused(tmp_path):
    small = ViTConfig(image_size=28, patch_size=14, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    ViTModel(small).save_pretrained(tmp_path)
    with pytest.raises(EncoderSourceError, match="holds a model of type 'vit'"):
        build_encoder(dinov2(tmp_path), 64, 64)


def test_weights_that_are_missing_are_not_made_up(dinov2_folder, tmp_path):
    weights = load_file(dinov2_folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if "mlp" not in key}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((dinov2_folder / "config.json").read_text())
    with pytest.raises(EncoderSourceError, match="lacks the weights"):
        build_encoder(dinov2(tmp_path), 64, 64)


def test_pickled_weights_are_refused(dinov2_folder, tmp_path):
    torch.save(Dinov2Model.from_pretrained(dinov2_folder).state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text((dinov2_folder / "config.json").read_text())
    with pytest.raises(EncoderSourceError, match="cannot load DINOv2") as caught:
        build_encoder(dinov2(tmp_path), 64, 64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"size": 57}, {"size": 42}, {"grid": 3}])
def test_sizes_that_patches_do_not_fill_are_refused(dinov2_folder, change):
    with pytest.raises(EncoderShapeError, match="multiple of"):
        build_encoder(dinov2(dinov2_folder, **change), 64, 64)


@pytest.mark.parametrize("change", [{"size": 60}, {"grid": 3}, {"heads": 5}])
def test_a_vit_of_impossible_shape_is_refused(change):
    with pytest.raises(ValueError, match="multiple of"):
        build_encoder(EncoderConfig(**({"kind": "vit", "width": 24, "depth": 1, "heads": 2} | change)), 64, 64)


def test_an_unknown_encoder_lists_those_that_exist():
    with pytest.raises(ValueError, match="unknown encoder kind 'resnet'; choose convolutional, vit or dinov2"):
        build_encoder(EncoderConfig(kind="resnet"), 64, 64)


def test_a_frozen_dinov2_trains_and_becomes_a_bundle_that_needs_no_transformers(dinov2_folder, tmp_path, tmp_path_factory):
    """The same path as any encoder: train, export, run with ONNX Runtime."""
    data = tiny_data(tmp_path_factory.getbasetemp())
    config = tiny_config(**SHORT | {"model": {"latent_dim": 8, "width": 16, "depth": 1, "encoder": vars(dinov2(dinov2_folder))}})
    train(config, [data], tmp_path / "run", silent)
    report = export_bundle(tmp_path / "run", tmp_path / "bundle", load_arm().joints)
    assert max(report.values()) < 1e-4
    model = OnnxModel(tmp_path / "bundle")
    latents = model.encode(pictures(64, 64).numpy())
    assert latents.shape == (3, 8) and model.manifest.encoder == "dinov2"
    with torch.no_grad():
        untouched = build(config, (64, 64, 3), 3).jepa.encoder.backbone.state_dict()
        trained = Dinov2Model.from_pretrained(dinov2_folder).state_dict()
    assert all(torch.equal(untouched[key], trained[key]) for key in trained)
    assert np.isfinite(latents).all()
