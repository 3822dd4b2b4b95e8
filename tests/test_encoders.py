"""Encoders: pictures in, tokens out, and pretrained ones from a folder without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_backbones import FAMILIES, HIDDEN, SIDE, SIZE, small_backbone
from tiny_runs import silent, tiny_config, tiny_data
from torch.nn import functional
from transformers import Dinov2Model, DINOv3ViTModel, IJepaModel, ViTConfig, ViTModel, VJEPA2Config, VJEPA2Model

from arm_model import load_arm
from world_model.config import ConfigError
from world_model.encoders.encoder import EncoderShapeError, EncoderSourceError
from world_model.encoders.registry import EncoderConfig, build_encoder
from world_model.export import export_bundle, load_run
from world_model.runtime import OnnxModel
from world_model.training import train

SHORT = {"jepa": {"steps": 2, "batch": 2}, "distance": {"steps": 2}, "actor": {"steps": 2}}
TITLES = {"dinov2": "DINOv2", "dinov3": "DINOv3", "vjepa2": "V-JEPA 2", "ijepa": "I-JEPA"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """``folder(family)``: a small model with random weights, saved as transformers saves it."""
    return lambda family: small_backbone(tmp_path_factory.getbasetemp(), family)


def from_folder(source: Path, kind: str = "dinov2", **changes: object) -> EncoderConfig:
    return EncoderConfig(**({"kind": kind, "source": str(source), "size": SIZE} | changes))


def small_vit(**changes: object) -> EncoderConfig:
    return EncoderConfig(**({"kind": "vit", "size": SIZE, "width": HIDDEN, "depth": 1, "heads": 2} | changes))


def pictures(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def transformers_tokens(family: str, source: Path, frames: torch.Tensor, mean=MEAN, std=STD) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Class token ``(B, C)`` and patch tokens ``(B, P, C)`` straight from transformers, as its documentation says to use each model."""
    resized = functional.interpolate(frames.permute(0, 3, 1, 2) / 255.0, size=(SIZE, SIZE), mode="bilinear")
    normal = (resized - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        if family == "dinov2":
            hidden = Dinov2Model.from_pretrained(source).eval()(normal).last_hidden_state
            return hidden[:, 0], hidden[:, 1:]
        if family == "dinov3":
            hidden = DINOv3ViTModel.from_pretrained(source).eval()(normal).last_hidden_state
            return hidden[:, 0], hidden[:, 4:]  # three registers
        if family == "ijepa":
            return None, IJepaModel.from_pretrained(source).eval()(normal).last_hidden_state
        config = VJEPA2Config.from_pretrained(source)
        config.crop_size = SIZE
        model = VJEPA2Model.from_pretrained(source, config=config).eval()
        return None, model(torch.stack([normal, normal], dim=1), skip_predictor=True).last_hidden_state


# All of them.


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (63, 45)])
@pytest.mark.parametrize("config", [EncoderConfig(), small_vit(), small_vit(tokens="patches")], ids=["convolutional", "vit", "vit patches"])
def test_an_encoder_takes_pictures_of_any_size_and_says_how_many_tokens_of_what_width_it_makes(config, size):
    encoder = build_encoder(config, *size).eval()
    tokens = encoder(pictures(*size))
    assert tokens.shape == (3, encoder.tokens, encoder.feature_dim) and torch.isfinite(tokens).all()
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-3)


@pytest.mark.parametrize("config", [EncoderConfig(), EncoderConfig(stem="patch"), small_vit()], ids=["convolutional", "patch stem", "vit"])
def test_an_encoder_built_here_learns(config):
    encoder = build_encoder(config, 64, 64)
    encoder(pictures(64, 64)).square().sum().backward()
    with_gradient = [p for p in encoder.parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert len(with_gradient) > 0.7 * len(list(encoder.parameters()))


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (20, 28)])
def test_a_stem_of_patches_looks_at_squares_of_four_pixels_that_do_not_overlap(size):
    encoder = build_encoder(EncoderConfig(stem="patch"), *size).eval()
    frames = pictures(*size)
    assert encoder(frames).shape == (3, 1, 512)
    stem = encoder.convolutions[0]
    square = frames[:, 8:12, 16:20].permute(0, 3, 1, 2) / 127.5 - 1.0
    expected = torch.einsum("bcij,ocij->bo", square, stem.weight) + stem.bias
    assert torch.allclose(stem(frames.permute(0, 3, 1, 2) / 127.5 - 1.0)[:, :, 2, 4], expected, atol=1e-5)


@pytest.mark.parametrize(("size", "stem"), [((63, 64), "patch"), ((64, 46), "patch"), ((8, 64), "conv")])
def test_pictures_that_a_convolutional_encoder_cannot_take_are_one_line(size, stem):
    with pytest.raises(EncoderShapeError, match=f"pictures of {size[1]} x {size[0]} are") as caught:
        build_encoder(EncoderConfig(stem=stem), *size)
    assert "\n" not in str(caught.value)


def test_a_convolutional_encoder_has_no_patches_to_keep():
    with pytest.raises(ValueError, match="a convolutional encoder makes one token: tokens must be global, not patches"):
        build_encoder(EncoderConfig(tokens="patches"), 64, 64)


def test_an_unknown_encoder_lists_those_that_exist():
    with pytest.raises(ValueError, match="unknown encoder kind 'resnet'; choose convolutional, vit, dinov2, dinov3, vjepa2 or ijepa"):
        build_encoder(EncoderConfig(kind="resnet"), 64, 64)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tokens": "all"}, "tokens is 'all'; choose global, pooled or patches"),
        ({"stem": "large"}, "stem is 'large'; choose conv or patch"),
        ({"grid": 0}, "grid is 0, must be at least 1"),
    ],
)
def test_a_wrong_configuration_is_named(change, reason):
    with pytest.raises(ConfigError, match=f"^tiny.model.encoder: {reason}$"):
        tiny_config(model={"encoder": change})


# From a folder.


@pytest.mark.parametrize("family", FAMILIES)
def test_patches_are_those_that_transformers_computes(family, folder):
    frames = pictures(64, 64)
    encoder = build_encoder(from_folder(folder(family), family, tokens="patches"), 64, 64).eval()
    assert (encoder.tokens, encoder.feature_dim) == (SIDE * SIDE, HIDDEN)
    assert torch.allclose(encoder(frames), transformers_tokens(family, folder(family), frames)[1], atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_pooled_tokens_are_averages_of_regions_row_by_row(family, folder):
    frames = pictures(64, 64)
    encoder = build_encoder(from_folder(folder(family), family, tokens="pooled"), 64, 64).eval()
    assert (encoder.tokens, encoder.feature_dim) == (4, HIDDEN)
    patches = transformers_tokens(family, folder(family), frames)[1].reshape(3, SIDE, SIDE, HIDDEN)
    half = SIDE // 2
    for token, (rows, columns) in enumerate(((slice(half), slice(half)), (slice(half), slice(half, None)), (slice(half, None), slice(half)))):
        assert torch.allclose(encoder(frames)[:, token], patches[:, rows, columns].mean((1, 2)), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_global_token_is_the_class_token_where_there_is_one_beside_pooled_patches(family, folder):
    frames = pictures(64, 64)
    encoder = build_encoder(from_folder(folder(family), family), 64, 64).eval()
    summary, patches = transformers_tokens(family, folder(family), frames)
    assert (encoder.tokens, encoder.feature_dim) == (1, HIDDEN * (4 if summary is None else 5))
    token = encoder(frames)[:, 0]
    if summary is not None:
        assert torch.allclose(token[:, :HIDDEN], summary, atol=1e-4)
    corner = patches.reshape(3, SIDE, SIDE, HIDDEN)[:, : SIDE // 2, SIDE // 2 :].mean((1, 2))  # top right quarter of the patches
    assert torch.allclose(token[:, -4 * HIDDEN :].reshape(3, HIDDEN, 2, 2)[:, :, 0, 1], corner, atol=1e-4)


@pytest.mark.parametrize("family", ["dinov2", "dinov3", "ijepa"])
def test_another_size_than_that_of_pretraining_will_do(family, folder):
    encoder = build_encoder(from_folder(folder(family), family, size=48, tokens="patches"), 48, 48).eval()
    assert encoder(pictures(48, 48)).shape == (3, 36, HIDDEN)


def test_a_normalisation_beside_the_weights_is_the_one_that_holds(folder, tmp_path):
    """DINOv3's models for satellite pictures, for example, want another."""
    source = tmp_path / "copy"
    shutil.copytree(folder("dinov3"), source)
    mean, std = (0.43, 0.411, 0.296), (0.213, 0.156, 0.143)
    (source / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std, "size": 224}))
    frames = pictures(64, 64)
    encoder = build_encoder(from_folder(source, "dinov3", tokens="patches"), 64, 64).eval()
    assert torch.allclose(encoder(frames), transformers_tokens("dinov3", source, frames, mean, std)[1], atol=1e-4)
    (source / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": [0, 0, 0]}))
    with pytest.raises(EncoderSourceError, match=r"preprocessor_config\.json has image_mean"):
        build_encoder(from_folder(source, "dinov3"), 64, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_frozen_stays_as_it_is_and_what_is_not_learns(family, folder):
    frames = pictures(64, 64)
    for frozen in (True, False):
        encoder = build_encoder(from_folder(folder(family), family, frozen=frozen), 64, 64).train()
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        head = torch.nn.Linear(encoder.feature_dim, 1)
        optimizer = torch.optim.SGD([*(p for p in encoder.parameters() if p.requires_grad), *head.parameters()], 0.1)
        head(encoder(frames)).square().sum().backward()
        optimizer.step()
        moved = [key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])]
        assert bool(moved) != frozen
        assert not any(module.training for module in encoder.backbone.modules()) if frozen else encoder.backbone.training
    frozen_encoder = build_encoder(from_folder(folder(family), family), 64, 64).train()
    assert torch.equal(frozen_encoder(frames), frozen_encoder(frames)), "not even positions are jittered"


def test_a_vit_goes_on_from_a_backbone_that_was_trained_before(folder):
    """What `latent-mpc pretrain` writes: a DINOv2 folder, whose architecture counts."""
    frames = pictures(64, 64)
    encoder = build_encoder(small_vit(source=str(folder("dinov2")), tokens="patches", width=192), 64, 64)
    assert all(p.requires_grad for p in encoder.parameters())
    assert torch.allclose(encoder.eval()(frames), transformers_tokens("dinov2", folder("dinov2"), frames)[1], atol=1e-4)


# What cannot be loaded.


@pytest.mark.parametrize("source", ["no/such/folder/anywhere", ""])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_folder_is_one_line(family, source, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderSourceError, match=f"cannot load {TITLES[family]} from '{source}'") as caught:
        build_encoder(EncoderConfig(kind=family, source=source, size=SIZE), 64, 64)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_one_line(tmp_path):
    with pytest.raises(EncoderSourceError, match="cannot load DINOv2") as caught:
        build_encoder(from_folder(tmp_path), 64, 64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_kind_of_model_is_refused(family, folder, tmp_path):
    small = ViTConfig(image_size=SIZE, patch_size=8, hidden_size=HIDDEN, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    ViTModel(small).save_pretrained(tmp_path)
    with pytest.raises(EncoderSourceError, match="holds a model of type 'vit'"):
        build_encoder(from_folder(tmp_path, family), 64, 64)
    other = next(name for name in FAMILIES if name != family)
    with pytest.raises(EncoderSourceError, match="holds a model of type"):
        build_encoder(from_folder(folder(other), family), 64, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_are_missing_are_not_made_up(family, folder, tmp_path):
    weights = load_file(folder(family) / "model.safetensors")
    kept = {key: value for key, value in weights.items() if "mlp" not in key and "output.dense" not in key}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(folder(family) / "config.json", tmp_path)
    with pytest.raises(EncoderSourceError, match="lacks the weights") as caught:
        build_encoder(from_folder(tmp_path, family), 64, 64)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(folder, tmp_path):
    torch.save(Dinov2Model.from_pretrained(folder("dinov2")).state_dict(), tmp_path / "pytorch_model.bin")
    shutil.copy(folder("dinov2") / "config.json", tmp_path)
    with pytest.raises(EncoderSourceError, match="cannot load DINOv2") as caught:
        build_encoder(from_folder(tmp_path), 64, 64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"size": 33}, {"size": 40}, {"grid": 3}, {"size": 33, "tokens": "patches"}])
@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_that_patches_do_not_fill_are_refused(family, change, folder):
    with pytest.raises(EncoderShapeError, match="multiple of"):
        build_encoder(from_folder(folder(family), family, **change), 64, 64)


@pytest.mark.parametrize("change", [{"size": 60}, {"grid": 3}, {"heads": 5}])
def test_a_vit_of_impossible_shape_is_refused(change):
    with pytest.raises(ValueError, match="multiple of"):
        build_encoder(small_vit(**change), 64, 64)


# A model that was trained travels alone.


@pytest.mark.parametrize("family", FAMILIES)
def test_the_configuration_of_a_backbone_is_enough_to_build_it_again(family, folder):
    config, frames = from_folder(folder(family), family, tokens="patches"), pictures(64, 64)
    encoder = build_encoder(config, 64, 64).eval()
    travelled = json.loads(json.dumps(encoder.backbone_config))
    again = build_encoder(from_folder(Path("gone"), family, tokens="patches"), 64, 64, travelled).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(frames), encoder(frames))
    assert not any(p.requires_grad for p in again.parameters())


def test_a_backbone_of_another_family_is_refused(folder):
    travelled = build_encoder(from_folder(folder("ijepa"), "ijepa"), 64, 64).backbone_config
    with pytest.raises(EncoderSourceError, match="cannot build DINOv3 from its configuration: it holds a model of type 'ijepa', not 'dinov3_vit'"):
        build_encoder(EncoderConfig(kind="dinov3", size=SIZE), 64, 64, travelled)


@pytest.mark.parametrize(("family", "tokens"), [("dinov2", "global"), ("vjepa2", "pooled")])
def test_a_frozen_encoder_trains_and_its_run_becomes_a_bundle_without_the_folder_that_it_came_from(
    family, tokens, folder, tmp_path, tmp_path_factory
):
    """The same path as any encoder: train, export, run with ONNX Runtime."""
    data, source = tiny_data(tmp_path_factory.getbasetemp()), tmp_path / "weights"
    shutil.copytree(folder(family), source)
    model = {"latent_dim": 8, "predictor": {"width": 16, "depth": 1}, "encoder": vars(from_folder(source, family, tokens=tokens))}
    train(tiny_config(**SHORT | {"model": model}), [data], tmp_path / "run", silent)
    before = {key: value.clone() for key, value in build_encoder(from_folder(source, family), 64, 64).backbone.state_dict().items()}
    shutil.rmtree(source)
    after = load_run(tmp_path / "run")[1].jepa.encoder.backbone.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    report = export_bundle(tmp_path / "run", tmp_path / "bundle", load_arm().joints)
    assert max(report.values()) < 1e-4
    bundle = OnnxModel(tmp_path / "bundle")
    count = 4 if tokens == "pooled" else 1
    assert bundle.manifest.encoder == family and bundle.manifest.tokens == count and bundle.latent_dim == 8 * count
    assert bundle.manifest.provenance["model"]["backbone"]["hidden_size"] == HIDDEN
    latents = bundle.encode(pictures(64, 64).numpy())
    assert latents.shape == (3, 8 * count) and np.isfinite(latents).all()
    train(tiny_config(**SHORT | {"model": model}), [data], tmp_path / "again", silent, world_model=tmp_path / "run")
