"""A bundle goes on learning from a bag: an arm that moves the other way than it was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bag_writing import bag, image, joint_state, trajectory
from latent_mpc.cli import run
from latent_mpc.collect import Collection, collect
from safetensors.numpy import load_file
from tiny_runs import silent, tiny_bundle, tiny_data

from arm_model import Kinematics, load_arm
from sim.tasks import task_named
from world_model.bundle import read_manifest
from world_model.data import DatasetError, EpisodeDataset, ShardWriter, write_description
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.surprise import carried_calibration
from world_model.training.fine_tune import FineTuning, fine_tune

REACH = Path(__file__).resolve().parents[1] / "models" / "reach"
ARM = load_arm()
STEP = task_named("reach").tool_step
PERIOD, START = 200_000_000, 1_700_000_000_000_000_000
EPISODES, STEPS = 40, 8


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory) -> Path:
    """A bag of simulated reaches whose commands say the opposite of what the arm did: as if somebody had turned its base around."""
    folder = tmp_path_factory.mktemp("mirrored")
    collect(Collection("reach", shards=1, seed=5, out=folder / "sim", episodes=EPISODES, steps=STEPS), 1, lambda done, of: None)
    data, kinematics = EpisodeDataset(folder / "sim"), Kinematics(ARM)
    middle = (np.array(STEP.lower) + np.array(STEP.upper)) / 2
    with bag(folder / "bag") as put:
        for number, (frames, actions, joints) in enumerate(zip(data.frames(), data.actions(), data.joints(), strict=True)):
            begins = START + number * 10 * STEPS * PERIOD
            ways = np.cumsum(np.concatenate([np.zeros((1, 3)), -STEP.length_m * actions]), axis=0)
            # Somewhere in the workspace where all of the way fits.
            start = np.clip(middle - (ways.max(0) + ways.min(0)) / 2, STEP.lower, STEP.upper)
            commanded = [kinematics.solve(point) for point in STEP.clamp(start + ways)]
            rows = np.array(commanded)
            put("/cmd", "trajectory_msgs/msg/JointTrajectory", begins, trajectory(begins - PERIOD, rows, joints=ARM.joints, step_ns=PERIOD))
            for k in range(STEPS + 1):
                ns = begins + k * PERIOD
                put("/joint_states", "sensor_msgs/msg/JointState", ns, joint_state(ns, ARM.joints, joints[k], np.zeros(7)))
                put("/camera/image_raw", "sensor_msgs/msg/Image", ns, image(ns, frames[k]))
    return folder / "bag"


def imagined_errors(model: OnnxModel, frames: np.ndarray, actions: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared errors of the model and of who copies, 1 to ``horizon`` steps ahead: with ONNX Runtime and numpy alone."""
    history = model.history
    latents = np.stack([model.encode(np.ascontiguousarray(episode)) for episode in frames])
    model_errors, copy_errors = [], []
    for z, a in zip(latents, actions, strict=True):
        for now in range(history - 1, len(z) - horizon):
            true = z[now + 1 : now + 1 + horizon]
            past = slice(now - history + 1, now)
            context = Context(z[None, now - history + 1 : now + 1], a[None, past])
            model_errors.append(((model.rollout(context, a[None, now : now + horizon])[0] - true) ** 2).mean(-1))
            copy_errors.append(((z[now] - true) ** 2).mean(-1))
    return np.mean(model_errors, 0), np.mean(copy_errors, 0)


def test_a_bundle_learns_from_a_bag_what_its_actions_do_there(mirrored, tmp_path, capsys):
    out, bundle = tmp_path / "run", tmp_path / "bundle"
    asked = ["train", "--from", str(REACH), "--data", str(mirrored), "--out", str(out), "--episode-steps", str(STEPS)]
    assert run([*asked, "--steps", "100", "--learning-rate", "1e-3", "--horizon", "4"]) == 0
    printed = capsys.readouterr().out
    assert "copying the last latent" in printed and "surprise: not calibrated: `latent-mpc surprise --record`" in printed
    found = json.loads((out / "fine_tuned.json").read_text())
    before, after = found["open_loop"]["before"], found["open_loop"]["after"]
    data = EpisodeDataset(tmp_path / "run-data")
    assert (data.episodes, data.steps) == (EPISODES, STEPS) and found["episodes"] == {"trained_on": 26, "chosen_by": 6, "held_out": 8}
    assert min(before["model"]) > 1.2 * max(1e-3, before["copy"][0]), "it expects the arm to go the other way: worse than who expects nothing"
    assert sum(after["model"]) < 0.6 * sum(before["model"]) and sum(after["model"]) < sum(after["copy"])
    assert run(["export", "--model", str(out), "--out", str(bundle)]) == 0
    held_out = data.frames()[-8:], data.actions()[-8:]
    for folder, said in ((REACH, before), (bundle, after)):
        errors, copied = imagined_errors(OnnxModel(folder), *held_out, 4)
        assert np.allclose(said["model"], errors, rtol=1e-3) and np.allclose(said["copy"], copied, rtol=1e-3)
    manifest = read_manifest(bundle)
    calibration, why = carried_calibration(manifest.surprise, manifest.sha256, manifest.latent_dim)
    assert calibration.threshold is None and why == found["not_carried"]["surprise"], "what the planner says of it is what was said here"
    told = manifest.provenance["fine_tuned"]
    assert told == found and told["from"]["name"] == "reach" and told["encoder"] == "frozen"
    old, new = load_file(REACH / "weights.safetensors"), load_file(bundle / "weights.safetensors")
    moved = {key.split("/")[0] + "." + key.split("/")[1].split(".")[0] for key in old if not np.array_equal(old[key], new[key])}
    assert moved == {"jepa.predictor"}, "the latent's meaning and the heads on it stay"


def test_weights_that_are_no_better_are_not_kept(mirrored, tmp_path):
    asked = ["train", "--from", str(REACH), "--data", str(mirrored), "--out", str(tmp_path / "run"), "--episode-steps", str(STEPS)]
    assert run([*asked, "--steps", "4", "--learning-rate", "0.9"]) == 0
    found = json.loads((tmp_path / "run" / "fine_tuned.json").read_text())
    assert found["kept_step"] == 0 and found["open_loop"]["before"] == found["open_loop"]["after"]


def test_with_the_encoder_everything_learns(tmp_path_factory, tmp_path):
    session = tmp_path_factory.getbasetemp()
    bundle = tiny_bundle(session)
    found = fine_tune(bundle, [tiny_data(session)], tmp_path / "run", FineTuning(steps=10, batch=4, train_encoder=True, learning_rate=1e-3), silent)
    assert found["encoder"] == "trained" and "witness_sha256" not in found
    if found["kept_step"]:
        old, new = load_file(bundle / "weights.safetensors"), load_file(tmp_path / "run" / "learned.safetensors")
        assert {key.split("/")[0] for key in old if not np.array_equal(old[key], new[key])} == {"jepa", "distance", "actor"}
    with pytest.raises(DatasetError, match="holds a finished run"):
        fine_tune(bundle, [tiny_data(session)], tmp_path / "run", FineTuning(steps=10), silent)


def test_another_predictor_learns_on_the_latents_of_a_bundle(tmp_path_factory, tmp_path, capsys):
    session = tmp_path_factory.getbasetemp()
    bundle, data, out = tiny_bundle(session), tiny_data(session), tmp_path / "run"
    config = tmp_path / "other.yaml"
    config.write_text("name: other\ntasks: [reach]\nmodel:\n  predictor: {kind: action_prefix, width: 16, depth: 1, heads: 2, horizon: 2}\n")
    asked = ["train", "--from", str(bundle), "--data", str(data), "--predictor", str(config), "--steps", "60", "--learning-rate", "3e-3"]
    assert run([*asked, "--out", str(out)]) == 0
    found = json.loads((out / "fine_tuned.json").read_text())
    assert sum(found["open_loop"]["after"]["model"]) < sum(found["open_loop"]["after"]["copy"]), "untrained it copies, so it has learnt something"
    assert run(["export", "--model", str(out), "--out", str(tmp_path / "bundle")]) == 0
    manifest = read_manifest(tmp_path / "bundle")
    assert manifest.name == "other" and manifest.horizon == 2 and manifest.provenance["config"]["model"]["predictor"]["kind"] == "action_prefix"
    old, new = load_file(bundle / "weights.safetensors"), load_file(tmp_path / "bundle" / "weights.safetensors")
    for key, value in old.items():
        if not key.startswith("jepa/predictor."):
            np.testing.assert_array_equal(value, new[key], err_msg=f"{key} moved: encoder, critic and actor stay")
    before = found["open_loop"]["before"]["model"]
    plain = json.loads(
        json.dumps(fine_tune(bundle, [data], tmp_path / "same", FineTuning(steps=1, horizon=2), silent)["open_loop"]["before"]["model"])
    )
    assert before == plain[: len(before)], "the errors before are those of the bundle's own predictor"
    capsys.readouterr()
    assert run([*asked, "--out", str(tmp_path / "no"), "--train-encoder"]) == 2
    assert "another predictor learns on latents that stay" in capsys.readouterr().err


def test_a_bag_with_several_cameras_names_the_command_that_tells_them_apart(tmp_path, capsys):
    with bag(tmp_path / "bag") as put:
        for number in range(3):
            ns = START + number * PERIOD
            put("/joint_states", "sensor_msgs/msg/JointState", ns, joint_state(ns, ARM.joints, np.zeros(7), np.zeros(7)))
            for topic in ("/left", "/right"):
                put(topic, "sensor_msgs/msg/Image", ns, image(ns, np.zeros((64, 64, 3), np.uint8)))
    assert run(["train", "--from", str(REACH), "--data", str(tmp_path / "bag"), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("latent-mpc: error: ") and "several topics for --camera: /left, /right" in said
    assert f"`latent-mpc dataset from-bag {tmp_path / 'bag'} --like {REACH} --out {tmp_path / 'run-data'} ...`" in said
    assert not any(path.name.startswith((".", "run")) for path in tmp_path.iterdir())
    # What the line names does it: then it is the length of this bag that is said to be too short, not its topics.
    way = ["dataset", "from-bag", str(tmp_path / "bag"), "--like", str(REACH), "--out", str(tmp_path / "run-data"), "--camera", "/left"]
    assert run(way) == 2 and "no unbroken motion of 40 steps" in capsys.readouterr().err


def small_set(folder: Path, **changes: object) -> Path:
    """Five episodes as the shipped bundle takes them, but for ``changes`` of their description."""
    manifest = read_manifest(REACH)
    description = {"task": "reach", "tool_step": manifest.tool_step, "frame": [64, 64, 3], "joints": list(manifest.joints)} | changes
    height, width, _ = description["frame"]
    steps, episodes = description.pop("steps", 6), description.pop("episodes", 5)
    dim = description["action_space"]["dim"] if description.get("action_space") else manifest.action_dim
    write_description(folder, description)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (episodes, steps + 1, height, width, 3), dtype=np.uint8)
    ShardWriter(folder, 0).write(frames, rng.uniform(-1, 1, (episodes, steps, dim)).astype(np.float32))
    return folder


def test_what_does_not_fit_is_refused_in_one_line(tmp_path, capsys):
    slower = dict(read_manifest(REACH).tool_step) | {"length_m": 0.02}
    space = {"low": [-1.0], "high": [1.0], "dim": 1, "meaning": "command", "names": ["a"], "unit": "rad", "period_s": 0.2}
    cases = [
        (small_set(tmp_path / "slower", tool_step=slower), "means something else than one of reach: tool_step is"),
        (small_set(tmp_path / "space", tool_step=None, action_space=space), "means something else than one of reach: tool_step is {}"),
        (small_set(tmp_path / "small", frame=[32, 48, 3]), "has pictures of 48 x 32 pixels, reach takes 64 x 64"),
        (small_set(tmp_path / "other", joints=["a", "b"]), "is of an arm with the joints a, b, reach of one with panda_joint1"),
        (small_set(tmp_path / "short", steps=2), "episodes of 2 steps are too short for reach"),
        (small_set(tmp_path / "few", episodes=2), "holds 2 episodes; fine-tuning needs at least 3"),
        (tmp_path / "nowhere", "holds no dataset.json"),
    ]
    for data, reason in cases:
        assert run(["train", "--from", str(REACH), "--data", str(data), "--out", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert reason in error and error.startswith("latent-mpc: error: "), error
        assert not (tmp_path / "run").exists()
    data = ["--data", str(tmp_path / "slower"), "--out", str(tmp_path / "run")]
    assert run(["train", *data]) == 2
    assert "say how to train: --config FILE, or --from BUNDLE" in capsys.readouterr().err
    assert run(["train", *data, "--from", str(REACH), "--config", "x.yaml"]) == 2
    assert "--config is for training from nothing" in capsys.readouterr().err
    tiny = ["--predictor", "world_model/configs/push-tiny.yaml"]
    assert run(["train", *data, *tiny, "--config", "world_model/configs/push.yaml"]) == 2
    assert "--predictor learns on the latents of a bundle" in capsys.readouterr().err
    assert run(["train", *data, "--from", str(REACH), "--predictor", str(tmp_path / "none.yaml")]) == 2
    (tmp_path / "long.yaml").write_text("name: long\ntasks: [reach]\nmodel: {history: 4}\n")
    assert run(["train", *data, "--from", str(REACH), "--predictor", str(tmp_path / "long.yaml")]) == 2
    assert "long looks at 4 latents" in capsys.readouterr().err
    assert run(["train", *data, "--from", str(tmp_path / "slower")]) == 2
    assert "is not a model bundle" in capsys.readouterr().err
