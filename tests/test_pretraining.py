"""DINO self-distillation: views, loss and monitors against other evaluations; a tiny run that learns, resumes, and leaves what transformers loads."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from latent_mpc.cli import run
from objective_windows import generator
from safetensors.torch import load_file
from tiny_runs import silent, tiny_data
from transformers import Dinov2Model

from world_model.checkpoint import CheckpointError
from world_model.config import ConfigError, build_config
from world_model.encoders.registry import EncoderConfig, build_encoder
from world_model.pretraining import PretrainConfig, dino, pretrain, read_pretrain_config
from world_model.pretraining.networks import DinoNetwork, PrototypeHead
from world_model.pretraining.self_distillation import Centre, assignment_monitors, distillation_warning, patch_loss, sinkhorn, view_loss
from world_model.pretraining.views import crop, jitter, multi_crop, random_boxes
from world_model.training.log import CollapseWarning
from world_model.training.world_model import TrainingDivergedError

TINY = {
    "name": "tiny",
    "held_out": 2,
    "steps": 60,
    "batch": 8,
    "warmup": 5,
    "architecture": {"size": 32, "patch": 8, "width": 24, "depth": 1, "heads": 2},
    "views": {"locals": 2, "local_size": 16},
    "distillation": {"prototypes": 8, "hidden": 32, "bottleneck": 16, "teacher_warmup": 10, "freeze_last_layer": 2},
}


def tiny(**changes: object) -> PretrainConfig:
    content = {key: value | changes.pop(key, {}) if isinstance(value, dict) else value for key, value in TINY.items()}
    return build_config(PretrainConfig, content | changes, "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_data(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("pretrained")
    return folder, pretrain(tiny(), [data], folder, silent)


# Views.


def test_boxes_have_the_areas_and_sides_that_are_asked_for_and_lie_inside():
    boxes = random_boxes(500, 0.2, 0.5, 1.3, generator()).numpy()
    centre, half = boxes[:, :2], boxes[:, 2:]
    area, ratio = half.prod(1), half[:, 0] / half[:, 1]
    assert 0.2 - 1e-6 <= area.min() < 0.22 and 0.48 < area.max() <= 0.5 + 1e-6
    assert 1 / 1.3 - 1e-5 <= ratio.min() < 0.8 and 1.25 < ratio.max() <= 1.3 + 1e-5
    assert (np.abs(centre) + half).max() <= 1 + 1e-6
    assert np.abs(centre).max() > 0.3


def test_a_crop_is_what_lies_in_its_box_and_never_mirrored():
    """On a picture whose red is x and green is y, a crop shows the coordinates of its box."""
    y, x = np.meshgrid((np.arange(64) + 0.5) / 64, (np.arange(64) + 0.5) / 64, indexing="ij")
    picture = torch.from_numpy(np.stack([x, y, 0 * x]))[None].float()
    box = torch.tensor([[0.2, -0.4, 0.5, 0.25]])  # from x -0.3 to 0.7 and y -0.65 to -0.15
    seen = crop(picture, box, 16)[0].numpy()
    places = (np.arange(16) + 0.5) / 16
    assert np.allclose(seen[0], ((-0.3 + 1.0 * places) + 1)[None] / 2, atol=1e-3)
    assert np.allclose(seen[1], ((-0.65 + 0.5 * places) + 1)[:, None] / 2, atol=1e-3)
    frames = (picture.permute(0, 2, 3, 1) * 255).to(torch.uint8).repeat(50, 1, 1, 1)
    views = multi_crop(frames, 32, tiny().views, generator())
    assert views.large.shape == (100, 3, 32, 32) and views.small.shape == (100, 3, 16, 16)
    for pictures in (views.large, views.small):
        assert (pictures[:, 0, :, -1] - pictures[:, 0, :, 0]).mean(1).min() > 0 < (pictures[:, 1, -1] - pictures[:, 1, 0]).mean(1).min()


def test_the_first_views_come_before_the_second_ones():
    frames = (torch.arange(6) * 40).to(torch.uint8).view(6, 1, 1, 1).expand(6, 32, 32, 3)
    plain = build_config(PretrainConfig, TINY | {"views": {"brightness": 0, "contrast": 0, "saturation": 0, "local_size": 16}}, "x").views
    views = multi_crop(frames, 32, plain, generator())
    expected = np.tile(np.arange(6) * 40 / 255, 2)
    assert np.allclose(views.large.mean((1, 2, 3)), expected, atol=1e-5)
    assert np.allclose(views.small.mean((1, 2, 3)), np.tile(expected, 2), atol=1e-5)


def test_colours_change_for_each_picture_and_stay_colours():
    pictures = torch.full((40, 3, 4, 4), 0.5)
    changed = jitter(pictures, tiny().views, generator())
    values = changed[:, 0, 0, 0].numpy()
    assert 0.4 - 1e-6 <= values.min() < 0.42 and 0.58 < values.max() <= 0.6 + 1e-6 and len(set(values.tolist())) > 30
    assert jitter(torch.rand(40, 3, 4, 4, generator=generator()), tiny().views, generator()).min() >= 0


# The loss.


def test_the_view_loss_is_the_cross_entropy_over_pairs_of_different_views():
    student, taught = torch.randn(4, 3, 5, generator=generator()), torch.softmax(torch.randn(2, 3, 5, generator=generator(1)), -1)
    s, t = student.double().numpy() / 0.1, taught.double().numpy()
    terms = []
    for g in range(2):
        for v in range(4):
            if g != v:
                for n in range(3):
                    exponentials = np.exp(s[v, n] - s[v, n].max())
                    terms.append(-sum(t[g, n, p] * math.log(exponentials[p] / exponentials.sum()) for p in range(5)))
    assert float(view_loss(student, taught, 0.1)) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(patch_loss(student[0], taught[0], 0.1)) == pytest.approx(
        np.mean([-np.sum(t[0, n] * (s[0, n] - s[0, n].max() - np.log(np.exp(s[0, n] - s[0, n].max()).sum()))) for n in range(3)]), rel=1e-5
    )


def test_sinkhorn_shares_the_prototypes_out_evenly():
    logits = torch.randn(40, 8, generator=generator(), dtype=torch.float64) + 5 * torch.eye(8, dtype=torch.float64)[0]  # all prefer the first one
    table = np.exp(logits.numpy() / 0.5)
    for _ in range(3):
        table = table / table.sum(0, keepdims=True) / 8
        table = table / table.sum(1, keepdims=True) / 40
    assert np.allclose(sinkhorn(logits, 0.5).numpy(), table * 40, rtol=1e-8)
    settled = sinkhorn(logits, 0.5, rounds=100)
    assert torch.allclose(settled.sum(1), torch.ones(40, dtype=torch.float64)) and torch.allclose(settled.sum(0), torch.full((8,), 5.0).double())
    assert torch.softmax(logits / 0.5, -1).sum(0)[0] > 30  # without it the first one gets nearly all


def test_the_centre_is_the_running_mean_of_the_teacher_s_logits():
    centre, path = Centre(4, 0.9), torch.randn(6, 10, 4, generator=generator())
    expected = np.zeros(4)
    for logits in path:
        assigned = centre(logits, 0.5)
        shifted = np.exp((logits.numpy() - expected) / 0.5)
        assert np.allclose(assigned, shifted / shifted.sum(1, keepdims=True), atol=1e-5)
        expected = 0.9 * expected + 0.1 * logits.numpy().mean(0)
    assert np.allclose(centre.centre, expected, atol=1e-6)


def test_logits_are_cosines_whatever_the_size_of_weights():
    head = PrototypeHead(6, 8, 4, 10)
    features = torch.randn(20, 6, generator=generator())
    logits = head(features)
    with torch.no_grad():
        head.prototypes *= torch.rand(10, 1, generator=generator()) * 9 + 0.1
    assert torch.allclose(head(features), logits, atol=1e-6) and float(logits.detach().abs().max()) <= 1 + 1e-6


def test_what_all_pictures_share_does_not_count():
    head = PrototypeHead(6, 8, 4, 10)
    features = 1e-2 * torch.randn(20, 6, generator=generator()) + 3.0  # nearly the same features
    spread = head(features).detach().std(0)
    assert float(spread.min()) > 0.2


def test_hidden_patches_do_not_reach_the_backbone():
    network = DinoNetwork(tiny().architecture, tiny().distillation).eval()
    with torch.no_grad():
        network.backbone.embeddings.mask_token.normal_()
    pictures = torch.rand(2, 3, 32, 32, generator=generator())
    masked = torch.zeros(2, 16, dtype=torch.bool)
    masked[:, 5] = True  # the patch of row 1, column 1
    other = pictures.clone()
    other[:, :, 8:16, 8:16] = 1 - other[:, :, 8:16, 8:16]
    assert torch.equal(network(pictures, masked).patches, network(other, masked).patches)
    assert not torch.allclose(network(pictures).patches, network(other).patches, atol=1e-3)


def test_schedules():
    assert dino.cosine(0, 10, 3.0, 1.0) == 3.0 and dino.cosine(10, 10, 3.0, 1.0) == pytest.approx(1.0) and dino.cosine(5, 10, 3.0, 1.0) == 2.0
    warm = tiny(distillation={"teacher_start": 0.02, "teacher_temperature": 0.06, "teacher_warmup": 10}).distillation
    assert [dino.teacher_temperature(step, warm) for step in (0, 5, 10, 99)] == pytest.approx([0.02, 0.04, 0.06, 0.06])


# Collapse.


def test_the_monitors_are_entropies():
    assigned = torch.softmax(3 * torch.randn(30, 7, generator=generator()), -1)
    p = assigned.double().numpy()
    found = assignment_monitors(assigned, 5.0)
    assert found.entropy == pytest.approx(np.mean([-sum(v * math.log(v) for v in row) for row in p]), rel=1e-5)
    mean = p.mean(0)
    assert found.kl_to_uniform == pytest.approx(sum(v * math.log(v * 7) for v in mean), rel=1e-4)


@pytest.mark.parametrize(
    ("logits", "rank", "reason"),
    [
        (torch.randn(32, 16, generator=generator()), 9.0, None),
        (torch.zeros(32, 16), 9.0, "uniform"),
        (5 * torch.eye(16)[0].expand(32, 16), 9.0, "every picture the same"),
        (torch.randn(1, 16, generator=generator()).expand(32, 16), 9.0, "every picture the same"),
        (torch.randn(32, 16, generator=generator()), 1.3, "effective rank 1.3"),
        (torch.full((32, 16), math.nan), 9.0, "not finite"),
    ],
)
def test_each_kind_of_collapse_has_its_warning(logits, rank, reason):
    line = distillation_warning(assignment_monitors(torch.softmax(logits / 0.2, -1), rank), 16, 32)
    assert line is None if reason is None else (line is not None and reason in line and "\n" not in line)


def test_without_centring_the_teacher_collapses_and_it_is_said_while_it_happens(data, tmp_path, monkeypatch):
    """DINO's own ablation: a centre that stays zero lets one prototype win."""
    monkeypatch.setattr(Centre, "forward", lambda self, logits, temperature: torch.softmax(logits.detach() / temperature, dim=-1))
    config = tiny(
        learning_rate=5e-3, steps=120, distillation={"centring": "centre", "momentum": 0.5, "patch_weight": 0.0, "teacher_temperature": 0.08}
    )
    seen: list[int] = []

    def report(stage: str, done: int, of: int, numbers: dict[str, float]) -> None:
        seen.append(done)

    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        with pytest.raises(CollapseWarning, match=r"same output|uniform|rank"):
            pretrain(config, [data], tmp_path, report)
    assert seen[-1] < config.steps


# The whole.


def test_a_run_learns_and_leaves_a_folder_that_transformers_and_our_encoder_load(whole):
    folder, result = whole
    rows = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    assert rows[0] == ["step", "loss", "entropy", "kl_to_uniform", "rank"] and [row[0] for row in rows[1:]] == ["20", "40", "60"]
    # Guessing costs log P for each of the two terms.
    assert float(rows[-1][1]) < 0.97 * 2 * math.log(8)
    assert {path.name for path in (folder / "encoder").iterdir()} == {"config.json", "model.safetensors"}
    backbone = Dinov2Model.from_pretrained(folder / "encoder", use_safetensors=True)
    trained = load_file(folder / "pretraining.safetensors")
    assert all(torch.equal(value, trained[f"teacher/backbone.{name}"]) for name, value in backbone.state_dict().items())
    encoder = build_encoder(EncoderConfig(kind="dinov2", source=str(folder / "encoder"), size=32, grid=2), 64, 64).eval()
    with torch.no_grad():
        assert encoder(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)).shape[-1] == encoder.feature_dim
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(result))
    probes = result["linear_probe_r2"]
    assert set(probes) == {"class", "grid", "untrained class", "untrained grid"} and probes["grid"]["tool"] <= 1.0
    assert probes["grid"] != probes["untrained grid"]


class Interrupted(Exception):
    """What a test raises where a user would press Ctrl-C."""


@pytest.mark.parametrize("centring", ["sinkhorn", "centre"])
def test_an_interrupted_run_goes_on_to_exactly_the_same_weights(data, whole, tmp_path, monkeypatch, centring):
    monkeypatch.setattr(dino, "_CHECKPOINT_EVERY", 30)
    config = tiny(distillation={"centring": centring})
    straight = whole[0]
    if centring != "sinkhorn":
        straight = tmp_path / "straight"
        pretrain(config, [data], straight, silent)

    def interrupt(stage: str, done: int, of: int, numbers: dict[str, float]) -> None:
        if done == 40:
            raise Interrupted

    with pytest.raises(Interrupted):
        pretrain(config, [data], tmp_path / "cut", interrupt)
    assert not (tmp_path / "cut" / "encoder").exists()
    pretrain(config, [data], tmp_path / "cut", silent)
    first, second = (load_file(folder / "pretraining.safetensors") for folder in (straight, tmp_path / "cut"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert (straight / "log.csv").read_text() == (tmp_path / "cut" / "log.csv").read_text()


def test_a_loss_that_is_no_number_ends_the_run_in_one_line(data, tmp_path, monkeypatch):
    monkeypatch.setattr(dino, "view_loss", lambda student, assigned, temperature: student.sum() * math.nan)
    with pytest.raises(TrainingDivergedError, match="the loss is nan after 20 steps; lower learning_rate") as caught:
        pretrain(tiny(), [data], tmp_path, silent)
    assert "\n" not in str(caught.value) and not (tmp_path / "encoder").exists()


def test_a_run_of_another_configuration_is_refused(data, whole):
    with pytest.raises(CheckpointError, match="seed was 0, not 3") as caught:
        pretrain(tiny(seed=3), [data], whole[0], silent)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stepps": 3}, "x: unknown key 'stepps'; did you mean 'steps'?"),
        ({"views": {"local": 3}}, "x.views: unknown key 'local'; did you mean 'locals'?"),
        ({"views": {"local_size": 20}}, "x: views.local_size 20 must be a multiple of architecture.patch 8"),
        ({"distillation": {"centring": "none"}}, "x.distillation: centring is 'none'; choose centre or sinkhorn"),
        ({"architecture": {"size": 30}}, "x.architecture: size 30 must be a multiple"),
        ({"batch": 1}, "x: batch is 1"),
    ],
)
def test_a_wrong_configuration_is_named_in_one_line(change, reason):
    with pytest.raises(ConfigError) as caught:
        build_config(PretrainConfig, {"name": "x", **change}, "x")
    assert str(caught.value).startswith(reason) and "\n" not in str(caught.value)


def test_the_shipped_configuration_is_valid():
    assert read_pretrain_config(Path(dino.__file__).parents[1] / "configs" / "dino.yaml").name == "dino"


def test_the_command_ends_with_the_probes(data, whole, tmp_path, capfd):
    import yaml

    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    assert run(["pretrain", "--config", str(file), "--data", str(data), "--out", str(whole[0])]) == 0  # finished already: judges again
    assert json.loads((whole[0] / "report.json").read_text())["seconds_per_step"] == whole[1]["seconds_per_step"]
    assert "R2 of a linear probe, class: tool" in capfd.readouterr().out
    file.write_text("name: x\nstep: 3\n")
    assert run(["pretrain", "--config", str(file), "--data", str(data), "--out", str(tmp_path / "new")]) == 2
    assert "did you mean 'steps'" in capfd.readouterr().err and not (tmp_path / "new").exists()
