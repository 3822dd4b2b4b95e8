"""The episode format: whole shards or none, and damage that is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from world_model.data import DatasetError, EpisodeDataset, ShardWriter, write_description
from world_model.training import open_episodes

DESCRIPTION = {"task": "reach", "tool_step": {"length_m": 0.04}, "frame": [8, 8, 3]}


def arrays(episodes: int = 3, steps: int = 5, seed: int = 0, size: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (episodes, steps + 1, size, size, 3), dtype=np.uint8)
    return frames, rng.uniform(-1, 1, (episodes, steps, 2)).astype(np.float32), rng.standard_normal((episodes, steps + 1, 6)).astype(np.float32)


def write_set(folder: Path, shards: int = 2, steps: int = 5, **description: object) -> Path:
    write_description(folder, DESCRIPTION | description)
    for index in range(shards):
        ShardWriter(folder, index).write(*arrays(steps=steps, seed=index, size=int((DESCRIPTION | description)["frame"][0])))
    return folder


def test_what_is_written_is_read_back_in_order(tmp_path):
    data = EpisodeDataset(write_set(tmp_path / "set"))
    expected = [np.concatenate(parts) for parts in zip(arrays(seed=0), arrays(seed=1), strict=True)]
    for found, wanted in zip((data.frames(), data.actions(), data.state()), expected, strict=True):
        assert found.dtype == wanted.dtype and np.array_equal(found, wanted)
    assert (data.episodes, data.steps, data.action_dim) == (6, 5, 2)
    assert data.description["task"] == "reach"


class DeadlyState:
    """A state array whose process is killed when it is about to be written, after the frames and the actions."""

    shape, dtype = (3, 6, 6), np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")


def write_and_die(folder: Path) -> None:
    frames, actions, _ = arrays()
    ShardWriter(folder, 1).write(frames, actions, DeadlyState())


def test_a_writer_killed_half_way_leaves_whole_shards_only(tmp_path):
    folder = write_set(tmp_path / "set", shards=1)
    writer = multiprocessing.get_context("fork").Process(target=write_and_die, args=(folder,))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    leftovers = list(folder.glob(".shard-00001.*"))
    assert leftovers and (leftovers[0] / "frames.npy").is_file(), "it died too early to show anything"
    assert EpisodeDataset(folder).episodes == 3
    # The collector comes back, by bad luck with the process id of the one that died.
    leftovers[0].rename(folder / f".shard-00001.{os.getpid()}")
    ShardWriter(folder, 1).write(*arrays(seed=1))
    assert EpisodeDataset(folder).episodes == 6 and not list(folder.glob(".shard*"))


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    folder = write_set(tmp_path / "set", shards=1)
    frames, actions, state = arrays()
    with pytest.raises(DatasetError, match="disagree"):
        ShardWriter(folder, 1).write(frames[:, :-1], actions, state)
    lost, wild = actions.copy(), actions.copy()
    lost[2, 3, 1], wild[1, 0, 0] = np.nan, -1.01
    with pytest.raises(DatasetError, match=r"shard-00001: an action is not finite \(episode 2, step 3\)"):
        ShardWriter(folder, 1).write(frames, lost, state)
    with pytest.raises(DatasetError, match=r"an action lies outside \[-1, 1\] \(episode 1, step 0\)"):
        ShardWriter(folder, 1).write(frames, wild, state)
    with pytest.raises(DatasetError, match=r"frames is \(3, 6, 8, 8, 3\) float32; the format has 5 axes of uint8, see docs/data.md"):
        ShardWriter(folder, 1).write(frames.astype(np.float32), actions, state)
    with pytest.raises(DatasetError, match=r"frames is .*\(3, 6, 8, 8, 4\)"):
        ShardWriter(folder, 1).write(np.repeat(frames[..., :1], 4, -1), actions, state)
    assert sorted(entry.name for entry in folder.iterdir()) == ["dataset.json", "shard-00000"]


def test_a_shard_is_never_overwritten(tmp_path):
    folder = write_set(tmp_path / "set", shards=1)
    with pytest.raises(OSError, match=r"."):
        ShardWriter(folder, 0).write(*arrays(seed=9))
    assert np.array_equal(EpisodeDataset(folder).frames(), arrays(seed=0)[0])


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "not an array"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    file = write_set(tmp_path / "set") / "shard-00001" / "frames.npy"
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "not an array": b"hello" * 50}[damage])
    with pytest.raises(DatasetError, match=r"shard-00001/frames.npy: cannot be read .*; delete this shard and collect it again") as caught:
        EpisodeDataset(tmp_path / "set")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("actions", lambda a: np.where(a == a[2, 4, 1], np.nan, a), r"shard-00001: an action is not finite \(episode 2, step 4\)"),
        ("actions", lambda a: a * 3, r"shard-00001: an action lies outside \[-1, 1\]"),
        ("actions", lambda a: a.astype(np.float64), r"shard-00001: actions is \(3, 5, 2\) float64"),
        ("frames", lambda a: a.astype(np.int16), r"shard-00001: frames is .* int16"),
        ("frames", lambda a: a[:, :-1], r"shard-00001: .*frames \(3, 5, 8, 8, 3\).*disagree"),
        ("frames", lambda a: a[:, :, :4], r"shards differ in shape"),
        ("state", lambda a: a[:-1], r"shard-00001: .*state \(2, 6, 6\) disagree"),
    ],
)
def test_an_array_that_is_not_what_it_should_be_is_named_when_it_is_read(tmp_path, name, spoil, reason):
    file = write_set(tmp_path / "set") / "shard-00001" / f"{name}.npy"
    array = spoil(np.load(file, allow_pickle=False))
    np.save(file, array.astype(np.float32) if array.dtype == np.float64 and "float64" not in reason else array)
    with pytest.raises(DatasetError, match=reason) as caught:
        EpisodeDataset(tmp_path / "set")
    assert "\n" not in str(caught.value)


def test_state_and_joints_may_be_missing(tmp_path):
    write_description(tmp_path / "set", DESCRIPTION)
    frames, actions, _ = arrays()
    angles = np.linspace(-1, 1, 3 * 6 * 7, dtype=np.float32).reshape(3, 6, 7)
    ShardWriter(tmp_path / "set", 0).write(frames, actions, joints=angles)
    data = EpisodeDataset(tmp_path / "set")
    assert data.state() is None and np.array_equal(data.joints(), angles)
    ShardWriter(tmp_path / "set", 1).write(*arrays(seed=1))
    assert EpisodeDataset(tmp_path / "set").joints() is None, "one shard has none"


def test_data_of_the_first_version_are_read(tmp_path):
    folder = write_set(tmp_path / "set")
    (folder / "dataset.json").write_text(json.dumps({"schema_version": 1, **DESCRIPTION}))
    data = EpisodeDataset(folder)
    assert (data.episodes, data.frame) == (6, (8, 8, 3)) and data.state().shape == (6, 6, 6)


def test_windows_are_the_frames_of_their_episodes(tmp_path, monkeypatch):
    """More shards than may be mapped at a time, each window against plain indexing of what was written."""
    monkeypatch.setattr("world_model.data.episodes._MAPPED_SHARDS", 2)
    data = EpisodeDataset(write_set(tmp_path / "set", shards=5))
    everything = np.concatenate([arrays(seed=seed)[0] for seed in range(5)])
    rng = np.random.default_rng(0)
    for length in (1, 4, 6):
        episodes, begins = rng.integers(15, size=40), rng.integers(6 - length + 1, size=40)
        found = data.windows(episodes, begins, length)
        assert found.dtype == np.uint8 and found.flags.writeable
        assert np.array_equal(found, everything[episodes[:, None], begins[:, None] + np.arange(length)])
    for episodes, begins in (([15], [0]), ([-1], [0]), ([0], [3]), ([0], [-1])):
        with pytest.raises(IndexError):
            data.windows(np.array(episodes), np.array(begins), 4)


def test_arrays_of_a_shard_that_disagree_are_refused(tmp_path):
    folder = write_set(tmp_path / "set")
    np.save(folder / "shard-00001" / "actions.npy", arrays(episodes=2)[1])
    with pytest.raises(DatasetError, match=r"shard-00001: .*disagree"):
        EpisodeDataset(folder)


def test_shards_of_different_shape_are_refused(tmp_path):
    folder = write_set(tmp_path / "set", shards=1)
    ShardWriter(folder, 1).write(*arrays(steps=4))
    with pytest.raises(DatasetError, match="shards differ in shape"):
        EpisodeDataset(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "dataset.json"),
        ("[]", "schema version"),
        (json.dumps({"schema_version": 99}), "schema version 99, this software reads 1 and 2"),
        (json.dumps({"schema_version": 2, "task": "reach"}), "does not say what an action means: it needs a tool_step or an action_space"),
        (json.dumps({"schema_version": 2, **DESCRIPTION, "steps": 7}), "dataset.json says episodes of 7 steps, the shards hold 5"),
        (json.dumps({"schema_version": 2, **DESCRIPTION, "frame": [16, 8, 3]}), r"says frames of \[16, 8, 3\], the shards hold \[8, 8, 3\]"),
        (json.dumps({"schema_version": 2, "action_space": {"dim": 3}}), "says 3 action components, the shards hold 2"),
    ],
)
def test_a_description_of_another_kind_is_refused(tmp_path, text, reason):
    folder = write_set(tmp_path / "set", shards=1)
    (folder / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=reason) as caught:
        EpisodeDataset(folder)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(DatasetError, match=r"holds no dataset.json; `latent-mpc collect` writes one"):
        EpisodeDataset(tmp_path)
    write_description(tmp_path, DESCRIPTION)
    with pytest.raises(DatasetError, match="holds no shards"):
        EpisodeDataset(tmp_path)


# Sets put together for training.


def test_held_out_episodes_are_the_last_of_the_first_set(tmp_path):
    first, second = write_set(tmp_path / "first", shards=2), write_set(tmp_path / "second", shards=1, task="push")
    data = open_episodes([first, second], held_out=2)
    assert len(data.frames) == 9
    assert np.array_equal(data.frames[-2:], EpisodeDataset(first).frames()[-2:])
    assert [d["task"] for d in data.descriptions] == ["reach", "push"]


@pytest.mark.parametrize(
    "change",
    [
        {"tool_step": {"length_m": 0.02}},
        {"frame": [16, 16, 3]},
        {"steps": 4},
        {"env": "My-v0", "tool_step": DESCRIPTION["tool_step"]},
        {"action_space": {"dim": 2, "low": [-1, -1], "high": [1, 1]}},
    ],
)
def test_sets_of_different_kinds_are_not_trained_on_together(tmp_path, change):
    first, other = write_set(tmp_path / "first"), write_set(tmp_path / "other", **change)
    with pytest.raises(DatasetError, match=f"differ in {next(iter(change))}") as caught:
        open_episodes([first, other], held_out=2)
    assert str(first) in str(caught.value) and str(other) in str(caught.value)


def test_holding_out_everything_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="holds 6 episodes; 6 are held out, so more are needed"):
        open_episodes([write_set(tmp_path / "set")], held_out=6)
