"""LeRobot data sets: what is written is what the format's conventions ask for, and what comes back is what went."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from latent_mpc.cli import run
from latent_mpc.lerobot.export import LeRobotExport, export_lerobot
from latent_mpc.lerobot.importing import LeRobotImport, import_lerobot
from latent_mpc.lerobot.layout import LeRobotError
from latent_mpc.lerobot.video import encode

from world_model.data import DatasetError, EpisodeDataset, ShardWriter, join, write_description

TOOL_STEP = {"length_m": 0.04, "period_s": 0.2, "lower": [0.3, -0.2, 0.0], "upper": [0.7, 0.2, 0.0]}
EPISODES, STEPS, SIDE = 5, 6, 32
KEY = "observation.images.front"
# Colours at half the resolution, around a bright square in a picture of 32 x 32 pixels; in shades of 256, the mean over all pixels.
CODEC = 6
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def quiet(done: int, of: int) -> None:
    """Reports go nowhere."""


def scenes(rng: np.random.Generator, episodes: int, frames: int, side: int = SIDE) -> np.ndarray:
    """Pictures of a smooth background and a square that moves: what a codec is made for."""
    background = cv2.resize(rng.integers(30, 220, (episodes, 4, 4, 3), dtype=np.uint8).transpose(1, 2, 0, 3).reshape(4, 4, -1)[..., :3], (side, side))
    out = np.repeat(np.repeat(background[None, None], episodes, 0), frames, 1)
    for episode in range(episodes):
        for frame in range(frames):
            left = 2 * frame + episode
            out[episode, frame, 8:16, left : left + 8] = (250, 40, 10 * episode)
    return out


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    """A small data set with joints."""
    folder, rng = tmp_path_factory.mktemp("ours") / "set", np.random.default_rng(0)
    write_description(folder, {"task": "push", "tool_step": TOOL_STEP, "frame": [SIDE, SIDE, 3], "steps": STEPS, "joints": ["a", "b", "c"]})
    for index, count in enumerate((3, 2)):
        actions = rng.uniform(-1, 1, (count, STEPS, 2)).astype(np.float32)
        joints = rng.uniform(-3, 3, (count, STEPS + 1, 3)).astype(np.float32)
        ShardWriter(folder, index).write(scenes(rng, count, STEPS + 1), actions, None, joints)
    return folder


@pytest.fixture(scope="module")
def exported(ours) -> Path:
    """The same for LeRobot; no file may hold more than two episodes."""
    folder = ours.parent / "lerobot"
    export_lerobot(LeRobotExport(ours, folder, "push the block", "panda", "front", most_frames=2 * (STEPS + 1)), quiet)
    return folder


def info_of(folder: Path) -> dict:
    return json.loads((folder / "meta/info.json").read_text())


def film(file: Path) -> tuple[np.ndarray, list[float]]:
    """Pictures of a film and when they are shown, as ffmpeg says."""
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    raw = subprocess.run([exe, "-loglevel", "error", "-i", file, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    said = subprocess.run([exe, "-i", file, "-vf", "showinfo", "-f", "null", "-"], capture_output=True, text=True, check=True).stderr
    times = [float(line.split("pts_time:")[1].split()[0]) for line in said.splitlines() if "pts_time:" in line]
    return np.frombuffer(raw, np.uint8).reshape(-1, SIDE, SIDE, 3), times


def test_every_file_is_where_lerobot_looks_for_it(exported):
    info = info_of(exported)
    assert info["codebase_version"] == "v3.0" and info["robot_type"] == "panda" and info["fps"] == 5 and isinstance(info["fps"], int)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (EPISODES, EPISODES * (STEPS + 1), 1)
    assert info["splits"] == {"train": "0:5"} and info["chunks_size"] == 1000
    files = sorted(str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file())
    assert files == sorted(
        [
            *(info["data_path"].format(chunk_index=0, file_index=k) for k in range(3)),
            *(info["video_path"].format(video_key=KEY, chunk_index=0, file_index=k) for k in range(3)),
            "meta/episodes/chunk-000/file-000.parquet",
            "meta/info.json",
            "meta/stats.json",
            "meta/tasks.parquet",
        ]
    )
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    camera = info["features"][KEY]
    assert camera["dtype"] == "video" and camera["shape"] == [SIDE, SIDE, 3] and camera["names"] == ["height", "width", "channels"]
    assert camera["info"]["video.codec"] == "h264" and camera["info"]["video.fps"] == 5 and not camera["info"]["has_audio"]
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": ["tool_x", "tool_y"]}
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [3], "names": ["a", "b", "c"]}


def test_rows_have_the_types_that_the_features_name(exported, ours):
    info, data = info_of(exported), EpisodeDataset(ours)
    tables = [pq.read_table(exported / f"data/chunk-000/file-{k:03d}.parquet") for k in range(3)]
    types = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}
    for name, feature in info["features"].items():
        if feature["dtype"] == "video":
            assert name not in tables[0].column_names
            continue
        kind = types[feature["dtype"]]
        assert tables[0].schema.field(name).type == (kind if feature["shape"] == [1] else pa.list_(kind, feature["shape"][0]))
    whole = pa.concat_tables(tables).to_pydict()
    length = STEPS + 1
    assert whole["index"] == list(range(EPISODES * length))
    assert whole["frame_index"] == list(range(length)) * EPISODES
    assert whole["episode_index"] == np.repeat(range(EPISODES), length).tolist() and set(whole["task_index"]) == {0}
    assert whole["timestamp"] == (np.arange(length) / 5).astype(np.float32).tolist() * EPISODES
    assert whole["next.done"] == ([False] * STEPS + [True]) * EPISODES
    actions = np.array(whole["action"], np.float32).reshape(EPISODES, length, 2)
    assert (actions[:, :-1] == data.actions()).all() and (actions[:, -1] == 0).all()
    assert (np.array(whole["observation.state"], np.float32).reshape(EPISODES, length, 3) == data.joints()).all()
    tasks = pq.read_table(exported / "meta/tasks.parquet")
    said = json.loads(tasks.schema.metadata[b"pandas"])
    assert tasks.column("task_index").to_pylist() == [0] and tasks.column(said["index_columns"][0]).to_pylist() == ["push the block"]


def test_episodes_say_which_rows_and_which_part_of_which_film_are_theirs(exported, ours):
    frames = EpisodeDataset(ours).frames()
    rows = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["episode_index"] for row in rows] == list(range(EPISODES))
    films = {k: film(exported / f"videos/{KEY}/chunk-000/file-{k:03d}.mp4") for k in range(3)}
    for number, row in enumerate(rows):
        assert row["tasks"] == ["push the block"] and row["length"] == STEPS + 1
        assert row["dataset_from_index"] == number * 7 and row["dataset_to_index"] == number * 7 + 7
        assert row["data/file_index"] == row[f"videos/{KEY}/file_index"] == number // 2 and row["data/chunk_index"] == 0
        begins, ends = row[f"videos/{KEY}/from_timestamp"], row[f"videos/{KEY}/to_timestamp"]
        pictures, times = films[number // 2]
        assert ends - begins == pytest.approx(7 / 5)
        shown = [int(np.argmin(np.abs(np.array(times) - begins - k / 5))) for k in range(7)]
        assert np.abs(np.array(times)[shown] - begins - np.arange(7) / 5).max() < 1e-4, "lerobot's own tolerance"
        apart = np.abs(pictures[shown][:, None].astype(int) - frames[number][None]).mean((2, 3, 4))
        assert apart.argmin(1).tolist() == list(range(7)) and np.diag(apart).max() < CODEC


def test_statistics_are_those_of_numpy(exported, ours):
    data, stats = EpisodeDataset(ours), json.loads((exported / "meta/stats.json").read_text())
    rows = pq.read_table(exported / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    actions = np.concatenate([data.actions(), np.zeros((EPISODES, 1, 2), np.float32)], 1).astype(np.float64)

    def check(found: dict, values: np.ndarray, shape: tuple, count: int) -> None:
        wanted = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
        wanted |= {name: np.quantile(values, share, axis=0) for name, share in QUANTILES.items()}
        assert found.keys() == wanted.keys() | {"count"} and found["count"] == [count]
        for name, value in wanted.items():
            assert np.shape(found[name]) == shape and np.allclose(np.ravel(found[name]), value, atol=1e-9), name

    def of_episode(number: int, feature: str) -> dict:
        prefix = f"stats/{feature}/"
        return {name.removeprefix(prefix): value for name, value in rows[number].items() if name.startswith(prefix)}

    pixels = data.frames().reshape(EPISODES, -1, 3) / 255.0
    check(stats["action"], actions.reshape(-1, 2), (2,), 35)
    check(stats["observation.state"], data.joints().astype(np.float64).reshape(-1, 3), (3,), 35)
    check(stats[KEY], pixels.reshape(-1, 3), (3, 1, 1), 35)
    check(stats["frame_index"], np.tile(np.arange(7.0), 5)[:, None], (1,), 35)
    for number in (0, 4):
        check(of_episode(number, "action"), actions[number], (2,), 7)
        check(of_episode(number, KEY), pixels[number], (3, 1, 1), 7)


def test_what_went_comes_back(tmp_path, exported, ours):
    assert run(["dataset", "import", str(exported), "--camera", KEY, "--out", str(tmp_path / "back")]) == 0
    before, after = EpisodeDataset(ours), EpisodeDataset(tmp_path / "back")
    assert (after.actions() == before.actions()).all() and (after.joints() == before.joints()).all()
    assert np.abs(after.frames().astype(int) - before.frames()).mean() < CODEC
    assert after.description["tool_step"] == TOOL_STEP and after.description["joints"] == ["a", "b", "c"]
    assert join([before, after]).episodes == 2 * EPISODES


def foreign(folder: Path, version: str = "v3.0", scale: float = 90.0, stored: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A data set as others write them: degrees, 30 Hz, two episodes of 13 and 10 rows; what its actions and pictures are."""
    rng, lengths = np.random.default_rng(3), (13, 10)
    rows = sum(lengths)
    actions = (scale * rng.uniform(-1, 1, (rows, 2))).astype(np.float32)
    pictures = scenes(rng, 1, rows, 64)[0]
    feature = {"dtype": "image" if stored else "video", "shape": [3, 64, 64], "names": ["channels", "height", "width"]}
    features = {"cam": feature, "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["m1", "m2"]}}}
    features["observation.state"] = {"dtype": "float32", "shape": [2], "names": ["m1", "m2"]}
    info = {"codebase_version": version, "fps": 30, "features": features, "chunks_size": 1000, "total_episodes": 2}
    begins = np.cumsum([0, *lengths])
    spans = [slice(begins[k], begins[k + 1]) for k in range(2)]
    columns = {"action": actions.tolist(), "observation.state": (actions / 2).tolist(), "episode_index": [0] * 13 + [1] * 10}
    if stored:
        columns["cam"] = [{"bytes": cv2.imencode(".png", picture[..., ::-1])[1].tobytes(), "path": None} for picture in pictures]
    (folder / "meta").mkdir(parents=True)

    def write(table: dict, file: str) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), folder / file)

    if version == "v3.0":
        info |= {"data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"}
        info |= {"video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"}
        write(columns, "data/chunk-000/file-000.parquet")
        episodes = {"episode_index": [0, 1], "length": list(lengths), "data/chunk_index": [0, 0], "data/file_index": [0, 0]}
        if not stored:
            encode(folder / "videos/cam/chunk-000/file-000.mp4", pictures, 64, 64, 30)
            episodes |= {"videos/cam/chunk_index": [0, 0], "videos/cam/file_index": [0, 0], "videos/cam/from_timestamp": [0.0, 13 / 30]}
        write(episodes, "meta/episodes/chunk-000/file-000.parquet")
        (folder / "meta/stats.json").write_text(json.dumps({"action": {"min": actions.min(0).tolist(), "max": actions.max(0).tolist()}}))
    else:
        info |= {"data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"}
        info |= {"video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"}
        for number, span in enumerate(spans):
            write({name: values[span] for name, values in columns.items()}, f"data/chunk-000/episode_{number:06d}.parquet")
            encode(folder / f"videos/chunk-000/cam/episode_{number:06d}.mp4", pictures[span], 64, 64, 30)
        lines = [json.dumps({"episode_index": k, "tasks": ["x"], "length": lengths[k]}) for k in range(2)]
        (folder / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "meta/info.json").write_text(json.dumps(info))
    return actions, pictures


@pytest.mark.parametrize(("version", "stored"), [("v3.0", False), ("v2.1", False), ("v3.0", True)])
def test_sets_of_others_are_read_and_their_scale_is_written_down(tmp_path, version, stored):
    actions, pictures = foreign(tmp_path / "theirs", version, stored=stored)
    result = import_lerobot(LeRobotImport(tmp_path / "theirs", tmp_path / "set", steps=3, every=2, state="deg"), quiet)
    data = EpisodeDataset(tmp_path / "set")
    # 13 rows are 6 steps of two rows, 10 rows are 4.
    assert (result.episodes, data.episodes, data.steps) == (3, 3, 3) and result.dropped == {"at the end of an episode": 1}
    space = data.description["action_space"]
    low, high = np.array(space["low"]), np.array(space["high"])
    assert np.allclose(low, actions.min(0)) and np.allclose(high, actions.max(0)) and space["names"] == ["m1", "m2"]
    assert space["period_s"] == pytest.approx(2 / 30)
    for episode, first in enumerate((0, 6, 13)):
        rows = first + 2 * np.arange(4)
        assert np.allclose(low + (data.actions()[episode] + 1) / 2 * (high - low), actions[rows[:-1]], atol=1e-4)
        assert np.allclose(data.joints()[episode], np.deg2rad(actions[rows] / 2), atol=1e-6)
        assert np.abs(data.frames()[episode].astype(int) - pictures[rows]).mean() < (1e-9 if stored else CODEC)


def test_sets_of_another_scale_are_not_mixed_unless_one_takes_the_others(tmp_path):
    foreign(tmp_path / "one")
    foreign(tmp_path / "two", scale=45.0)
    sets = {}
    for name in ("one", "two"):
        import_lerobot(LeRobotImport(tmp_path / name, tmp_path / f"set-{name}", steps=3, state="none"), quiet)
        sets[name] = EpisodeDataset(tmp_path / f"set-{name}")
    assert sets["one"].joints() is None
    with pytest.raises(DatasetError, match="differ in action_space"):
        join([sets["one"], sets["two"]])
    like = LeRobotImport(tmp_path / "two", tmp_path / "again", steps=3, state="none", like=sets["one"].description, like_name="set-one")
    import_lerobot(like, quiet)
    assert join([sets["one"], EpisodeDataset(tmp_path / "again")]).episodes == 14
    wider = LeRobotImport(tmp_path / "one", tmp_path / "x", steps=1, state="none", like=sets["two"].description, like_name="two")
    result = import_lerobot(wider, quiet)
    actions, space = foreign(tmp_path / "three")[0], sets["two"].description["action_space"]
    low, high = np.array(space["low"]), np.array(space["high"])
    scaled = np.delete(2 * (actions - low) / (high - low) - 1, (12, 22), axis=0)  # after the last rows nothing is seen
    far = np.abs(scaled).max(1) > 1.25
    assert result.episodes == (~far).sum() and result.dropped == {"in a window with an action that the scale does not reach": far.sum()}
    assert np.allclose(EpisodeDataset(tmp_path / "x").actions()[:, 0], np.clip(scaled[~far], -1, 1), atol=1e-5)


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, ours, exported, capsys):
    theirs, short, future, lost = (tmp_path / name for name in ("theirs", "short", "future", "lost"))
    foreign(theirs)
    for copy, source in ((short, theirs), (future, exported), (lost, exported)):
        shutil.copytree(source, copy)
    encode(short / "videos/cam/chunk-000/file-000.mp4", np.zeros((20, 64, 64, 3), np.uint8), 64, 64, 30)
    (future / "meta/info.json").write_text((future / "meta/info.json").read_text().replace('"v3.0"', '"v4.0"'))
    shutil.rmtree(lost / "data")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("")
    out = tmp_path / "out"
    cases = [
        (["import", str(tmp_path / "nowhere")], "is no LeRobot data set: it holds no meta/info.json"),
        (["import", str(future)], "is of version v4.0; this software reads v3.0, v2.1"),
        (["import", str(theirs), "--camera", "observation.images.top"], "has no camera observation.images.top; it has cam"),
        (["import", str(theirs)], "so it is not in radians: say --state deg, or --state none"),
        (["import", str(theirs), "--state", "turns"], "can be rad, deg or none, not 'turns'"),
        (["import", str(theirs), "--state", "deg", "--episode-steps", "40"], "has no episode of 40 steps, the longest has 12 ("),
        (["import", str(theirs), "--state", "deg", "--every", "20"], "has no episode of 1 steps, the longest has 0 ("),
        (["import", str(short), "--state", "deg", "--episode-steps", "9"], "file-000.mp4 ends after 20 pictures, within episode 1"),
        (["import", str(lost)], "file-000.parquet"),
        (["import", str(exported), "--every", "2"], "leave out --every and --like"),
        (["export", "--data", str(tmp_path / "nowhere")], "holds no dataset.json"),
        (["export", "--data", str(ours), "--format", "csv"], "--format can be lerobot, not 'csv'"),
        (["export", "--data", str(ours), "--fps", "30"], "has a step every 0.2 s"),
        (["export", "--data", str(ours), "--camera", "a/b"], "a name without '/'"),
    ]
    for arguments, reason in cases:
        assert run(["dataset", *arguments, "--out", str(out)]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert reason in error and error.startswith("latent-mpc: error: "), error
        assert not out.exists() and not list(tmp_path.glob(".*"))
    assert run(["dataset", "export", "--data", str(ours), "--out", str(full)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_film_that_ends_early_leaves_nothing_of_what_came_before(tmp_path):
    foreign(tmp_path / "theirs")
    encode(tmp_path / "theirs/videos/cam/chunk-000/file-000.mp4", np.zeros((20, 64, 64, 3), np.uint8), 64, 64, 30)
    asked = LeRobotImport(tmp_path / "theirs", tmp_path / "set", steps=3, state="none", episodes_per_shard=1)
    with pytest.raises(LeRobotError, match="ends after 20 pictures"):
        import_lerobot(asked, quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_without_pyarrow_the_extra_is_named(tmp_path, ours, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run(["dataset", "export", "--data", str(ours), "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'latent-mpc[train]'" in capsys.readouterr().err and not (tmp_path / "out").exists()
