import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from latent_mpc.cli import run
from onnx import TensorProto, helper

from world_model.bundle import read_manifest, write_manifest
from world_model.networks import load_networks
from world_model.precision.integer import to_int8
from world_model.score import ScoreSettings, score_parts
from world_model.tensorrt.build import input_shapes, plans, reference_file
from world_model.tensorrt.check import check_graph
from world_model.tensorrt.gate import LEAST_COSINE, agreement, pictures, probe
from world_model.tensorrt.library import load_tensorrt
from world_model.tensorrt.operator_list import TensorRtError, operator_list, parse_version
from world_model.tensorrt.prepare import prepared
from world_model.tensorrt.shapes import EngineShapes, parse_shapes, profile, trtexec

MODELS = Path(__file__).resolve().parents[1] / "models"
SHIPPED = ["reach", "push", "push-vit"]
F32, F64, U8, I64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.UINT8, TensorProto.INT64
JETPACK_6 = operator_list((10, 3))


def value(name, kind=F32, shape=("N", 4)):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, constants=(), opset=18, functions=(), imports=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), *imports], functions=list(functions), ir_version=10)


def refusals(graph, known=JETPACK_6):
    return {row.path: row.refused for row in check_graph("g", graph, known) if row.refused}


def session(graph):
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("version", ["10.3", "10.13", "10.16", "11.4"])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_bundles_pass_as_they_are_built(name, version):
    found = list(plans(MODELS / name, "fp32", EngineShapes(300, 5)))
    assert [plan.graph for plan in found] == ["encoder", "rollout", "heads", "actor", "witness"]
    for plan in found:
        assert refusals(onnx.load_from_string(plan.content), operator_list(parse_version(version))) == {}, plan.graph


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("graph", ["encoder", "rollout", "witness"])
def test_what_is_prepared_computes_the_same_to_the_bit(name, graph):
    """Pictures that are cast before they are transposed, and a rollout of fixed length."""
    about = read_manifest(MODELS / name)
    original = onnx.load(MODELS / name / f"{graph}.onnx")
    changed, changes = prepared(original, steps=7)
    assert changes and changed != original
    rng = np.random.default_rng(0)
    scenes = rng.standard_normal((9, about.latent_dim)).astype(np.float32)
    shapes = {"frames": (3, *about.frame), "latents": (3, about.history, about.latent_dim)}
    shapes |= {"past_actions": (3, about.history - 1, about.action_dim), "actions": (3, 7, about.action_dim)}
    feed = probe(about, graph, shapes, rng, scenes)
    for before, after in zip(session(original).run(None, feed), session(changed).run(None, feed), strict=True):
        assert np.array_equal(before, after)
    if graph == "rollout":
        shapes = {entry.name: entry.shape for entry in session(changed).get_inputs()}
        assert shapes["actions"][1] == 7 and isinstance(shapes["actions"][0], str)
        assert all(isinstance(size, int) for entry in session(prepared(original, 5, 7)[0]).get_inputs() for size in entry.shape)


def test_a_bias_in_int32_becomes_the_numbers_that_it_stands_for():
    """As ONNX Runtime's quantiser leaves it; TensorRT dequantises 8 bits and fewer."""
    rng = np.random.default_rng(0)
    scale, bias = rng.uniform(1e-4, 1e-3, 6).astype(np.float32), rng.integers(-(10**4), 10**4, 6).astype(np.int32)
    constants = [
        onnx.numpy_helper.from_array(array, name)
        for name, array in {"w": rng.standard_normal((6, 3, 3, 3)).astype(np.float32), "b": bias, "s": scale, "z": np.zeros(6, np.int32)}.items()
    ]
    nodes = [helper.make_node("DequantizeLinear", ["b", "s", "z"], ["bias"], axis=0), helper.make_node("Conv", ["x", "w", "bias"], ["y"])]
    graph = model(nodes, [value("x", shape=(1, 3, 8, 8))], [value("y", shape=(1, 6, 6, 6))], constants)
    assert "not INT32" in refusals(graph)["DequantizeLinear"]
    changed, changes = prepared(graph)
    onnx.checker.check_model(changed, full_check=True)
    assert changes == ["1 biases in INT32 become numbers"] and refusals(changed) == {}
    feed = {"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)}
    assert np.allclose(session(changed).run(None, feed)[0], session(graph).run(None, feed)[0], atol=1e-5)


def test_operators_that_the_list_refuses_are_found_wherever_they_hide():
    """At the top, in the body of a Scan, in a branch of an If inside it, and in a local function; others beside them are taken."""
    bad = helper.make_node("Det", ["m"], ["d"])
    assert refusals(model([bad], [value("m", shape=(3, 3))], [value("d", shape=())])) == {"Det": "not supported"}

    then, other = (
        helper.make_graph([helper.make_node(kind, ["s"], [f"b{kind}"])], "b", [], [value(f"b{kind}", shape=(4,))]) for kind in ("Unique", "Relu")
    )
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "x"], ["s2"]),
            helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("c", TensorProto.BOOL, (), [True])),
            helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other),
        ],
        "body",
        [value("s", shape=(4,)), value("x", shape=(4,))],
        [value("s2", shape=(4,)), value("y", shape=(4,))],
    )
    scan = helper.make_node("Scan", ["s0", "xs"], ["last", "ys"], body=body, num_scan_inputs=1)
    outputs = [value("last", shape=(4,)), value("ys", shape=("H", 4))]
    found = check_graph("g", model([scan], [value("s0", shape=(4,)), value("xs", shape=("H", 4))], outputs), JETPACK_6)
    assert {row.path for row in found if row.refused} == {"Scan/If/Unique"}
    assert {"Scan", "Scan/Add", "Scan/If", "Scan/If/Relu"} <= {row.path for row in found}
    assert any("'H' is free" in row.note for row in found)

    hidden = helper.make_function("own", "Twist", ["a"], ["b"], [helper.make_node("BitwiseNot", ["a"], ["b"])], [helper.make_opsetid("", 18)])
    uses = helper.make_node("Twist", ["m"], ["d"], domain="own")
    nested = model(
        [uses], [value("m", TensorProto.INT32)], [value("d", TensorProto.INT32)], functions=[hidden], imports=[helper.make_opsetid("own", 1)]
    )
    assert refusals(nested) == {"Twist/BitwiseNot": "not supported"}


def test_types_opsets_and_restrictions_are_judged():
    node = helper.make_node
    pair = [value("a"), value("b")]
    cases = {
        "not UINT8": model([node("Transpose", ["a"], ["b"])], [value("a", U8)], [value("b", U8, (4, "N"))]),
        "DOUBLE": model([node("Relu", ["a"], ["b"])], [value("a", F64)], [value("b", F64)]),
        "plugin": model(
            [node("Gelu", ["a"], ["b"], domain="com.microsoft")], *[[entry] for entry in pair], imports=[helper.make_opsetid("com.microsoft", 1)]
        ),
        "opset 23": model([node("Relu", ["a"], ["b"])], *[[entry] for entry in pair], opset=23),
        "axes are not constant": model([node("ReduceSum", ["a", "axes"], ["b"])], [value("a"), value("axes", I64, (1,))], [value("b", shape=None)]),
        "zero point": model(
            [node("QuantizeLinear", ["a", "s", "z"], ["b"])],
            [value("a")],
            [value("b", TensorProto.INT8)],
            [helper.make_tensor("s", F32, (), [0.1]), helper.make_tensor("z", TensorProto.INT8, (), [3])],
        ),
        "first output": model(
            [node("LayerNormalization", ["a", "w"], ["b", "mean"])],
            [value("a")],
            [value("b"), value("mean", shape=None)],
            [helper.make_tensor("w", F32, (4,), [1] * 4)],
        ),
        "dilated": model(
            [node("MaxPool", ["p"], ["q"], kernel_shape=[2, 2], dilations=[2, 2])], [value("p", shape=(1, 1, 9, 9))], [value("q", shape=None)]
        ),
    }
    for reason, graph in cases.items():
        assert any(reason in text for text in refusals(graph).values()), (reason, refusals(graph))
    fine = [helper.make_tensor("s", F32, (), [0.1]), helper.make_tensor("z", TensorProto.INT8, (), [0]), helper.make_tensor("axes", I64, (1,), [1])]
    nodes = [
        node("ReduceSum", ["a", "axes"], ["r"]),
        node("QuantizeLinear", ["r", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["b"]),
    ]
    assert refusals(model(nodes, [value("a")], [value("b")], fine)) == {}
    window = model([node("HannWindow", ["n"], ["b"])], [value("n", I64, ())], [value("b", shape=("M",))])
    assert refusals(window) and not refusals(window, operator_list((10, 6))), "10.4 brought windows"


def test_a_version_gets_the_newest_list_that_is_not_newer():
    assert [operator_list(parse_version(text)).label for text in ("10.3", "10.5.0", "10.6", "10.13.3.9", "10.16", "11.4.0")] == [
        "10.1", "10.1", "10.6", "10.6", "10.15", "10.15",
    ]  # fmt: skip
    assert JETPACK_6.opsets == (9, 20) and "96e7811" in JETPACK_6.source and not JETPACK_6.operators["Det"].supported
    for text, message in (("8.6.1", "too old"), ("12.0", "newer than"), ("ten", "no version"), ("10", "no version")):
        with pytest.raises(TensorRtError, match=message):
            parse_version(text)


def test_check_says_which_operator_and_ends_with_status_1(tmp_path, capsys):
    assert run(["tensorrt", "check", "--model", str(MODELS / "push"), "--json", str(tmp_path / "table.json")]) == 0
    told = capsys.readouterr().out
    assert "| rollout.onnx | Scan/Gemm | 8 | FP32 | yes |" in told and "'frames' is cast before Transpose" in told and "without a plugin" in told
    assert run(["tensorrt", "check", "--model", str(MODELS / "push"), "--as-exported"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("not supported: encoder.onnx: Transpose (1 times): takes FP32") and lines[0].endswith("not UINT8")
    assert run(["tensorrt", "check", "--model", str(MODELS / "push"), "--version", "8.6"]) == 2
    assert "too old" in capsys.readouterr().err


def test_build_without_tensorrt_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert run(["tensorrt", "build", "--model", str(MODELS / "push"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "python3-libnvinfer-dev" in said and "pip install tensorrt-cu12" in said and said.count("\n") == 1 and not (tmp_path / "out").exists()
    for version, reason in (("8.6.1", "too old"), ("13.0.0", "newer than")):
        monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version))
        with pytest.raises(TensorRtError, match=reason):
            load_tensorrt()


def test_the_commands_for_trtexec_name_graphs_that_are_there(tmp_path, capsys):
    assert run(["tensorrt", "build", "--model", str(MODELS / "reach"), "--out", str(tmp_path), "--shapes", "64,5", "--print-trtexec"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all("--stronglyTyped" in line for line in lines)
    for line in lines:
        file = Path(next(word.removeprefix("--onnx=") for word in line.split() if word.startswith("--onnx=")))
        onnx.checker.check_model(onnx.load(file))
        assert read_manifest(MODELS / "reach").name in file.name
    rollout = next(line for line in lines if "rollout" in line)
    assert "--minShapes=latents:1x3x32,past_actions:1x2x3,actions:1x5x3" in rollout and "--maxShapes=latents:64x3x32" in rollout
    assert "stronglyTyped" not in trtexec("a", "b", "c", {}, (11, 0))
    assert run(["tensorrt", "build", "--model", str(MODELS / "reach"), "--out", str(tmp_path), "--shapes", "64", "--print-trtexec"]) == 2
    assert (parse_shapes("300,5").zones, parse_shapes("300,5,2", static=True)) == (4, EngineShapes(300, 5, 2, True))
    for wrong in ("0,5", "a,b", "1,2,0", "1,2,3,4"):
        with pytest.raises(TensorRtError):
            parse_shapes(wrong)


def test_a_graph_with_a_free_dimension_that_is_not_rows_gets_no_profile():
    with pytest.raises(TensorRtError, match="free dimension 'H'"):
        profile(onnx.load(MODELS / "push" / "rollout.onnx"), 300)


def test_the_gate_lets_through_what_agrees_and_nothing_else():
    rng = np.random.default_rng(0)
    latents, steps = rng.standard_normal((6, 48)), rng.uniform(1, 20, 6)
    reference = {"latents": latents, "steps": steps}
    assert agreement(reference, {name: array.copy() for name, array in reference.items()}).cosine == 1.0
    noise = rng.standard_normal(48)
    noise -= noise @ latents[2] / (latents[2] @ latents[2]) * latents[2]  # at right angles, so that the cosine is known
    for share, met in ((0.02, True), (0.08, False)):
        off = latents.copy()
        off[2] += share * noise / np.linalg.norm(noise) * np.linalg.norm(latents[2])
        found = agreement(reference, {"latents": off, "steps": steps})
        assert found.cosine == pytest.approx(1 / np.sqrt(1 + share**2), abs=1e-9) and found.met == met == (found.cosine >= LEAST_COSINE)
    for broken in ({"latents": latents}, {"latents": latents, "steps": steps * np.nan}, {"latents": latents[:, :4], "steps": steps}):
        assert not agreement(reference, broken).met
    assert not agreement(reference, {"latents": latents, "steps": steps[::-1]}).met, "distances of other scenes"


def test_probes_are_what_the_graphs_take_and_pictures_are_smooth():
    about = read_manifest(MODELS / "push")
    rng = np.random.default_rng(1)
    scenes = np.zeros((0, 0), np.float32)
    for graph in ("encoder", "rollout", "heads", "actor"):
        opened = session(onnx.load(MODELS / "push" / f"{graph}.onnx"))
        sizes = {"N": 5, "H": 4}
        feed = probe(about, graph, {i.name: tuple(sizes.get(size, size) for size in i.shape) for i in opened.get_inputs()}, rng, scenes)
        found = opened.run(None, feed)[0]
        assert len(found) == 5 and np.isfinite(found).all()
        scenes = found if graph == "encoder" else scenes
    seen = pictures((64, 64, 3), 2, rng).astype(int)
    assert np.abs(np.diff(seen, axis=1)).max() <= 14 and seen.std() > 20, "255 over a third of the picture at most, and not one colour"


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """push with a score, a rollout of fixed shape and one in int8, quantised on noise."""
    folder = Path(shutil.copytree(MODELS / "push", tmp_path_factory.mktemp("complete") / "push"))
    about = read_manifest(folder)
    onnx.save(score_parts(load_networks(folder, about), about, ScoreSettings()).whole(), folder / "score.onnx")
    onnx.save(prepared(onnx.load(folder / "rollout.onnx"), 6, 3)[0], folder / "rollout.6x3.onnx")
    rng = np.random.default_rng(0)
    feed = {"latents": (32, 3, 48), "past_actions": (32, 2, 2), "actions": (32, 8, 2)}
    feeds = [{name: rng.standard_normal(shape).astype(np.float32) for name, shape in feed.items()}]
    onnx.save(to_int8(onnx.load(folder / "rollout.onnx"), feeds), folder / "rollout.int8.onnx")
    write_manifest(folder, replace(about, further=("score", "rollout.6x3"), precisions={"int8": ["rollout"]}))
    return folder


def test_every_graph_of_a_bundle_is_built_and_probed_as_it_is_checked(complete):
    """Score and fixed shapes as well: ONNX Runtime runs what TensorRT would be given, on the probe, and says what the bundle's own file says."""
    about, rng = read_manifest(complete), np.random.default_rng(0)
    scenes = rng.standard_normal((9, about.latent_dim)).astype(np.float32)
    for static in (False, True):
        found = {plan.graph: plan for plan in plans(complete, "int8", EngineShapes(5, 4, 3, static))}
        assert set(found) == set(about.graphs) >= {"score", "rollout.6x3", "witness"}
        assert found["score"].changes[:2] == ("H = 4", "Z = 3") and not found["rollout.6x3"].changes
        for plan in found.values():
            ready = onnx.load_from_string(plan.content)
            assert refusals(ready) == {}, plan.graph
            feed = probe(about, plan.graph, input_shapes(plan), rng, scenes)
            assert {entry.name: entry.shape for entry in session(ready).get_inputs()}.keys() == feed.keys()
            own, as_built = (session(graph).run(None, feed) for graph in (onnx.load(plan.file), ready))
            assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(own, as_built, strict=True)), plan.graph
    assert input_shapes(found["score"])["zones"] == (3, 6) and input_shapes(found["score"])["actions"] == (5, 4, 2)


def test_an_int8_engine_is_compared_with_its_own_graph(complete):
    """One that computes its graph to the bit would not pass beside fp32: the bundle's gate is more lenient than the engine's."""
    about, rng = read_manifest(complete), np.random.default_rng(0)
    plan = next(plan for plan in plans(complete, "int8", EngineShapes(64, 8)) if plan.graph == "rollout")
    assert (plan.precision, reference_file(plan).name) == ("int8", "rollout.int8.onnx")
    feed = probe(about, "rollout", input_shapes(plan), rng, rng.standard_normal((9, about.latent_dim)).astype(np.float32))
    own, fp32 = ({"imagined": session(onnx.load(complete / name)).run(None, feed)[0]} for name in ("rollout.int8.onnx", "rollout.onnx"))
    assert agreement(own, own).met and not agreement(fp32, own).met
    plain = next(plan for plan in plans(complete, "int8", EngineShapes(64, 8)) if plan.graph == "heads")
    assert reference_file(plain).name == "heads.onnx"
