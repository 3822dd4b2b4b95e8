"""The same with `lerobot`'s own code, where somebody has installed it: it reads what we write, and we read what it writes."""

from __future__ import annotations

import numpy as np
import pytest
from latent_mpc.lerobot.export import LeRobotExport, export_lerobot
from latent_mpc.lerobot.importing import LeRobotImport, import_lerobot

from world_model.data import EpisodeDataset, ShardWriter, write_description

theirs = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="lerobot is not installed", exc_type=ImportError)
# Colours at half the resolution, in shades of 256, the mean over all pixels.
CODEC = 4


def quiet(done: int, of: int) -> None:
    """Reports go nowhere."""


def scene(frame: int, colour: int, height: int, width: int) -> np.ndarray:
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[8:24, 2 * frame : 2 * frame + 16] = (200, 30 + 5 * frame, colour)
    return picture


@pytest.mark.parametrize(("period", "height", "width", "dim"), [(0.2, 64, 64, 2), (0.15, 33, 47, 1)])
def test_lerobot_reads_what_we_write(tmp_path, period, height, width, dim):
    rng, episodes, steps = np.random.default_rng(0), 4, 6
    space = {"low": [-1.0] * dim, "high": [1.0] * dim, "dim": dim, "meaning": "command", "names": ["x", "y"][:dim], "unit": "rad", "period_s": period}
    write_description(tmp_path / "set", {"task": "t", "action_space": space, "frame": [height, width, 3]})
    frames = np.stack([[scene(k, 60 * e, height, width) for k in range(steps + 1)] for e in range(episodes)])
    actions = rng.uniform(-1, 1, (episodes, steps, dim)).astype(np.float32)
    joints = rng.uniform(-3, 3, (episodes, steps + 1, 3)).astype(np.float32)
    ShardWriter(tmp_path / "set", 0).write(frames, actions, None, joints)
    export_lerobot(LeRobotExport(tmp_path / "set", tmp_path / "out", "push it", most_frames=2 * (steps + 1)), quiet)
    ahead = {"action": [0.0, period], "observation.images.camera": [-period, 0.0]}
    data = theirs.LeRobotDataset("local/set", root=tmp_path / "out", delta_timestamps=ahead)
    assert data.meta.total_episodes == episodes and len(data) == episodes * (steps + 1) and data.meta.stats["action"]["mean"].shape == (dim,)
    for index in range(len(data)):
        episode, place = divmod(index, steps + 1)
        item = data[index]
        assert item["task"] == "push it" and item["index"] == index and bool(item["next.done"]) == (place == steps)
        assert np.array_equal(item["observation.state"].numpy(), joints[episode, place])
        if place < steps:
            assert np.array_equal(item["action"][0].numpy().reshape(dim), actions[episode, place])
        assert bool(item["action_is_pad"][1]) == (place == steps)
        seen = 255 * item["observation.images.camera"].permute(0, 2, 3, 1).numpy()
        assert np.abs(seen - frames[episode, [max(0, place - 1), place]]).mean() < CODEC


def test_we_read_what_lerobot_writes(tmp_path):
    names, lengths = ["a", "b", "c"], (22, 17)
    camera = {"dtype": "video", "shape": (96, 96, 3), "names": ["height", "width", "channels"]}
    vector = {"dtype": "float32", "shape": (3,), "names": names}
    features = {"observation.images.top": camera, "observation.state": vector, "action": vector}
    made = theirs.LeRobotDataset.create("local/made", fps=15, root=tmp_path / "theirs", features=features)
    rng, actions, pictures = np.random.default_rng(0), [], []
    for episode, length in enumerate(lengths):
        for frame in range(length):
            actions.append(rng.uniform(-2, 2, 3).astype(np.float32))
            pictures.append(scene(frame, 60 * episode, 96, 96))
            made.add_frame({"observation.images.top": pictures[-1], "observation.state": actions[-1] / 2, "action": actions[-1], "task": "pick"})
        made.save_episode()
    made.finalize()
    import_lerobot(LeRobotImport(tmp_path / "theirs", tmp_path / "set", steps=8, size=(96, 96)), quiet)
    data = EpisodeDataset(tmp_path / "set")
    space = data.description["action_space"]
    low, high = np.array(space["low"]), np.array(space["high"])
    assert data.episodes == 4 and space["names"] == names
    for episode, first in enumerate((0, 8, 22, 30)):
        rows = slice(first, first + 9)
        assert np.allclose(low + (data.actions()[episode] + 1) / 2 * (high - low), actions[first : first + 8], atol=1e-5)
        assert np.allclose(data.joints()[episode], np.array(actions[rows]) / 2, atol=1e-6)
        assert np.abs(data.frames()[episode].astype(int) - np.array(pictures[rows])).mean() < CODEC
