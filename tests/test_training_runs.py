"""What a run says and refuses: collapse while it happens, a loss that is no number, and going on with anything that differs."""

from __future__ import annotations

import csv
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import silent, tiny_config, tiny_data, tiny_run
from torch import nn

from world_model.checkpoint import CheckpointError
from world_model.config import ConfigError
from world_model.data import DatasetError
from world_model.export import load_run
from world_model.training import Episodes, open_episodes, train
from world_model.training.compute import open_fabric
from world_model.training.episodes import Windows
from world_model.training.identity import identity_of, require_same
from world_model.training.log import CollapseWarning
from world_model.training.weights_average import averaged, estimate_batch_norm
from world_model.training.world_model import TrainingDivergedError

REST = {"distance": {"steps": 2}, "actor": {"steps": 2}}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_data(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return tiny_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def episodes(data) -> Episodes:
    return open_episodes([data], 2)


def test_collapse_is_said_while_it_happens(data, tmp_path):
    """Without an objective against it the latents collapse, and the run says so, with its table, long before it ends."""
    steps = []
    with pytest.warns(CollapseWarning, match=r"step \d+: the latents are collapsing: effective rank \d+\.\d of 8") as caught:
        config = tiny_config(jepa={"steps": 150, "objective": {"kind": "none"}, "learning_rate": 3e-3}, **REST)
        train(config, [data], tmp_path, lambda stage, done, of, numbers: steps.append((stage, done)))
    with (tmp_path / "log.csv").open() as lines:
        told = {int(row["step"]): float(row["collapsed"]) for row in csv.DictReader(lines)}
    assert [float(step in str([w.message for w in caught])) for step in map(str, told)] == list(told.values())
    assert told[150] == 1.0


def test_a_healthy_run_warns_of_nothing(data, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        train(tiny_config(jepa={"steps": 4}, **REST), [data], tmp_path, silent)


def test_a_loss_that_is_no_number_ends_the_run_in_one_line(data, tmp_path):
    with pytest.raises(TrainingDivergedError, match=r"the loss is nan .*lower jepa.learning_rate") as caught:
        train(tiny_config(jepa={"steps": 30, "warmup": 1, "learning_rate": 1e30}, **REST), [data], tmp_path, silent)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "jepa.safetensors").exists()


def test_tensorboard_shows_what_the_table_says(run):
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    with (run / "log.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for name in ("loss", "next", "rollout", "penalty", "rank", "gradient", "rate"):
        points = board.Scalars(f"world model/{name}")
        assert [point.step for point in points] == [int(row["step"]) for row in rows]
        assert [point.value for point in points] == pytest.approx([float(row[name]) for row in rows], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": 5}, "seed was 0, not 5"),
        ({"jepa": {"batch": 8}}, r"compute.batch of a process was 4, not 8"),
        ({"jepa": {"average": 0.9}}, "jepa.average was 0.0, not 0.9"),
        ({"jepa": {"augmentation": {"hue": 0.1}}}, "jepa.augmentation.hue was 0.0, not 0.1"),
        ({"jepa": {"objective": {"kind": "vicreg"}}}, "jepa.objective.directions was 64, not 512"),
        ({"compute": {"precision": "bf16-mixed"}}, 'compute.precision was "32-true", not "bf16-mixed"'),
        ({"model": {"latent_dim": 16}}, "model.latent_dim was 8, not 16"),
    ],
)
def test_a_run_that_would_differ_is_refused_by_name(episodes, change, reason):
    before, config = tiny_config(), tiny_config(**change)
    identity = identity_of(before, episodes, open_fabric(before.compute, 1))
    require_same(json.loads(json.dumps(identity)), identity, Path("run"))
    with pytest.raises(CheckpointError, match=f"^run holds a run of another configuration or other data \\({reason}\\)"):
        require_same(identity, identity_of(config, episodes, open_fabric(config.compute, 1)), Path("run"))


def test_more_data_than_before_is_another_run(data, episodes, tmp_path):
    more = shutil.copytree(data, tmp_path / "more")
    shutil.copytree(more / "shard-00000", more / "shard-00002")
    config = tiny_config()
    fabric = open_fabric(config.compute, 1)
    with pytest.raises(CheckpointError, match=r"data.episodes was 12, not 18"):
        require_same(identity_of(config, episodes, fabric), identity_of(config, open_episodes([more], 2), fabric), tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"compute": {"precision": "fp8"}}, "precision is 'fp8', must be one of auto, 32-true, bf16-mixed"),
        ({"compute": {"accelerator": "tpu"}}, "accelerator is 'tpu'"),
        ({"compute": {"devices": 0}}, "devices is 0, must be at least 1"),
        ({"jepa": {"average": 1.0}}, "average is 1.0, must lie in"),
        ({"jepa": {"augmentation": {"hues": 0.1}}}, "unknown key 'hues'; did you mean 'hue'?"),
        ({"jepa": {"augmentation": {"noise": 2}}}, "noise is 2.0, must lie between 0 and 1"),
        ({"jepa": {"objective": {"kind": "sigregg"}}}, "unknown objective 'sigregg'"),
    ],
)
def test_a_wrong_setting_of_training_is_named(change, reason):
    with pytest.raises(ConfigError) as caught:
        tiny_config(**change)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_machine_without_the_accelerator_is_one_line():
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ConfigError, match="compute: ") as caught:
        open_fabric(tiny_config(compute={"accelerator": "cuda"}).compute, 1)
    assert "\n" not in str(caught.value)


def test_a_world_model_of_other_pictures_or_another_shape_is_refused(data, run, tmp_path):
    with pytest.raises(CheckpointError, match=r"model.latent_dim was 8, not 6"):
        train(tiny_config(model={"latent_dim": 6}, **REST), [data], tmp_path / "a", silent, world_model=run)
    small = shutil.copytree(data, tmp_path / "small")
    description = json.loads((small / "dataset.json").read_text())
    (small / "dataset.json").write_text(json.dumps(description | {"frame": [32, 64, 3]}))
    for file in small.glob("shard-*/frames.npy"):
        np.save(file, np.ascontiguousarray(np.load(file, allow_pickle=False)[:, :, ::2]))
    with pytest.raises(DatasetError, match="frame") as caught:
        train(tiny_config(**REST), [small], tmp_path / "b", silent, world_model=run)
    assert "\n" not in str(caught.value)


# The average of the weights.


def test_the_average_is_the_exponential_one():
    """Against the sum of all the weights that there were, each with the share that its age leaves it."""
    layer = nn.Linear(2, 2)
    average = averaged(layer, 0.8)
    history = []
    for step in range(6):
        with torch.no_grad():
            layer.weight.fill_(float(step * step))
        average.update_parameters(layer)
        history.append(float(step * step))
    shares = [0.8**5] + [0.2 * 0.8 ** (5 - step) for step in range(1, 6)]
    assert torch.allclose(average.module.weight, torch.tensor(float(np.dot(shares, history))), atol=1e-5)


def test_what_is_kept_is_the_average_normalised_by_its_own_statistics_also_after_an_interruption(data, episodes, tmp_path):
    config = tiny_config(jepa={"steps": 12, "checkpoint_every": 5, "average": 0.8}, **REST)
    train(config, [data], tmp_path / "a", silent)
    stored, last = load_file(tmp_path / "a" / "learned.safetensors"), load_file(tmp_path / "a" / "jepa.safetensors")
    name = "predictor.enter.weight"
    assert torch.equal(stored[f"jepa/{name}"], last[f"average/module.{name}"])
    assert not torch.equal(stored[f"jepa/{name}"], last[f"jepa/{name}"])
    jepa = load_run(tmp_path / "a")[1].jepa.eval()
    with torch.no_grad():
        latents = jepa.encode(torch.from_numpy(episodes.frames[:-2]).flatten(0, 1))
    assert torch.allclose(latents.mean(0), torch.zeros(8), atol=0.25) and torch.allclose(latents.std(0), torch.ones(8), atol=0.25)

    class Stop(Exception):
        pass

    def stop(stage: str, done: int, of: int, numbers: dict[str, float]) -> None:
        if (stage, done) == ("world model", 10):
            raise Stop

    with pytest.raises(Stop):
        train(config, [data], tmp_path / "b", stop)
    train(config, [data], tmp_path / "b", silent)
    again = load_file(tmp_path / "b" / "learned.safetensors")
    assert all(torch.equal(stored[key], again[key]) for key in stored)


def test_statistics_are_the_mean_over_the_batches(run):
    jepa = load_run(run)[1].jepa
    frames = torch.randint(0, 256, (3, 16, 64, 64, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with torch.no_grad():
        features = [jepa.projector[0](jepa.encoder(batch).flatten(0, 1)).double() for batch in frames]
    estimate_batch_norm(jepa, ((batch, None) for batch in frames))
    norm = jepa.projector[1]
    assert torch.allclose(norm.running_mean.double(), torch.stack([f.mean(0) for f in features]).mean(0), atol=1e-4)
    assert torch.allclose(norm.running_var.double(), torch.stack([f.var(0) for f in features]).mean(0), rtol=1e-3)
    assert norm.momentum == nn.BatchNorm1d(1).momentum


# What is drawn.


def test_processes_share_out_what_one_would_draw(episodes):
    whole = Windows(episodes, 10, 12, 5, seed=3).draw(7)
    parts = [Windows(episodes, 10, 12, 5, 3, rank, 3).draw(7) for rank in range(3)]
    assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
    assert torch.equal(torch.cat([part.actions for part in parts]), whole.actions)
    assert [part.first for part in parts] == [0, 4, 8]


def test_windows_are_drawn_evenly_and_actions_belong_to_their_frames(episodes):
    """Every window is found again in the data, actions beside frames, and begins occur alike often."""
    windows = Windows(episodes, 10, 400, 5, seed=0).draw(0)
    places = np.zeros((12, 9))
    for frames, actions in zip(windows.frames.numpy(), windows.actions.numpy(), strict=True):
        found = [(e, b) for e in range(12) for b in range(9) if np.array_equal(episodes.actions[e, b : b + 4], actions)]
        assert len(found) == 1 and np.array_equal(episodes.frames[found[0][0], found[0][1] : found[0][1] + 5], frames)
        places[found[0]] += 1
    assert not places[10:].any(), "held-out episodes are drawn"
    chi_squared = float(((places[:10] - 400 / 90) ** 2 / (400 / 90)).sum())
    assert chi_squared < 140  # 89 degrees of freedom: exceeded by chance once in 2,000 draws


def test_half_precision_learns_about_the_same(data, run, tmp_path):
    """bf16 keeps 8 bits: the loss of a short run stays within a tenth of that in full precision, and the weights stay float32."""
    config = tiny_config(jepa={"steps": 60}, compute={"precision": "bf16-mixed"}, **REST)
    train(config, [data], tmp_path, silent)
    halves, whole = ([float(row["loss"]) for row in csv.DictReader((folder / "log.csv").open())] for folder in (tmp_path, run))
    assert halves == pytest.approx(whole, rel=0.1) and halves != whole
    assert all(value.dtype != torch.bfloat16 for value in load_file(tmp_path / "learned.safetensors").values())
