"""The encoder in many looks: the second stage of training, on pairs of pictures of one moment."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from latent_mpc.collect import Collection, collect
from tiny_runs import silent, tiny_config, tiny_data, tiny_run

from world_model.checkpoint import CheckpointError, load_checkpoint
from world_model.data import DatasetError, EpisodeDataset
from world_model.training import build, encode_all, train
from world_model.training.invariance import PairedLooks, look_error

SETTINGS = {"invariance": {"steps": 120, "batch": 24, "warmup": 5, "learning_rate": 2e-3}}


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def looks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("looks") / "looks"
    collect(Collection("reach", shards=2, seed=0, out=folder, episodes=6, steps=12, randomised=1.0), 1, lambda done, of: None)
    return folder


@pytest.fixture(scope="module")
def run(session, looks, tmp_path_factory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("invariant")
    return folder, train(tiny_config(**SETTINGS), [tiny_data(session)], folder, silent, looks=looks)


def encoder_of(run: Path) -> torch.nn.Module:
    learned = build(tiny_config(), (64, 64, 3), 3)
    load_checkpoint(run / "learned.safetensors", {"jepa": learned.jepa}, None)
    return learned.jepa


def test_other_looks_come_nearer_to_the_ordinary_one(session, looks, run):
    reader, pairs = EpisodeDataset(tiny_data(session)), PairedLooks(EpisodeDataset(tiny_data(session)), EpisodeDataset(looks), 2)
    episodes, starts = np.arange(8), np.zeros(8, int)
    ordinary, changed = reader.windows(episodes, starts, 13), EpisodeDataset(looks).windows(episodes, starts, 13)
    before, after = encoder_of(tiny_run(session)), encoder_of(run[0])
    meant = encode_all(before, ordinary)
    away = [float((encode_all(jepa, changed) - meant).pow(2).mean()) for jepa in (before, after)]
    assert away[1] < 0.5 * away[0]
    last = encode_all(after, reader.windows(np.arange(10, 12), np.zeros(2, int), 13))
    held_out = encode_all(after, EpisodeDataset(looks).windows(np.arange(10, 12), np.zeros(2, int), 13))
    assert look_error(after, last, pairs) == pytest.approx(float((held_out - last).pow(2).mean()), rel=1e-5)
    assert run[1]["looks_mse"] == pytest.approx(look_error(after, last, pairs), rel=1e-4)


def test_the_predictor_and_the_projector_s_statistics_stay(session, run):
    before, after = encoder_of(tiny_run(session)).state_dict(), encoder_of(run[0]).state_dict()
    kept = [key for key in before if key.startswith("predictor") or "running" in key]
    assert kept and all(torch.equal(before[key], after[key]) for key in kept)
    assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith("encoder"))


def test_an_interrupted_stage_goes_on_to_the_same_weights(session, looks, run, tmp_path, monkeypatch):
    monkeypatch.setattr("world_model.training.invariance._CHECKPOINT_EVERY", 50)

    class Interrupted(Exception):
        pass

    def stop(stage: str, done: int, of: int, numbers: dict[str, float]) -> None:
        if stage == "invariance" and done == 100:
            raise Interrupted

    config = tiny_config(**SETTINGS)
    with pytest.raises(Interrupted):
        train(config, [tiny_data(session)], tmp_path, stop, looks=looks)
    train(config, [tiny_data(session)], tmp_path, silent, looks=looks)
    whole, resumed = encoder_of(run[0]).state_dict(), encoder_of(tmp_path).state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_another_configuration_of_the_stage_is_refused(session, looks, run):
    config = tiny_config(invariance=SETTINGS["invariance"] | {"batch": 12})
    with pytest.raises(CheckpointError, match=r"invariance\.batch was 24, not 12"):
        train(config, [tiny_data(session)], run[0], silent, looks=looks)


def test_episodes_that_are_not_the_same_are_refused(session, tmp_path):
    other = tmp_path / "other"
    collect(Collection("reach", shards=2, seed=1, out=other, episodes=6, steps=12, randomised=1.0), 1, lambda done, of: None)
    with pytest.raises(DatasetError, match=r"does not hold the episodes of .*; collect it with the same task, seed and steps"):
        PairedLooks(EpisodeDataset(tiny_data(session)), EpisodeDataset(other), 2)


def test_pairs_show_the_same_moment_and_never_a_held_out_one(session, looks):
    first, second = EpisodeDataset(tiny_data(session)), EpisodeDataset(looks)
    everything = {reader.directory: reader.frames() for reader in (first, second)}
    pairs = PairedLooks(first, second, 2)
    for step in range(5):
        for ordinary, changed in zip(*pairs.draw(step, 16, 0), strict=True):
            at = np.argwhere((everything[first.directory] == ordinary).all((2, 3, 4)))
            assert len(at) and at[:, 0].max() < 10
            assert any(np.array_equal(everything[second.directory][e, t], changed) for e, t in at)
    assert not np.array_equal(pairs.draw(0, 16, 0)[0], pairs.draw(1, 16, 0)[0])
    assert dataclasses.is_dataclass(pairs)
