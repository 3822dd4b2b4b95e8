"""fp16 with fp32 islands: matrix products in half precision, whatever normalises, sums up or takes powers in single.

The graph says so itself with Cast nodes, as a strongly typed TensorRT network wants it (TensorRT 11 knows no precision flags), and DINO-type
encoders need it: LayerNorm and softmax in fp16 lose their features. Inputs and outputs keep their types, and so does the state of a Scan: what a
rollout adds up from step to step stays in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_HEAVY = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
# These run in the precision in which their inputs come, in fp32 where they come in both.
_ELEMENTWISE = "Add Sub Mul Div Neg Abs Relu LeakyRelu Erf Gelu Tanh Sigmoid HardSwish Min Max Clip Where Identity"
_LAYOUT = "Reshape Transpose Concat Slice Split Expand Squeeze Unsqueeze Gather Flatten Pad Tile DepthToSpace SpaceToDepth"
_FOLLOWING = frozenset([*_ELEMENTWISE.split(), *_LAYOUT.split()])
# What they say does not depend on the precision of what they look at.
_ANY = frozenset({"Shape", "Size", "Cast", "IsNaN"})
_LARGEST = float(np.finfo(np.float16).max)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its matrix products and convolutions in fp16, bodies of loops included."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    _Scope(half.graph, model).convert()
    onnx.checker.check_model(half, full_check=True)  # types are inferred strictly: no operator may be fed with two
    return half


class _Scope:
    """One graph, or the body of a loop, on its way to mixed precision."""

    def __init__(self, graph: onnx.GraphProto, model: onnx.ModelProto) -> None:
        self._graph = graph
        self._model = model
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._floats = _float_values(graph, model) | {name for name, tensor in self._constants.items() if tensor.data_type == TensorProto.FLOAT}
        self._half: set[str] = set()
        self._made: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def convert(self) -> None:
        """Rewrite the graph in place."""
        for node in self._graph.node:
            for body in _bodies(node):
                _Scope(body, self._model).convert()
            self._rewrite(node)
        outputs = [value.name for value in self._graph.output if value.name in self._half]
        for name in outputs:
            self._rename(name, f"{name}.half")
            self._nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
        del self._graph.node[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        used = set(_names_used(self._graph))
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _rewrite(self, node: onnx.NodeProto) -> None:
        if node.op_type in _ANY:
            self._nodes.append(node)
            return
        floats = [name for name in node.input if name in self._floats]
        computed = [name for name in floats if name not in self._constants]
        follows = node.op_type in _FOLLOWING and bool(computed) and all(name in self._half for name in computed)
        halved = (node.op_type in _HEAVY or follows) and all(self._fits(name) for name in floats)
        to = TensorProto.FLOAT16 if halved else TensorProto.FLOAT
        for place, name in enumerate(node.input):
            if name in self._floats:
                node.input[place] = self._as(name, to)
        self._nodes.append(node)
        if halved:
            self._half.update(name for name in node.output if name in self._floats)

    def _fits(self, name: str) -> bool:
        """Whether a constant can be said in fp16 at all; infinities, as in masks, can."""
        if name not in self._constants:
            return True
        values = numpy_helper.to_array(self._constants[name])
        finite = np.abs(values[np.isfinite(values)])
        return not finite.size or float(finite.max()) <= _LARGEST

    def _as(self, name: str, to: int) -> str:
        """The name of ``name`` in the type ``to``, made where there is none yet."""
        if (to == TensorProto.FLOAT16) == (name in self._half):
            return name
        made = f"{name}.{'half' if to == TensorProto.FLOAT16 else 'single'}"
        if (name, to) not in self._made:
            self._made[name, to] = made
            if name in self._constants:
                values = numpy_helper.to_array(self._constants[name]).astype(np.float16)
                self._graph.initializer.append(numpy_helper.from_array(values, made))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [made], to=to))
        return made

    def _rename(self, old: str, new: str) -> None:
        for node in self._nodes:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == old:
                        names[place] = new


def _float_values(graph: onnx.GraphProto, model: onnx.ModelProto) -> set[str]:
    """Names of the fp32 values that the graph takes and computes."""
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    inferred = onnx.shape_inference.infer_shapes(alone).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    return (attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH)


def _names_used(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for body in _bodies(node):
            yield from _names_used(body)
