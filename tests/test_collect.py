"""Collecting: the same shards whatever the number of workers, resumed where it stopped, and never two collections in one folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from latent_mpc.collect import Collection, collect

from arm_model import Kinematics, load_arm
from sim.tasks import UnknownTaskError
from world_model.data import DatasetError, EpisodeDataset

SMALL = Collection("push", shards=2, seed=3, out=Path(), episodes=2, steps=4)


def hashes(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.rglob("*.npy"))}


def silent(done: int, of: int) -> None:
    """Reports go nowhere."""


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("collected") / "push"
    collect(replace(SMALL, out=folder), 1, silent)
    return folder


def test_two_workers_collect_what_one_does(collected, tmp_path):
    collect(replace(SMALL, out=tmp_path / "two"), 2, silent)
    assert hashes(tmp_path / "two") == hashes(collected) and len(hashes(collected)) == 8


def test_what_is_collected_can_be_trained_on(collected):
    data = EpisodeDataset(collected)
    assert (data.episodes, data.steps, data.action_dim) == (4, 4, 2)
    assert data.frames().shape == (4, 5, 64, 64, 3) and np.ptp(data.frames()) > 100
    assert np.all(np.abs(data.actions()) <= 1)
    assert np.all(np.isfinite(data.state())) and np.all(data.state()[..., 3] > 0.3), "the block's place is recorded"
    assert data.joints().shape == (4, 5, 7)
    arm = Kinematics(load_arm())
    tools = [arm.tool_point(q.astype(np.float64)) for q in data.joints().reshape(-1, 7)]
    assert np.abs(np.array(tools) - data.state().reshape(-1, 6)[:, :3]).max() < 1e-5, "the measured joints put the tool where it was"
    assert data.description["steps"] == 4 and data.description["episodes_per_shard"] == 2
    assert data.description["task"] == "push" and data.description["frame"] == [64, 64, 3]
    assert not np.array_equal(data.frames()[0], data.frames()[2]), "shards differ"


def test_an_interrupted_collection_goes_on_with_what_is_missing(collected, tmp_path):
    collection = replace(SMALL, out=tmp_path / "set")
    collect(replace(collection, shards=1), 1, silent)
    kept = (collection.out / "shard-00000").stat().st_mtime_ns
    reports: list[tuple[int, int]] = []
    collect(collection, 1, lambda done, of: reports.append((done, of)))
    assert reports == [(1, 2), (2, 2)]
    assert (collection.out / "shard-00000").stat().st_mtime_ns == kept
    assert hashes(collection.out) == hashes(collected)


@pytest.mark.parametrize("change", [{"seed": 4}, {"task": "reach"}])
def test_a_folder_with_another_collection_is_refused_and_left_alone(collected, change):
    before = (collected / "dataset.json").read_text()
    with pytest.raises(DatasetError, match=f"holds a collection with {next(iter(change))} ") as caught:
        collect(replace(SMALL, out=collected, **change), 1, silent)
    assert "\n" not in str(caught.value)
    assert (collected / "dataset.json").read_text() == before


def test_an_unknown_task_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UnknownTaskError):
        collect(replace(SMALL, task="fly", out=tmp_path / "set"), 1, silent)
    assert not (tmp_path / "set").exists()


def test_take_over_episodes_name_their_actor(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", "reach")
    collection = Collection("reach", shards=1, seed=0, out=tmp_path / "set", actor=bundle, episodes=1, steps=3)
    collect(collection, 1, silent)
    data = EpisodeDataset(collection.out)
    assert data.description["policy"] == "take-over" and len(data.description["actor"]) == 64
    assert data.actions().shape == (1, 3, 3)
    with pytest.raises(DatasetError, match="holds a collection with policy take-over"):
        collect(replace(collection, actor=None), 1, silent)
