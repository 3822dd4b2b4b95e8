"""fp16 with fp32 islands: what is in which type, and that it computes what it computed before."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from world_model.precision.half import to_half
from world_model.precision.rounded import as_rounded
from world_model.precision.running import opened

ISLANDS = {"LayerNormalization", "Softmax", "ReduceMean", "ReduceSum", "InstanceNormalization", "BatchNormalization", "Pow", "Exp", "Sqrt"}
HEAVY = {"MatMul", "Gemm", "Conv"}
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def typed(graph: onnx.GraphProto, model: onnx.ModelProto) -> list[tuple[str, set[int], set[int]]]:
    """Each node with the float types that go in and come out, as strict inference finds them; bodies of loops included."""
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    inferred = onnx.shape_inference.infer_shapes(alone, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16}
    rows = []
    for node in graph.node:
        rows.append((node.op_type, *({types.get(name, 0) for name in names} & floats for names in (node.input, node.output))))
        rows += [row for attribute in node.attribute if attribute.HasField("g") for row in typed(attribute.g, model)]
    return rows


@pytest.mark.parametrize("name", ["push/encoder", "push-vit/encoder", "push/rollout", "push/heads", "push/actor"])
def test_products_are_half_and_what_normalises_or_sums_is_single(name):
    half = to_half(onnx.load(f"models/{name}.onnx"))
    rows = typed(half.graph, half)
    assert {op for op, _, _ in rows} & HEAVY
    for op, taken, made in rows:
        if op in HEAVY:
            assert taken == made == {TensorProto.FLOAT16}, op
        elif op in ISLANDS:
            assert taken == made == {TensorProto.FLOAT}, op
        elif op != "Cast":
            assert len(taken) <= 1, f"{op} is fed with both types: no strongly typed engine takes that"
    outer = [value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)]
    assert TensorProto.FLOAT16 not in outer and set(outer) <= {TensorProto.FLOAT, TensorProto.UINT8}


@pytest.mark.parametrize("name", ["push", "push-vit"])
def test_it_weighs_half_and_sees_the_same(name):
    whole = onnx.load(f"models/{name}/encoder.onnx")
    half = to_half(whole)
    assert len(half.SerializeToString()) < 0.55 * len(whole.SerializeToString())
    right, found = (opened(graph).run(None, {"frames": FRAMES})[0] for graph in (whole, as_rounded(half)))
    gap = np.abs(right - found).max()
    assert 0 < gap < 1e-2, "half precision has 11 bits: the same, but not to the last"


def value(name: str, shape: list) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_loop_adds_up_in_fp32():
    """A state that grows by 2^-12 from 1 stands still in fp16, whose next number is 1 + 2^-10."""
    steps = [("MatMul", ["x", "w"], ["step"]), ("Add", ["s", "step"], ["next"]), ("Identity", ["next"], ["seen"])]
    weight = numpy_helper.from_array(np.full((1, 1), 2.0**-12, np.float32), "w")
    taken, made = [value(name, [1, 1]) for name in ("s", "x")], [value(name, [1, 1]) for name in ("next", "seen")]
    body = helper.make_graph([helper.make_node(*step) for step in steps], "body", taken, made, [weight])
    scan = helper.make_node("Scan", ["begin", "xs"], ["last", "all"], body=body, num_scan_inputs=1)
    half = to_half(model(helper.make_graph([scan], "loop", [value("begin", [1, 1]), value("xs", ["T", 1, 1])], [value("all", ["T", 1, 1])])))
    found = opened(as_rounded(half)).run(None, {"begin": np.ones((1, 1), np.float32), "xs": np.ones((64, 1, 1), np.float32)})[0]
    assert found[-1, 0, 0] == 1 + 64 * 2.0**-12


def test_fp16_is_rounded_as_numpy_does_it():
    """To the bit, from the smallest number on to beyond the largest: ONNX Runtime's CPU kernels would not round at all."""
    rng = np.random.default_rng(0)
    edges = [0, 65504, 65519, 65520, 1e38, np.inf, -np.inf, np.nan, -70000, 6e-8, 2.0**-14, -(2.0**-24), 2.0**-25]
    numbers = np.concatenate([rng.standard_normal(200_000) * 10.0 ** rng.uniform(-9, 6, 200_000), edges]).astype(np.float32)
    nodes = [helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT)]
    there_and_back = model(helper.make_graph(nodes, "casts", [value("x", ["N"])], [value("y", ["N"])]))
    with np.errstate(over="ignore"):
        expected = numbers.astype(np.float16).astype(np.float32)
    assert np.array_equal(opened(as_rounded(there_and_back)).run(None, {"x": numbers})[0], expected, equal_nan=True)


def test_a_sum_that_fp16_cannot_hold_is_infinite():
    """As on hardware for fp16, and other than in ONNX Runtime's fp32 stand-in."""
    weight = numpy_helper.from_array(np.full((2, 1), 6e4, np.float32), "w")
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    half = to_half(model(helper.make_graph([product], "sum", [value("x", [1, 2])], [value("y", [1, 1])], [weight])))
    ones = {"x": np.ones((1, 2), np.float32)}
    assert opened(as_rounded(half)).run(None, ones)[0][0, 0] == np.inf and np.isfinite(opened(half).run(None, ones)[0][0, 0])


def test_weights_that_fp16_cannot_say_stay_in_fp32():
    weight = np.array([[1e6], [2.0]], np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "large", [value("x", [1, 2])], [value("y", [1, 1])], [numpy_helper.from_array(weight, "w")])
    assert opened(to_half(model(graph))).run(None, {"x": np.array([[0.5, 1.0]], np.float32)})[0][0, 0] == 500_002.0
