"""A bundle gets further graphs and precisions, each measured; or nothing is written, and what was there stays."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from latent_mpc.cli import run as command
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from tiny_runs import tiny_bundle, tiny_data, tiny_run

from world_model.bundle import FILES, BundleError, Manifest, bundle_sha256, file_sha256, read_manifest, write_manifest
from world_model.precision.agreement import Agreement, agreement
from world_model.precision.conversion import Asked, Fixed, as_plain, convert
from world_model.precision.figures import figures
from world_model.precision.gates import GateError, require_agreement, require_success
from world_model.precision.inputs import Inputs, split
from world_model.precision.record import read_parity, record_played
from world_model.precision.running import opened
from world_model.protocol import ActionMixture
from world_model.runtime import OnnxModel


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def converted(session) -> tuple[Path, dict]:
    """The tiny bundle in fp16 and with an int8 encoder, and a rollout of fixed shape."""
    out = session / "converted"
    asked = Asked(("fp16", "int8_dynamic"), ("encoder", "rollout"), None, (Fixed(6, 3),), tiny_data(session), scenes=12, candidates=16)
    return out, convert(tiny_bundle(session), out, asked)


@pytest.fixture
def copy(converted, tmp_path) -> Path:
    return Path(shutil.copytree(converted[0], tmp_path / "bundle"))


# What is written.


def test_the_manifest_names_every_graph_in_every_precision(converted):
    out, report = converted
    manifest = read_manifest(out)
    assert manifest.further == ("rollout.6x3",) and manifest.parity
    assert manifest.precisions == {name: ["encoder", "rollout", "rollout.6x3"] for name in ("fp16", "int8_dynamic")}
    assert sorted(entry.name for entry in out.iterdir()) == sorted([*manifest.files, "manifest.json"])
    assert {name: file_sha256(out / name) for name in manifest.files} == manifest.sha256
    assert json.loads((out / "parity.json").read_text()) == report == read_parity(out)
    assert set(report["graphs"]) == {"encoder", "rollout", "heads", "actor", "rollout.6x3"}
    assert set(report["graphs"]["encoder"]) == {"fp32", "fp16", "int8_dynamic"} and set(report["plans"]) == {"fp16", "int8_dynamic"}


def test_a_graph_is_found_by_name_and_precision_and_falls_back_to_fp32(converted):
    manifest = read_manifest(converted[0])
    assert manifest.graph("encoder") == "encoder.onnx" and manifest.graph("encoder", "fp16") == "encoder.fp16.onnx"
    assert manifest.graph("heads", "fp16") == "heads.onnx", "it was not converted"
    assert manifest.graph("rollout.6x3", "int8_dynamic") == "rollout.6x3.int8_dynamic.onnx"
    with pytest.raises(BundleError, match=r"holds nothing in fp8, only fp32, fp16, int8_dynamic; `latent-mpc export` can add it"):
        manifest.graph("encoder", "fp8")
    with pytest.raises(BundleError, match=r"has no graph 'score'; it has encoder, rollout, heads, actor, rollout.6x3"):
        manifest.graph("score", "fp16")


def test_the_figures_are_those_of_the_files(converted, session):
    """Recomputed with nothing but ONNX Runtime and NumPy, on the first frames of the data."""
    out, report = converted
    frames = np.load(next(tiny_data(session).glob("shard-*")) / "frames.npy")[:, ::3].reshape(-1, 64, 64, 3)
    fp32, int8 = (opened(out / f"encoder{name}.onnx").run(None, {"frames": frames})[0] for name in ("", ".int8_dynamic"))
    said = report["graphs"]["encoder"]["int8_dynamic"]["recorded"]
    cosine = (fp32 * int8).sum(1) / np.linalg.norm(fp32, axis=1) / np.linalg.norm(int8, axis=1)
    assert said["mean"] == pytest.approx(np.abs(fp32 - int8).mean(), rel=0.3)
    assert 1 - said["cosine_mean"] == pytest.approx(1 - cosine.mean(), rel=0.8)
    for precision in ("fp16", "int8_dynamic"):
        assert report["graphs"]["encoder"][precision]["bytes"] == (out / f"encoder.{precision}.onnx").stat().st_size


def test_a_fixed_rollout_imagines_what_the_free_one_does(converted):
    model = OnnxModel(converted[0])
    rng = np.random.default_rng(1)
    feed = {
        "latents": rng.standard_normal((6, model.history, model.latent_dim)).astype(np.float32),
        "past_actions": rng.uniform(-1, 1, (6, model.history - 1, model.action_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (6, 3, model.action_dim)).astype(np.float32),
    }
    free, fixed = (opened(converted[0] / name).run(None, feed)[0] for name in ("rollout.onnx", "rollout.6x3.onnx"))
    assert np.allclose(free, fixed, atol=1e-5)


def test_a_precision_becomes_a_plain_bundle(converted, tmp_path):
    out, _ = converted
    plain = as_plain(out, "fp16", tmp_path / "plain")
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    assert np.array_equal(OnnxModel(plain).encode(frames), opened(out / "encoder.fp16.onnx").run(None, {"frames": frames})[0])
    assert (plain / "heads.onnx").read_bytes() == (out / "heads.onnx").read_bytes()
    assert bundle_sha256(read_manifest(plain)) == bundle_sha256(read_manifest(out), "fp16") != bundle_sha256(read_manifest(out))


def test_plans_in_fp32_keep_their_hash_whatever_is_added(converted, session):
    assert bundle_sha256(read_manifest(converted[0])) == bundle_sha256(read_manifest(tiny_bundle(session)))


# What is refused.


def rollout_body(model: onnx.ModelProto) -> onnx.GraphProto:
    return next(attribute.g for attribute in model.graph.node[0].attribute if attribute.HasField("g"))


def overflowing(session: Path, folder: Path) -> Path:
    """The tiny bundle with a first layer of the predictor 150,000 times larger. A LayerNorm follows: fp32 is fine, but fp16 ends at 65,504."""
    shutil.copytree(tiny_bundle(session), folder)
    tensors, graph = load_file(folder / "weights.safetensors"), onnx.load(folder / "rollout.onnx")
    constants = {tensor.name: tensor for tensor in rollout_body(graph).initializer}
    for name in ("predictor.enter.weight", "predictor.enter.bias"):
        tensors[f"jepa/{name}"] *= 1.5e5
        assert tensors[f"jepa/{name}"].abs().max() < 65_504, "the weights themselves can be said in fp16"
        constants[name].CopyFrom(numpy_helper.from_array(tensors[f"jepa/{name}"].numpy(), name))
    save_file(tensors, folder / "weights.safetensors")
    onnx.save(graph, folder / "rollout.onnx")
    write_manifest(folder, unchecked(folder))
    return folder


def test_a_conversion_that_went_wrong_is_not_written_and_the_old_bundle_stays(converted, session, copy, tmp_path):
    """A rollout that overflows fp16 and a line that says which graph, which figure and which bound."""
    bundle = overflowing(session, tmp_path / "overflowing")
    before = {entry.name: file_sha256(entry) for entry in copy.iterdir()}
    entries = sorted(entry.name for entry in tmp_path.iterdir())
    asked = Asked(("fp16",), ("rollout",), None, (), tiny_data(session), scenes=6, candidates=4)
    for out in (copy, tmp_path / "new"):
        with pytest.raises(GateError, match=r"^rollout.fp16.onnx: the least cosine .* is -1.000000, less than 0.9995; no bundle was written$"):
            convert(bundle, out, asked)
    assert {entry.name: file_sha256(entry) for entry in copy.iterdir()} == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == entries, "neither a new bundle nor a staging folder"
    status = command(["export", "--model", str(bundle), "--out", str(copy), "--fp16", "--graph", "rollout", "--calibrate", str(tiny_data(session))])
    assert status == 2 and read_manifest(copy).precisions


def test_a_closed_loop_that_loses_more_than_a_point_is_a_refusal(session, tmp_path):
    def play(fp32: Path, other: Path) -> dict:
        assert read_manifest(fp32).name != read_manifest(other).name
        return {"success_percent": 97.9, "fp32_success_percent": 99.0}

    asked = Asked(("fp16",), ("heads",), None, (), tiny_data(session), scenes=4, candidates=4, play=play)
    with pytest.raises(GateError, match=r"the graphs in fp16 together: success 97.9 % in the closed loop, fp32 99.0 %; at most 1 point"):
        convert(tiny_bundle(session), tmp_path / "out", asked)
    assert not any(tmp_path.iterdir())
    require_success("fp16", 98.0, 99.0)


def test_weights_that_are_not_the_graphs_are_noticed(session, tmp_path):
    """The reference is torch with the bundle's own weights: a graph of another training is refused, in fp32 already."""
    bundle = Path(shutil.copytree(tiny_bundle(session), tmp_path / "mixed"))
    graph = onnx.load(bundle / "rollout.onnx")
    tensor = next(tensor for tensor in rollout_body(graph).initializer if tensor.name.endswith("enter.weight"))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.01, tensor.name))
    onnx.save(graph, bundle / "rollout.onnx")
    write_manifest(bundle, unchecked(bundle))
    with pytest.raises(GateError, match=r"^rollout.onnx: "):
        convert(bundle, tmp_path / "out", Asked())


def unchecked(bundle: Path) -> Manifest:
    content = json.loads((bundle / "manifest.json").read_text())
    tuples = {key: tuple(content[key]) for key in ("tasks", "frame", "actor_steps", "joints", "further")}
    return Manifest(**content | tuples)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"further": ["../thesis"]}, "is no name of a graph"),
        ({"precisions": {"fp16": ["score"]}}, "names a graph that there is not in fp32: score"),
        ({"precisions": {"fp32": ["encoder"]}}, "precision 'fp32' names"),
        ({"precisions": ["fp16"]}, "must be an object of lists"),
        ({"parity": "yes"}, "parity true or false"),
    ],
)
def test_a_manifest_that_names_nonsense_is_refused(copy, changes, said):
    file = copy / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(BundleError, match=said) as caught:
        read_manifest(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["encoder.fp16.onnx", "rollout.6x3.onnx", "parity.json"])
def test_further_files_are_guarded_by_their_hash(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match=rf"the SHA-256 of {name} is not the one"):
        read_manifest(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        read_manifest(copy)


def test_bad_input_is_one_line(session, tmp_path, capsys):
    bundle, data = str(tiny_bundle(session)), str(tiny_data(session))
    out = ["--out", str(tmp_path / "out")]
    for arguments, said in (
        (["--model", bundle, *out, "--fp16"], "name a data folder with --calibrate"),
        (["--model", bundle, "--fp16"], "say with --out where"),
        (["--model", bundle, *out, "--static", "300"], "--static 300: give N,H or N,H,Z"),
        (["--model", bundle, *out, "--static", "0,5"], "needs at least one candidate"),
        (["--model", bundle, *out, "--fp16", "--calibrate", data, "--graph", "decoder"], "there is no graph 'decoder' to convert"),
        (["--model", bundle, *out, "--graph", "encoder"], "add --fp16 or --int8"),
        (["--model", bundle, *out, "--fp16", "--calibrate", data, "--graph", "encoder", "--graph", "witness"], "has no graph 'witness' to convert"),
        (
            ["--model", "models/push", *out, "--fp16", "--calibrate", data],
            "has frames (64, 64, 3) and 3 action components, the bundle",
        ),
        (["--model", bundle, *out, "--fp16", "--calibrate", str(tmp_path / "none")], "none"),
    ):
        assert command(["export", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())
    with pytest.raises(BundleError, match="holds one episode; two are needed"):
        split(SimpleNamespace(directory="data", episodes=1), np.random.default_rng(0))
    record = ["parity", "--model", bundle, "--precision", "fp32", "--record", "--episodes", "0"]
    assert command(record) == 2 and "has no parity.json" in capsys.readouterr().err, "said before anything is played"
    assert command(["parity", "--model", bundle]) == 2 and "has no parity.json" in capsys.readouterr().err


def test_parity_is_shown_and_completed_by_what_was_played(copy, capsys):
    played = {"task": "reach", "episodes": 3, "seed": 0, "success_percent": 100.0, "fp32_success_percent": 100.0, "better": 0, "worse": 0, "p": 1.0}
    record_played(copy, {"fp16": played})
    assert read_manifest(copy).sha256["parity.json"] == file_sha256(copy / "parity.json")
    assert command(["parity", "--model", str(copy)]) == 0
    shown = capsys.readouterr().out
    assert "encoder          int8_dynamic" in shown and "reach in fp16: success 100.0 %, fp32 100.0 %, 3 episodes" in shown


def test_a_training_run_is_exported_with_all_that_is_asked_for(session, tmp_path, capsys):
    out, results = tmp_path / "bundle", tmp_path / "results.json"
    assert command(["export", "--model", str(tiny_run(session)), "--out", str(out), "--static", "4,2", "--json", str(results)]) == 0
    manifest = read_manifest(out)
    assert manifest.further == ("rollout.4x2",) and manifest.precisions == {} and manifest.parity and manifest.name == "tiny"
    assert json.loads(results.read_text())["graphs"]["rollout.4x2"]["fp32"]["random"]["worst"] < 1e-4
    assert "rollout.4x2" in capsys.readouterr().out
    assert command(["export", "--model", str(out), "--out", str(out)]) == 0, "a bundle may take its own place"
    assert read_manifest(out).further == () and not (out / "rollout.4x2.onnx").exists()


# The figures themselves.


def test_figures_are_what_they_say():
    right = np.array([[3.0, 4.0], [1.0, 0.0]])
    found = np.array([[3.0, 4.5], [0.0, 1.0]])
    measured = figures(lambda feed: [right], lambda feed: [found], [{}], 0)
    assert (measured.worst, measured.mean, measured.relative) == (1.0, 2.5 / 4, 2.5 / 8)
    assert measured.cosine_least == 0.0 and measured.cosine_mean == pytest.approx((27 / (5 * np.hypot(3, 4.5))) / 2)
    assert figures(lambda feed: [right], lambda feed: [right * np.nan], [{}], 0).worst == np.inf
    assert figures(lambda feed: [right[0]], lambda feed: [right[0]], [{}], None).cosine_least is None


class Line:
    """A world in which a latent is where one is, an action is how far one goes, and the critic may be wrong by ``error`` at each step."""

    history, latent_dim, action_dim = 2, 1, 1

    def __init__(self, error: float = 0.0) -> None:
        self.error = error

    def encode(self, frames, joints=None):
        return frames.reshape(len(frames), -1)[:, :1].astype(np.float32)

    def rollout(self, context, actions):
        return context.latents[:, -1:] + np.cumsum(actions, axis=1)

    def distance(self, latents, goal):
        return np.abs(latents[:, 0] - goal[0]) + self.error * np.cos(997.0 * latents[:, 0])

    def propose(self, latents, goal, steps_left):
        return ActionMixture(np.zeros((1, 1), np.float32), np.zeros((1, 1, 1), np.float32), np.full((1, 1, 1), 1e9, np.float32))


def line_inputs(scenes: int) -> Inputs:
    rng = np.random.default_rng(0)
    frames, goals = rng.integers(0, 9, (scenes, 2, 1, 1, 3), dtype=np.uint8), rng.integers(0, 9, (scenes, 1, 1, 3), dtype=np.uint8)
    actions = rng.uniform(-1, 1, (scenes, 4, 1)).astype(np.float32)
    none, steps = np.zeros((scenes, 2, 0), np.float32), np.ones(scenes, np.float32)
    latents, goal_latents = frames[..., 0, 0, :1].astype(np.float32), goals[:, 0, 0, :1].astype(np.float32)
    return Inputs(frames, goals, none, actions[:, :1], actions, steps, latents, goal_latents)


def test_agreement_counts_winners_and_what_choosing_otherwise_costs():
    inputs = line_inputs(40)
    same = agreement(Line(), Line(), inputs, 32, np.random.default_rng(0))
    assert (same.same, same.lost, same.lost_most) == (1.0, 0.0, 0.0) and same.spread > 0.1
    found = agreement(Line(), Line(0.2), inputs, 32, np.random.default_rng(0))
    assert 0 < found.same < 1 and 0 < found.lost <= found.lost_most <= 0.4, "an error of 0.2 loses at most twice as much"
    require_agreement("int8", replace(same, lost=0.01 * same.spread))
    with pytest.raises(GateError, match=r"plans chosen by them cost 0.030 of the candidates' spread, more than 0.02"):
        require_agreement("int8", replace(same, lost=0.03 * same.spread))
    with pytest.raises(GateError, match=r"the same winner in 70 % of scenes, less than 80 %"):
        require_agreement("int8", Agreement(10, 4, 0.7, 0.0, 0.0, 1.0))


def test_an_old_manifest_is_still_one():
    manifest = read_manifest("models/push")
    assert manifest.precisions == {} and manifest.further == () and not manifest.parity
    assert set(FILES) <= set(manifest.files) and manifest.graph("rollout") == "rollout.onnx"
