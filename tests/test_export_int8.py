"""int8: what TensorRT asks of an explicitly quantised graph, and what is left of the figures."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from world_model.precision.figures import figures
from world_model.precision.gates import GateError, require_figures
from world_model.precision.integer import to_int8, to_int8_dynamic
from world_model.precision.running import opened

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
ROLLOUT = {
    "latents": RNG.standard_normal((16, 3, 48)).astype(np.float32),
    "past_actions": RNG.uniform(-1, 1, (16, 2, 2)).astype(np.float32),
    "actions": RNG.uniform(-1, 1, (16, 6, 2)).astype(np.float32),
}


@pytest.fixture(scope="module")
def rollout() -> onnx.ModelProto:
    return onnx.load("models/push/rollout.onnx")


@pytest.fixture(scope="module")
def converted(rollout) -> onnx.ModelProto:
    return to_int8(rollout, [ROLLOUT])


def body(model: onnx.ModelProto) -> onnx.GraphProto:
    return next(attribute.g for attribute in model.graph.node[0].attribute if attribute.HasField("g"))


def test_every_scale_is_symmetric_weights_by_channel_and_activations_by_tensor(converted):
    graph = body(converted)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantised = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert quantised
    for node in quantised:
        zero, scale = constants[node.input[2]], constants[node.input[1]]
        assert zero.dtype == np.int8 and not zero.any(), "TensorRT knows int8 without a zero point"
        weight = constants.get(node.input[0])
        assert scale.size == (1 if weight is None else weight.shape[-1])
        assert weight is None or weight.dtype == np.int8
    products = Counter(node.op_type for node in body_of_fp32())
    assert Counter(node.op_type for node in graph.node)["MatMul"] == products["Gemm"] + products["MatMul"]
    assert not [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT32], "no bias in int32"


def body_of_fp32() -> list[onnx.NodeProto]:
    return list(body(onnx.load("models/push/rollout.onnx")).node)


def test_scales_come_from_what_was_seen(rollout):
    """The input of the first product is the history itself: its scale is the largest number in it over 127."""
    graph = body(to_int8(rollout, [ROLLOUT]))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "MatMul")
    dequantised = next(node for node in graph.node if node.output[0] == first.input[0])
    imagined = opened(rollout).run(None, ROLLOUT)[0]
    largest = max(np.abs(ROLLOUT["latents"]).max(), np.abs(imagined[:, :-1]).max(), 1.0)
    assert constants[dequantised.input[1]] == pytest.approx(largest / 127.0, rel=1e-3)


@pytest.mark.parametrize("kind", ["int8", "int8_dynamic"])
def test_a_rollout_in_int8_imagines_nearly_the_same(rollout, converted, kind):
    model = converted if kind == "int8" else to_int8_dynamic(rollout)
    right, found = (opened(graph).run(None, ROLLOUT)[0] for graph in (rollout, model))
    rows, others = right.reshape(-1, 48), found.reshape(-1, 48)
    cosine = (rows * others).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(others, axis=1)
    assert 0.99 < cosine.min() < 1.0
    operators = {node.op_type for node in body(model).node}
    assert ("MatMulInteger" in operators) == (kind == "int8_dynamic")
    assert {entry.domain for entry in model.opset_import} == {""}, "plain ONNX: no plugin, no operator of one runtime alone"


def test_a_convolution_is_quantised_too():
    converted = to_int8(onnx.load("models/push/encoder.onnx"), [{"frames": FRAMES}])
    made = {name: node.op_type for node in converted.graph.node for name in node.output}
    for node in converted.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            assert [made.get(name) for name in node.input[:2]] == ["DequantizeLinear"] * 2


def test_a_calibration_on_the_wrong_pictures_does_not_pass(rollout):
    """Ranges from latents a hundredth of the size: everything is clipped. It runs, and the gate says what is wrong."""
    small = ROLLOUT | {"latents": ROLLOUT["latents"] / 100, "actions": ROLLOUT["actions"] / 100, "past_actions": ROLLOUT["past_actions"] / 100}
    bad = opened(to_int8(rollout, [small]))
    right = opened(rollout)
    found = figures(lambda feed: right.run(None, feed), lambda feed: bad.run(None, feed), [ROLLOUT], 0)
    with pytest.raises(GateError, match=r"^rollout.int8.onnx: the least cosine of its latents on recorded .* less than 0.98; no bundle was written$"):
        require_figures("rollout", "int8", found, "recorded scenes")


def test_critic_and_actor_inside_a_score_are_left_alone():
    value = helper.make_tensor_value_info
    weights = [numpy_helper.from_array(RNG.standard_normal((4, 4)).astype(np.float32), name) for name in ("jepa.a", "judge.b")]
    nodes = [helper.make_node("MatMul", ["x", "jepa.a"], ["h"]), helper.make_node("MatMul", ["h", "judge.b"], ["y"])]
    graph = helper.make_graph(nodes, "both", [value("x", TensorProto.FLOAT, [2, 4])], [value("y", TensorProto.FLOAT, [2, 4])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    for converted in (to_int8(model, [{"x": RNG.standard_normal((2, 4)).astype(np.float32)}]), to_int8_dynamic(model)):
        types = {tensor.name: tensor.data_type for tensor in converted.graph.initializer}
        assert types["judge.b"] == TensorProto.FLOAT and "jepa.a" not in types
