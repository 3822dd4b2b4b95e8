"""What is changed in a graph before TensorRT's parser sees it; it computes the same."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_STEPS, _ZONES = "H", "Z"


def prepared(model: onnx.ModelProto, rows: int = 0, steps: int = 0, zones: int = 0) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of ``model`` for TensorRT, and what was changed, in a line each.

    Pictures are cast before anything else is done with them: TensorRT knows UINT8 as input and output only. A bias in INT32
    becomes the numbers that it stands for: TensorRT dequantises 8 bits and fewer. ``steps`` fixes the length H of
    rollouts, so that the length of a scan's output is known when the engine is built, ``zones`` the number Z of those that a score measures: one
    that is not there is one far away. ``rows`` fixes the number of rows as well, 0 leaves it free.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    changes = [*_cast_first(copy.graph), *_plain_biases(copy.graph)]
    free = _free_names(copy.graph)
    for name, size in ((_STEPS, steps), (_ZONES, zones)):
        if size and name in free:
            _fix(copy.graph, name, size)
            changes.append(f"{name} = {size}")
    for name in sorted(free - {_STEPS, _ZONES}) if rows else []:
        _fix(copy.graph, name, rows)
        changes.append(f"{name} = {rows}")
    if changes:
        del copy.graph.value_info[:]  # types and shapes of then; the parser finds its own
    return copy, changes


def _cast_first(graph: onnx.GraphProto) -> list[str]:
    changed = []
    for value in graph.input:
        if value.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        takers = [node for node in graph.node if value.name in node.input]
        if all(node.op_type == "Cast" for node in takers):
            continue
        cast = f"{value.name}_cast_first"
        for node in takers:
            node.input[:] = [cast if name == value.name else name for name in node.input]
        graph.node.insert(0, helper.make_node("Cast", [value.name], [cast], name=cast, to=TensorProto.FLOAT))
        changed.append(f"'{value.name}' is cast before {', '.join(sorted({node.op_type for node in takers}))}")
    return changed


def _plain_biases(graph: onnx.GraphProto) -> list[str]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    folded = []
    for node in list(graph.node):
        stored = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if stored is None or stored.data_type != TensorProto.INT32 or node.input[1] not in constants:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]])  # one, or one for each number of a bias, which is a vector
        numbers = (numpy_helper.to_array(stored) * scale.astype(np.float64)).astype(scale.dtype)
        graph.initializer.append(numpy_helper.from_array(numbers, node.output[0]))
        graph.node.remove(node)
        folded.append(node.output[0])
    return [f"{len(folded)} biases in INT32 become numbers"] if folded else []


def _free_names(graph: onnx.GraphProto) -> set[str]:
    return {size.dim_param for value in graph.input for size in value.type.tensor_type.shape.dim if size.dim_param}


def _fix(graph: onnx.GraphProto, name: str, size: int) -> None:
    for value in (*graph.input, *graph.output):
        for found in value.type.tensor_type.shape.dim:
            if found.dim_param == name:
                found.dim_value = size
