"""The encoder in many looks: the second stage of training, on pairs of pictures of one moment."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from latent_mpc.collect import Collection, collect
from tiny_runs import silent, tiny_config, tiny_data, tiny_run

from arm_model import load_arm
from world_model.bundle import WITNESS, BundleError, bundle_sha256, read_manifest, record_surprise
from world_model.checkpoint import CheckpointError, load_checkpoint
from world_model.data import DatasetError, EpisodeDataset
from world_model.export import export_bundle
from world_model.runtime import OnnxModel
from world_model.surprise import SurpriseCalibration
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


def test_the_first_encoder_goes_with_the_bundle_as_a_witness(session, run, tmp_path):
    """The run without that stage has the same seed and data: its encoder is what the witness must be, evaluated in torch."""
    taught, older, plain = tmp_path / "taught", tmp_path / "older", tmp_path / "plain"
    assert "witness" in export_bundle(run[0], taught, load_arm().joints)
    assert "witness" not in export_bundle(tiny_run(session), plain, load_arm().joints)
    model, frames = OnnxModel(taught), np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        first, second = (encoder_of(folder).eval().encode(torch.from_numpy(frames)).numpy() for folder in (tiny_run(session), run[0]))
    assert np.abs(first - second).max() > 1e-2
    assert model.witness(frames) == pytest.approx(first, abs=1e-4) and model.encode(frames) == pytest.approx(second, abs=1e-4)
    assert not (plain / WITNESS).exists() and OnnxModel(plain).witness(frames) == pytest.approx(first, abs=1e-4)
    # Runs of before the first encoder was kept have it as the end of their first stage.
    shutil.copytree(run[0], tmp_path / "run")
    (tmp_path / "run" / "witness.safetensors").unlink()
    export_bundle(tmp_path / "run", older, load_arm().joints)
    assert OnnxModel(older).witness(frames) == pytest.approx(first, abs=1e-4)
    (tmp_path / "run" / "jepa.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks its first encoder"):
        export_bundle(tmp_path / "run", older, load_arm().joints)
    # Bundles of before say nothing of a witness; a damaged one is refused like any other file, and the bundle's hash does not hang on it.
    content = json.loads((plain / "manifest.json").read_text())
    del content["witness"]
    (plain / "manifest.json").write_text(json.dumps(content))
    assert not read_manifest(plain).witness
    manifest = read_manifest(taught)
    assert bundle_sha256(manifest) == bundle_sha256(dataclasses.replace(manifest, sha256={k: v for k, v in manifest.sha256.items() if k != WITNESS}))
    record_surprise(taught, SurpriseCalibration(scale=(1.0,) * 3, threshold=0.3).to_json(), [])
    assert set(read_manifest(taught).surprise["graphs"]) == {WITNESS, "rollout.onnx"}
    (taught / WITNESS).write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"SHA-256 of witness\.onnx"):
        read_manifest(taught)
