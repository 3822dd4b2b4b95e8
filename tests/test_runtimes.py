import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import write_bundle

from world_model.bundle import read_manifest, record_evaluation, write_manifest
from world_model.precision.record import record_played
from world_model.protocol import Context
from world_model.runtimes import RuntimeConfig, RuntimeRefusedError, open_model
from world_model.runtimes import providers as provider_module
from world_model.runtimes import sessions as session_module
from world_model.runtimes.choice import GraphChoice, RuntimeChoice
from world_model.runtimes.config import PERCEPTION_GRAPHS, PLANNER_GRAPHS
from world_model.runtimes.device import Device
from world_model.runtimes.engine_cache import engine_key
from world_model.runtimes.graph import Graph, open_session, session_options
from world_model.runtimes.onnx_model import OnnxModel
from world_model.runtimes.precision import graph_file
from world_model.runtimes.providers import ORDER, Machine, cuda_options, profile_options, rows_of, tensorrt_options
from world_model.runtimes.sessions import Sessions, this_machine

MODELS = Path(__file__).resolve().parents[1] / "models"
ORIN = Device("Orin", "8.7", "12.6")
EVERY_PROVIDER = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
NO_GPU = Machine(None, "this machine has no NVIDIA device", EVERY_PROVIDER)
HERE = this_machine()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("models") / "untrained")


@pytest.mark.parametrize("name", ["reach", "push", "push-vit"])
def test_torch_and_onnx_runtime_answer_alike(name):
    """Two implementations from two files: the graphs, and the weights with the configuration in the manifest."""
    graphs, weights = (open_model(MODELS / name, RuntimeConfig(runtime=runtime)) for runtime in ("cpu", "torch"))
    rng, about = np.random.default_rng(3), graphs.manifest
    frames = rng.integers(0, 256, (3, *about.frame), dtype=np.uint8)
    latents = rng.standard_normal((6, about.history, about.latent_dim)).astype(np.float32)
    past = rng.uniform(-1, 1, (6, about.history - 1, about.action_dim)).astype(np.float32)
    actions = rng.uniform(-1, 1, (6, 9, about.action_dim)).astype(np.float32)
    goal, steps = rng.standard_normal(about.latent_dim).astype(np.float32), rng.uniform(-5, 100, 6)

    def answers(model):
        mixture = model.propose(latents[:, -1], goal, steps)
        imagined = model.rollout(Context(latents, past), actions)
        return model.encode(frames), model.witness(frames), imagined, model.distance(latents[:, -1], goal), mixture.logits, mixture.mean, mixture.std

    for expected, found in zip(answers(graphs), answers(weights), strict=True):
        assert found.shape == expected.shape and found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-4
    assert np.abs(graphs.encode(frames) - graphs.witness(frames)).max() > 1e-2, "the witness sees other things"
    arrived = [model.distance(latents[:, -1], latents[0, -1]) for model in (graphs, weights)]
    assert np.abs(arrived[0] - arrived[1]).max() <= 2e-4, "the slope of a root is infinite where the scene is the goal"
    slope = rng.standard_normal(imagined_shape := (6, 9, about.latent_dim)).astype(np.float32)
    one, other = (model.pullback(Context(latents, past), actions)[1](slope) for model in (graphs, weights))
    assert one.shape == actions.shape and np.array_equal(one, other) and slope.shape == imagined_shape
    said = weights.choice
    assert {c.graph: c.runs_on.split("-")[0] for c in said.graphs}["rollout"] == "torch" and "witness" in said.reasons["torch"]
    with pytest.raises(ValueError, match="uint8 pictures"):
        weights.encode(frames.astype(np.float32))


def test_torch_refuses_a_bundle_that_does_not_say_how_it_was_built(bundle):
    with pytest.raises(ValueError, match="cannot be built again"):
        open_model(bundle, RuntimeConfig(runtime="torch"))


@pytest.mark.skipif(HERE.device is not None, reason="a GPU is here")
def test_without_a_gpu_every_graph_runs_on_the_cpu_and_the_reasons_are_told(bundle):
    model = open_model(bundle)
    assert {choice.runs_on for choice in model.choice.graphs} == {"cpu"} and model.providers == ("CPUExecutionProvider",)
    for runtime in ("tensorrt", "cuda"):
        assert "no NVIDIA device" in model.choice.reasons[runtime]
        with pytest.raises(RuntimeRefusedError, match=f"runtime '{runtime}' cannot be had for encoder: {runtime}: this machine has no NVIDIA device"):
            open_model(bundle, RuntimeConfig(runtime=runtime))


def test_the_order_is_tensorrt_cuda_cpu_and_what_the_build_lacks_is_said(bundle):
    """A machine with a device whose ONNX Runtime was built for the CPU: what the aarch64 package of a Jetson's owner who took the wrong one is."""
    manifest, config = read_manifest(bundle), RuntimeConfig()
    sessions = Sessions(bundle, manifest, config, ORDER, Machine(ORIN, "", ("CPUExecutionProvider",), "10.3.0"))
    sessions.open("rollout")
    (choice,) = sessions.choice().graphs
    assert [what for what, _ in choice.passed_over] == ["tensorrt", "cuda"] and choice.runs_on == "cpu"
    assert all(re.search(r"built without (Tensorrt|CUDA)ExecutionProvider", why) for _, why in choice.passed_over)
    assert "Orin" in sessions.choice().device and "TensorRT 10.3.0" in sessions.choice().software


@pytest.mark.skipif(HERE.device is not None or len(HERE.available) < 3, reason="needs ONNX Runtime's GPU build on a machine without a GPU")
def test_a_provider_that_fails_when_the_session_is_made_falls_to_the_next_with_its_reason(bundle, tmp_path, monkeypatch):
    """What is asked before is silenced, so that ONNX Runtime itself has to refuse: really, for its libraries are not here."""
    monkeypatch.setattr(provider_module, "_missing_library", lambda runtime: "")
    pretended = Machine(ORIN, "", EVERY_PROVIDER, "10.3.0")
    asked = RuntimeConfig(engine_cache=str(tmp_path))
    sessions = Sessions(bundle, read_manifest(bundle), asked, ORDER, pretended)
    graph = sessions.open("heads")
    (choice,) = sessions.choice().graphs
    reasons = dict(choice.passed_over)
    assert choice.runs_on == "cpu" and list(reasons)[:1] == ["tensorrt"] and "cuda" in reasons
    assert "TensorRT libraries" in reasons["tensorrt"] and "without CUDAExecutionProvider" in reasons["cuda"]
    assert "\n" not in "".join(reasons.values())
    assert graph.run({"latents": np.zeros((2, 8), np.float32), "goal": np.ones(8, np.float32)})[0].shape == (2,)
    with pytest.raises(RuntimeRefusedError, match=r"runtime 'tensorrt' cannot be had for heads: tensorrt: .*TensorRT libraries"):
        Sessions(bundle, read_manifest(bundle), replace(asked, runtime="tensorrt"), ("tensorrt",), pretended).open("heads")


@pytest.mark.skipif("CUDAExecutionProvider" not in HERE.available or HERE.device is not None, reason="needs a CUDA build without a GPU")
def test_a_missing_library_is_named():
    assert re.search(r"the library lib\w+\.so\.\d+ is missing", NO_GPU.why_not("cuda"))


def test_graphs_that_nobody_runs_here_are_left_to_the_cpu_and_not_told_of(bundle):
    for graphs in (PERCEPTION_GRAPHS, PLANNER_GRAPHS):
        model = open_model(bundle, RuntimeConfig(runtime="cpu", graphs=graphs))
        assert {choice.graph for choice in model.choice.graphs} == set(graphs) - {"witness"}, "this bundle has no witness"
    assert model.encode(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 8), "and yet it runs"


def test_what_is_asked_for_is_checked():
    for wrong, message in (
        ({"runtime": "gpu"}, "must be one of: auto"),
        ({"precision": "fp8"}, "must be one of: fp32"),
        ({"threads": 0}, "at least 1"),
    ):
        with pytest.raises(RuntimeRefusedError, match=message):
            RuntimeConfig(**wrong)


def test_the_first_run_of_each_graph_is_timed_and_told(bundle):
    model = open_model(bundle, RuntimeConfig(runtime="cpu"))
    assert model.first_run_ms == {}
    model.encode(np.zeros((1, 64, 64, 3), np.uint8))
    first = dict(model.first_run_ms)
    model.encode(np.zeros((1, 64, 64, 3), np.uint8))
    assert set(first) == {"encoder"} and model.first_run_ms == first and first["encoder"] > 0
    head, *rest = model.choice.lines(first)
    assert re.search(r"encoder on cpu in fp32 \(first run \d+ ms\); rollout on cpu in fp32;", head) and rest == []
    assert re.fullmatch(r"cpu fp32 \(first run \d+ ms\)", model.choice.values(first)["runtime_encoder"])


def test_a_reason_that_holds_for_all_is_told_once_and_another_by_graph():
    over = ("cuda", "no device")
    chosen = (GraphChoice("encoder", "cpu", "fp32", (over, ("fp16", "slow"))), GraphChoice("heads", "cpu", "fp32", (over,)))
    assert RuntimeChoice("auto", chosen, "the CPU", "").reasons == {"cuda": "no device", "fp16": "encoder: slow"}


def test_the_engine_cache_is_another_folder_when_anything_that_engines_depend_on_changes(bundle, tmp_path, monkeypatch):
    manifest = read_manifest(bundle)
    key = engine_key(manifest, ORIN, "10.3.0", "1.23.2", "fp16")
    hashes = {**manifest.sha256, "rollout.onnx": "0" * 64}
    others = [
        engine_key(replace(manifest, sha256=hashes), ORIN, "10.3.0", "1.23.2", "fp16"),
        engine_key(manifest, replace(ORIN, capability="11.0"), "10.3.0", "1.23.2", "fp16"),
        engine_key(manifest, replace(ORIN, name="NVIDIA Thor"), "10.3.0", "1.23.2", "fp16"),
        engine_key(manifest, ORIN, "10.13.3", "1.23.2", "fp16"),
        engine_key(manifest, ORIN, "10.3.0", "1.24.0", "fp16"),
        engine_key(manifest, ORIN, "10.3.0", "1.23.2", "fp32"),
    ]
    assert len({entry.folder("/x") for entry in [key, *others]}) == 7
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert key.folder().is_relative_to(tmp_path / "latent-mpc" / "engines") and "orin-sm87" in key.folder().parts
    assert key.folder("/elsewhere").is_relative_to("/elsewhere")


def test_what_is_measured_of_a_bundle_builds_no_engine_anew(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    (folder / "parity.json").write_text('{"closed_loop": {}}')
    write_manifest(folder, replace(read_manifest(folder), parity=True))
    before = engine_key(read_manifest(folder), ORIN, "10.3.0", "1.23.2", "fp32")
    row = {"task": "reach", "episodes": 1, "seeds": [0], "per_seed": [1.0], "manifest": {"fingerprint": "f"}, "policies": {}}
    record_evaluation(folder, row)
    record_played(folder, {"int8": {"success_percent": 99.0}})
    assert json.loads((folder / "manifest.json").read_text())["evaluation"] and "99.0" in (folder / "parity.json").read_text()
    assert engine_key(read_manifest(folder), ORIN, "10.3.0", "1.23.2", "fp32") == before


def test_fixed_buffers_answer_as_arrays_do_and_answers_are_the_callers_own():
    session = open_session(MODELS / "push" / "rollout.onnx", session_options(1), [("CPUExecutionProvider", {})])
    plain, bound = Graph(session, "rollout"), Graph(session, "rollout", bound="cpu")
    rng = np.random.default_rng(0)

    def feed(rows):
        sizes = {"latents": (rows, 3, 48), "past_actions": (rows, 2, 2), "actions": (rows, 5, 2)}
        return {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}

    given = [feed(rows) for rows in (4, 7, 4, *range(10, 20))]  # more shapes than there are buffers for
    answers = [bound.run(entry)[0] for entry in given]
    for entry, answer in zip(given, answers, strict=True):
        assert np.array_equal(answer, plain.run(entry)[0])
    assert not np.array_equal(answers[0], answers[2]), "the third run did not write into the answer of the first"


@pytest.mark.parametrize("name", ["reach", "push", "push-vit"])
def test_every_graph_can_be_tried_out_on_zeros_and_what_fails_then_is_one_line(name):
    for file in sorted((MODELS / name).glob("*.onnx")):
        graph = Graph(open_session(file, session_options(1), [("CPUExecutionProvider", {})]), file.stem, bound="cpu")
        graph.try_out(time.perf_counter() - 5.0)
        assert graph.first_run_ms > 5000, "with what it took to open"
    graph.session = SimpleNamespace(get_inputs=graph.session.get_inputs, run=lambda *_: 1 // 0)
    graph._buffers.clear()
    with pytest.raises(RuntimeError, match="its first run fails: integer division"):
        graph.try_out(0.0)


def test_more_rows_than_an_engine_takes_are_run_in_parts():
    session = open_session(MODELS / "push" / "heads.onnx", session_options(1), [("CPUExecutionProvider", {})])
    rng = np.random.default_rng(0)
    feed = {"latents": rng.standard_normal((11, 48)).astype(np.float32), "goal": rng.standard_normal(48).astype(np.float32)}
    whole, parts = Graph(session, "heads").run(feed)[0], Graph(session, "heads", most_rows=4).run(feed)[0]
    assert parts.shape == (11,) and np.allclose(parts, whole, atol=1e-5)


def test_precisions_are_taken_from_the_bundle_and_fp16_is_not_left_to_a_cpu(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    manifest = read_manifest(folder)
    precisions = {"fp16": ["encoder"], "int8": ["rollout", "heads"], "int8_dynamic": ["rollout"]}
    mixed = replace(manifest, precisions=precisions)
    assert graph_file(folder, mixed, "encoder", "fp16", "tensorrt") == (folder / "encoder.fp16.onnx", "fp16", "")
    assert graph_file(folder, mixed, "rollout", "fp16", "cuda") == (folder / "rollout.onnx", "fp32", "the bundle has no rollout in fp16")
    kinds = {
        (graph, runtime): graph_file(folder, mixed, graph, "int8", runtime)[1] for graph in ("rollout", "heads") for runtime in ("tensorrt", "cpu")
    }
    assert kinds == {("rollout", "tensorrt"): "int8", ("rollout", "cpu"): "int8_dynamic", ("heads", "tensorrt"): "int8", ("heads", "cpu"): "fp32"}
    assert graph_file(folder, manifest, "encoder", "int8", "cpu")[1:] == ("fp32", "the bundle has no encoder in int8_dynamic")
    with pytest.raises(ValueError, match="has no graph 'witness'"):
        graph_file(folder, manifest, "witness", "fp32", "cpu")

    for name in ("encoder.fp16", "rollout.int8_dynamic"):
        (folder / f"{name}.onnx").write_bytes((folder / f"{name.split('.')[0]}.onnx").read_bytes())
    for precision, graph, expected in (("fp16", "encoder", "fp32"), ("int8", "rollout", "int8_dynamic")):
        sessions = Sessions(folder, mixed, RuntimeConfig(precision=precision, runtime="cpu"), ("cpu",), NO_GPU)
        sessions.open(graph)
        (choice,) = sessions.choice().graphs
        assert choice.precision == expected and ("no faster" in dict(choice.passed_over).get(precision, "")) == (precision == "fp16")


def test_provider_options_name_every_free_input_and_the_cache(tmp_path):
    shapes = {"latents": ("N", 3, 48), "past_actions": ("N", 2, 2), "actions": ("N", "H", 2), "goal": (48,)}
    profile = profile_options(shapes, *rows_of("rollout"))
    assert profile["trt_profile_min_shapes"] == "latents:1x3x48,past_actions:1x2x2,actions:1x1x2"
    assert all(re.fullmatch(r"latents:\d+x3x48,past_actions:\d+x2x2,actions:\d+x\d+x2", text) for text in profile.values())
    assert profile_options({"goal": (48,)}, 1, 2) == {}
    pictures = profile_options({"frames": ("N", 64, 64, 3)}, *rows_of("encoder"))
    assert pictures["trt_profile_opt_shapes"] == "frames:1x64x64x3", "perception encodes one at a time"
    assert pictures["trt_profile_max_shapes"] == "frames:16x64x64x3", "TensorRT takes memory for the largest"
    options = tensorrt_options("rollout", "fp16", tmp_path, profile, cuda_graph=True)
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(tmp_path)
    assert (options["trt_fp16_enable"], options["trt_int8_enable"], options["trt_cuda_graph_enable"]) == ("1", "0", "1")
    assert all(isinstance(value, str) for value in (options | cuda_options(True)).values())


@pytest.mark.skipif("TensorrtExecutionProvider" not in HERE.available, reason="needs ONNX Runtime's GPU build")
def test_onnx_runtime_knows_every_provider_option_by_that_name(tmp_path):
    """A misspelt one is found on a Jetson otherwise, by somebody else: the names are looked for in the provider's own library."""
    folder = Path(provider_module.onnxruntime.__file__).parent / "capi"
    profile = profile_options({"frames": ("N", 64, 64, 3)}, 1, 16)
    for file, options in (("tensorrt", tensorrt_options("g", "fp32", tmp_path, profile, True)), ("cuda", cuda_options(True))):
        content = (folder / f"libonnxruntime_providers_{file}.so").read_bytes()
        assert [name for name in options if name.encode() + b"\0" not in content] == []


def test_a_bundle_opened_as_ever_waits_for_no_engine(bundle):
    assert "tensorrt" not in OnnxModel(bundle).choice.reasons


def test_two_nodes_that_build_at_the_same_time_share_no_file(bundle, tmp_path, monkeypatch):
    """What ONNX Runtime is told, up to where it would need a device."""
    told = {}

    def refuse(file, options, providers):
        if providers[0][0] == "TensorrtExecutionProvider":
            told.setdefault(file.stem, providers[0][1])
            raise RuntimeError("no device")
        return open_session(file, options, providers)

    monkeypatch.setattr(provider_module, "_missing_library", lambda runtime: "")
    monkeypatch.setattr(session_module, "open_session", refuse)
    sessions = Sessions(
        bundle, read_manifest(bundle), RuntimeConfig(engine_cache=str(tmp_path)), ("tensorrt", "cpu"), Machine(ORIN, "", EVERY_PROVIDER, "10.3.0")
    )
    assert all(sessions.open(name) for name in ("encoder", "rollout"))
    paths = {options[key] for options in told.values() for key in ("trt_engine_cache_path", "trt_timing_cache_path")}
    assert len(told) == len(paths) == 2 and all(Path(path).is_dir() and path.startswith(str(tmp_path)) for path in paths)
    assert told["encoder"]["trt_profile_max_shapes"].startswith("frames:16x") and ":4096x" in told["rollout"]["trt_profile_max_shapes"]
