"""fp16 as hardware does it, on a CPU: there ONNX Runtime computes it in fp32 without a word, so that nothing would overflow or be rounded.

Here every value that is stored in fp16 is rounded to it, in fp32 arithmetic: 11 bits by Veltkamp's splitting (Dekker 1971), steps of 2^-24 below
2^-14, infinity from 65,520 on. Products are summed in fp32, as tensor cores do.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_DOMAIN, _ROUND = "latent_mpc", "RoundToHalf"


def as_rounded(half: onnx.ModelProto) -> onnx.ModelProto:
    """The graph that computes in fp32 what ``half`` computes where fp16 is fp16."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(half)
    _rewrite(rounded.graph, half)
    rounded.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    rounded.functions.append(_rounding(half))
    onnx.checker.check_model(rounded)
    return rounded


def _rewrite(graph: onnx.GraphProto, model: onnx.ModelProto) -> None:
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    inferred = onnx.shape_inference.infer_shapes(alone, strict_mode=True).graph
    halves = {value.name for value in inferred.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    for place, tensor in enumerate(graph.initializer):
        if tensor.data_type == TensorProto.FLOAT16:
            graph.initializer[place].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    nodes = list(graph.node)
    del graph.node[:], graph.value_info[:]
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rewrite(attribute.g, model)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        stored = [name for name in node.output if name in halves]
        for place, name in enumerate(node.output):
            if name in halves:
                node.output[place] = f"{name}.exact"
        graph.node.append(node)
        graph.node.extend(helper.make_node(_ROUND, [f"{name}.exact"], [name], domain=_DOMAIN) for name in stored)


def _rounding(model: onnx.ModelProto) -> onnx.FunctionProto:
    """``y`` is ``x`` as it comes back from fp16."""
    node = helper.make_node

    def number(name: str, value: float) -> onnx.NodeProto:
        return node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.FLOAT, [], [value]))

    nodes = [
        number("splitter", 2.0**13 + 1.0),
        number("end", 65520.0),
        number("least_normal", 2.0**-14),
        number("shift", 0.75),  # numbers of 0.5 to 1 are 2^-24 apart in fp32
        number("infinity", float("inf")),
        node("Abs", ["x"], ["size"]),
        node("Mul", ["x", "splitter"], ["wide"]),
        node("Sub", ["wide", "x"], ["rest"]),
        node("Sub", ["wide", "rest"], ["normal"]),
        node("Add", ["x", "shift"], ["shifted"]),
        node("Sub", ["shifted", "shift"], ["subnormal"]),
        node("Less", ["size", "least_normal"], ["is_small"]),
        node("Where", ["is_small", "subnormal", "normal"], ["finite"]),
        node("Mul", ["x", "infinity"], ["beyond"]),
        node("GreaterOrEqual", ["size", "end"], ["is_large"]),
        node("Where", ["is_large", "beyond", "finite"], ["y"]),
    ]
    opsets = [entry for entry in model.opset_import if not entry.domain]
    return helper.make_function(_DOMAIN, _ROUND, ["x"], ["y"], nodes, opsets)
