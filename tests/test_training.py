"""Training: it learns, it repeats itself, it goes on where it was interrupted, and it says what is wrong with its configuration."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_runs import SETTINGS, silent, tiny_config, tiny_data, tiny_run

from world_model import training
from world_model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from world_model.config import ConfigError, TrainConfig, parse_config, read_config
from world_model.data import DatasetError
from world_model.export import load_run
from world_model.objectives import ObjectiveConfig, build_objective
from world_model.protocol import ActionMixture
from world_model.training import Learned, build, draw_hindsight, encode_all, learning_rate, loss_terms, open_episodes, train
from world_model.training.log import COLUMNS

SHORT = {"jepa": {"steps": 8, "batch": 4}, "distance": {"steps": 4}, "actor": {"steps": 4}}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_data(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return tiny_run(tmp_path_factory.getbasetemp())


def same_weights(a: Path, b: Path) -> bool:
    first, second = load_file(a / "learned.safetensors"), load_file(b / "learned.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@torch.no_grad()
def jepa_loss(learned: Learned, episodes: training.Episodes, config: TrainConfig) -> float:
    """The loss of training on all the data, with the statistics of that batch."""
    learned.jepa.train()
    window = config.jepa.window
    latents = learned.jepa.encode(torch.from_numpy(episodes.frames[:, :window].reshape(-1, 64, 64, 3))).view(-1, window, config.model.latent_dim)
    actions = torch.from_numpy(episodes.actions[:, : window - 1])
    objective = build_objective(config.jepa.objective)
    return float(sum(loss_terms(learned.jepa, objective, latents, latents, actions, torch.Generator().manual_seed(0)).values()))


def test_training_lowers_every_loss(data, run):
    config, learned, meta = load_run(run)
    episodes = open_episodes([data], config.held_out)
    untrained = build(config, (64, 64, 3), 3)
    assert jepa_loss(learned, episodes, config) < 0.8 * jepa_loss(untrained, episodes, config)

    latents = encode_all(load_run(run)[1].jepa, episodes.frames).clone()
    pairs = draw_hindsight(latents, torch.from_numpy(episodes.actions), 512, 12, torch.Generator().manual_seed(0))
    with torch.no_grad():
        errors = [(pairs.steps - head.distance(pairs.latents, pairs.goals)).abs().mean() for head in (untrained, learned)]
        surprise = [
            m.actor.eval().negative_log_likelihood(pairs.latents, pairs.goals, pairs.steps, pairs.actions).mean() for m in (untrained, learned)
        ]
    assert errors[1] < 0.7 * errors[0]
    assert surprise[1] < surprise[0] - 0.1
    assert meta["episodes"] == 12 and 0 < meta["probes"]["tool_rmse_cm"] < 100


def test_what_was_learned_is_logged_and_reported(data, run, tmp_path):
    with (run / "log.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["step"]) for row in rows] == [50, 60]
    assert all(np.isfinite(float(row[key])) for row in rows for key in COLUMNS)
    stages = []
    train(tiny_config(**SHORT), [data], tmp_path, lambda stage, done, of, numbers: stages.append((stage, done, of)))
    assert ("world model", 8, 8) in stages and ("actor", 4, 4) in stages


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tiny_config(seed=seed, **SHORT), [data], tmp_path / name, silent)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


class Interrupted(Exception):
    """What a test raises where a user would press Ctrl-C."""


def test_an_interrupted_run_goes_on_to_exactly_the_same_weights_and_log(data, run, tmp_path):
    config = tiny_config(jepa={"checkpoint_every": 20})

    def interrupt(stage: str, done: int, of: int, numbers: dict[str, float]) -> None:
        if (stage, done) == ("world model", 50):
            raise Interrupted

    with pytest.raises(Interrupted):
        train(config, [data], tmp_path, interrupt)
    assert not (tmp_path / "learned.safetensors").exists()
    train(config, [data], tmp_path, silent)
    assert same_weights(tmp_path, run)
    assert (tmp_path / "log.csv").read_text() == (run / "log.csv").read_text()


def test_a_run_of_another_configuration_is_refused(data, tmp_path):
    train(tiny_config(**SHORT), [data], tmp_path, silent)
    for change in ({"seed": 5}, {"model": {"latent_dim": 16, "predictor": {"width": 32, "depth": 1}}}):
        with pytest.raises(CheckpointError, match="configuration") as caught:
            train(tiny_config(**SHORT, **change), [data], tmp_path, silent)
        assert "\n" not in str(caught.value)


def test_a_finished_world_model_is_taken_as_it_is(data, run, tmp_path):
    train(tiny_config(**SHORT), [data], tmp_path, silent, world_model=run)
    before, after = load_file(run / "learned.safetensors"), load_file(tmp_path / "learned.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("jepa/"))
    assert not all(torch.equal(before[key], after[key]) for key in before if key.startswith("actor/"))


def test_a_world_model_that_is_not_there_is_one_line(data, tmp_path):
    with pytest.raises(CheckpointError, match=r"learned.safetensors") as caught:
        train(tiny_config(**SHORT), [data], tmp_path / "out", silent, world_model=tmp_path / "gone")
    assert "\n" not in str(caught.value)


def test_data_of_another_task_is_refused(data, tmp_path):
    with pytest.raises(DatasetError, match="'tiny' is for push, but data of task 'reach' was given"):
        train(tiny_config(tasks=["push"], **SHORT), [data], tmp_path, silent)


def test_windows_longer_than_the_episodes_are_refused(data, tmp_path):
    with pytest.raises(DatasetError, match="13 frames, too few for windows of 14"):
        train(tiny_config(jepa={"window": 14, "steps": 2}), [data], tmp_path, silent)


def test_the_held_out_episodes_train_nothing(data, tmp_path):
    """With other pictures and actions in the held-out episodes the weights are the same."""
    train(tiny_config(**SHORT), [data], tmp_path / "a", silent)
    spoiled = shutil.copytree(data, tmp_path / "spoiled")
    for name, other in (("frames", lambda array: 255 - array), ("actions", lambda array: -array)):
        file = sorted(spoiled.glob("shard-*"))[-1] / f"{name}.npy"
        array = np.load(file, allow_pickle=False)
        array[-2:] = other(array[-2:])
        np.save(file, array)
    train(tiny_config(**SHORT), [spoiled], tmp_path / "b", silent)
    assert same_weights(tmp_path / "a", tmp_path / "b")


# The parts.


def test_the_rollout_is_the_predictor_step_by_step():
    learned = build(tiny_config(), (64, 64, 3), 3)
    rng = torch.Generator().manual_seed(0)
    latents, past, actions = (torch.randn(4, n, d, generator=rng) for n, d in ((3, 8), (2, 3), (5, 3)))
    with torch.no_grad():
        whole = learned.jepa.rollout(latents, past, actions)
        for step in range(5):
            window = torch.cat([past, actions[:, step : step + 1]], dim=1)
            after = learned.jepa.predictor.step(latents, window)
            assert torch.allclose(whole[:, step], after, atol=1e-6)
            latents, past = torch.cat([latents[:, 1:], after[:, None]], dim=1), window[:, 1:]


def test_the_losses_compare_each_prediction_with_the_frame_that_came_next():
    """A predictor that says 'as before' is right exactly where nothing changes."""
    learned = build(tiny_config(), (64, 64, 3), 3)
    for parameter in learned.jepa.predictor.leave.parameters():
        torch.nn.init.zeros_(parameter)
    latents = torch.zeros(2, 6, 8)
    latents[:, 4:] = 1.0  # one jump, between frames 3 and 4
    objective = build_objective(ObjectiveConfig(directions=16))
    terms = loss_terms(learned.jepa, objective, latents, latents, torch.zeros(2, 5, 3), torch.Generator().manual_seed(0))
    assert float(terms["next"].detach()) == pytest.approx(1 / 5)  # one of five predictions is off by 1
    assert float(terms["rollout"].detach()) == pytest.approx(2 / 3)  # imagined from frames 0 to 2: right at 3, off by 1 at 4 and 5


def test_hindsight_goals_lie_ahead_in_the_same_episode():
    episode, step = torch.meshgrid(torch.arange(7), torch.arange(13), indexing="ij")
    latents = torch.stack([episode, step], dim=-1).float()
    actions = latents[:, :-1].clone()
    pairs = draw_hindsight(latents, actions, 4000, 5, torch.Generator().manual_seed(0))
    assert torch.equal(pairs.latents, pairs.actions)
    assert torch.equal(pairs.goals[:, 0], pairs.latents[:, 0])
    assert torch.equal(pairs.goals[:, 1] - pairs.latents[:, 1], pairs.steps)
    assert set(pairs.steps.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert set(pairs.goals[:, 1].tolist()) == set(map(float, range(1, 13)))


def test_torch_and_numpy_agree_on_the_actor_s_likelihood():
    actor = build(tiny_config(), (64, 64, 3), 3).actor.eval()
    rng = torch.Generator().manual_seed(0)
    latents, goals = torch.randn(2, 20, 8, generator=rng)
    steps, actions = torch.rand(20, generator=rng) * 12, torch.rand(20, 3, generator=rng) * 2 - 1
    with torch.no_grad():
        mixture = ActionMixture(*(value.numpy() for value in actor(latents, goals, steps)))
        expected = actor.negative_log_likelihood(latents, goals, steps, actions).numpy()
    assert np.allclose(mixture.negative_log_likelihood(actions.numpy()), expected, atol=1e-5)
    assert mixture.std.min() >= 0.2 - 1e-6


def test_the_learning_rate_warms_up_holds_and_falls():
    rates = [learning_rate(step, 1000, 1.0, 100) for step in range(1000)]
    assert rates[0] == 0.01 and rates[99] == rates[499] == 1.0 and rates[-1] == 0.02
    assert np.all(np.diff(rates[500:]) <= 0)


def test_a_checkpoint_is_whole_or_absent(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    learned = build(tiny_config(), (64, 64, 3), 3)
    save_checkpoint(file, learned.modules(), None, {"mark": torch.ones(2)}, {"step": 3})
    before = file.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(file, learned.modules(), None, {}, {"step": 4})
    assert file.read_bytes() == before
    extra, meta = load_checkpoint(file, learned.modules(), None)
    assert torch.equal(extra["mark"], torch.ones(2)) and meta == {"step": 3}


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\xff" * 100])
def test_a_damaged_checkpoint_is_one_line(data, tmp_path, content):
    (tmp_path / "jepa.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"jepa.safetensors cannot be read") as caught:
        train(tiny_config(**SHORT), [data], tmp_path, silent)
    assert "\n" not in str(caught.value)


# The configuration.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"jepa": {"learning_rat": 1.0}}, "tiny.jepa: unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        ({"seeed": 1}, "tiny: unknown key 'seeed'; did you mean 'seed'?"),
        ({"model": {"encoder": {"kid": "vit"}}}, "tiny.model.encoder: unknown key 'kid'; did you mean 'kind'?"),
        ({"jepa": 3}, "tiny.jepa: expected a mapping, found 3"),
        ({"seed": 1.5}, "tiny.seed: 1.5 is not of type int"),
        ({"seed": True}, "tiny.seed: True is not of type int"),
        ({"seed": "one"}, "tiny.seed: 'one' is not of type int"),
        ({"name": 3}, "tiny.name: 3 is not of type str"),
        ({"tasks": "reach"}, "tiny.tasks: 'reach' is not a list"),
        ({"tasks": []}, "tiny: tasks is empty"),
        ({"held_out": 0}, "tiny: held_out is 0, must be at least 1"),
        ({"jepa": {"window": 3}}, "tiny: jepa.window is 3, must be more than model.history, 3"),
        ({"jepa": {"warmup": 0}}, "tiny.jepa: warmup is 0"),
        ({"jepa": {"learning_rate": float("nan")}}, "tiny.jepa: learning_rate is nan"),
        ({"distance": {"expectile": 1.0}}, "tiny.distance: expectile is 1.0"),
        ({"actor": {"least_steps": 9, "most_steps": 3}}, "tiny.actor: least_steps is 9, more than most_steps 3"),
        ({"model": {"width": 32}}, "tiny.model: unknown key 'width'; did you mean 'predictor.width'?"),
        ({"model": {"depth": 2}}, "tiny.model: unknown key 'depth'; did you mean 'predictor.depth'?"),
        ({"model": {"predictor": {"dropout": 1.0}}}, "tiny.model.predictor: dropout is 1.0, must lie in [0, 1)"),
        (
            {"model": {"predictor": {"kind": "transformer", "heads": 3}}},
            "tiny.model.predictor: width 256 must be a multiple of the number of heads, 3",
        ),
        ({"model": {"latent_dim": 0}}, "tiny.model: latent_dim is 0"),
    ],
)
def test_a_wrong_configuration_is_named_in_one_line(change, reason):
    with pytest.raises(ConfigError) as caught:
        parse_config(SETTINGS | change, "tiny")
    assert str(caught.value).startswith(reason) and "\n" not in str(caught.value)


def test_numbers_are_taken_as_people_write_them(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("name: a\ntasks: [reach]\nseed: 2.0\njepa: {learning_rate: 6e-4}\n")
    config = read_config(file)
    assert config.jepa.learning_rate == 6e-4 and type(config.seed) is int


@pytest.mark.parametrize("text", ["name: [", "", "- a", "name: x"])
def test_a_file_that_is_no_configuration_is_one_line(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "run.yaml")
    assert "run.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_configuration_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_config(tmp_path / "gone.yaml")


SHIPPED = sorted((Path(training.__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", [file for file in SHIPPED if file.stem != "dino"], ids=lambda file: file.stem)  # that is a pre-training
def test_shipped_configurations_are_valid(file):
    config = read_config(file)
    assert config.name == file.stem == yaml.safe_load(file.read_text())["name"]


def test_a_configuration_survives_its_manifest():
    from dataclasses import asdict
    from json import dumps, loads

    config = tiny_config()
    assert parse_config(loads(dumps(asdict(config))), "manifest") == config
