"""What an ONNX graph must multiply and add at least, counted from the shapes of its matrix products and convolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

Shape = tuple[int, ...]

_PRODUCTS = {"MatMul", "MatMulInteger", "QLinearMatMul", "Gemm"}
_CONVOLUTIONS = {"Conv", "ConvInteger", "QLinearConv"}
# Where the arguments of a quantised operator stand: data, weights.
_QUANTISED = {"QLinearMatMul": (0, 3), "QLinearConv": (0, 3)}
# Operators that compute much and whose shapes are not read here; a graph that has one cannot be counted.
_UNKNOWN = {"Attention", "MultiHeadAttention", "Einsum", "LSTM", "GRU", "RNN", "ConvTranspose", "Loop", "DeformConv"}


class FlopError(ValueError):
    """A graph that cannot be counted, with the reason in one line."""


@dataclass(frozen=True)
class Flops:
    """Floating point operations, a multiplication and an addition being two, ``by_operator``."""

    by_operator: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_operator.values())


def count_file(file: Path, sizes: Mapping[str, int]) -> Flops:
    """The operations of one run of the graph in ``file``; ``sizes`` are those of its free dimensions, such as ``{"N": 64, "H": 8}``. Needs onnx.

    Raises:
        FlopError: a free dimension has no size, or a shape cannot be found.
    """
    return _counted_file(Path(file), tuple(sorted(sizes.items())))


@cache
def _counted_file(file: Path, sizes: tuple[tuple[str, int], ...]) -> Flops:
    import onnx  # training and this count alone need it

    try:
        return count(onnx.load(str(file)), dict(sizes))
    except FlopError as error:
        raise FlopError(f"{file}: {error}") from error


def count(model: Any, sizes: Mapping[str, int]) -> Flops:
    """As ``count_file``, of an ``onnx.ModelProto``."""
    shapes: dict[str, Shape] = {}
    known = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in known:
            shapes[value.name] = tuple(_size(dim, sizes, value.name) for dim in value.type.tensor_type.shape.dim)
    return Flops(dict(_graph(model.graph, shapes, {}, model)))


def _size(dim: Any, sizes: Mapping[str, int], name: str) -> int:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    if dim.dim_param not in sizes:
        raise FlopError(f"input '{name}' has the free dimension '{dim.dim_param}', which was given no size")
    return sizes[dim.dim_param]


def _graph(graph: Any, inputs: Mapping[str, Shape], outer: Mapping[str, Any], model: Any) -> Counter[str]:
    """Operations of ``graph`` with ``inputs`` of these shapes; ``outer`` are tensors and shapes of the graphs around it, by name."""
    scope = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
    inferred = _inferred(graph, inputs, scope, model)
    found = Counter[str]()

    def shape(name: str) -> Shape:
        if name not in inferred:
            raise FlopError(f"the shape of '{name}' cannot be found")
        return inferred[name]

    for node in graph.node:
        if node.op_type in _UNKNOWN:
            raise FlopError(f"operator {node.op_type} is not counted")
        data, weights = _QUANTISED.get(node.op_type, (0, 1))
        if node.op_type in _PRODUCTS:
            left = shape(node.input[data])
            inner = left[-1]
            if node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute):
                inner = left[0]
            found[node.op_type] += 2 * prod(shape(node.output[0])) * inner
        elif node.op_type in _CONVOLUTIONS:
            # (out channels, in channels / groups, kernel...): each output number is a sum over the last ones.
            found[node.op_type] += 2 * prod(shape(node.output[0])) * prod(shape(node.input[weights])[1:])
        elif node.op_type == "Scan":
            found += _scan(node, shape, {**scope, **inferred}, model)
        elif node.op_type == "If":
            branches: list[Counter[str]] = [
                _graph(a.g, {}, {**scope, **inferred}, model) for a in node.attribute if a.name in ("then_branch", "else_branch")
            ]
            found += sorted(branches, key=Counter.total)[-1]
    return found


def _scan(node: Any, shape: Any, scope: Mapping[str, Any], model: Any) -> Counter[str]:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    body, scanned = attributes["body"].g, attributes["num_scan_inputs"].i
    states = len(node.input) - scanned
    axes = list(attributes["scan_input_axes"].ints) if "scan_input_axes" in attributes else [0] * scanned
    inputs: dict[str, Shape] = {}
    trips = 0
    for place, (value, name) in enumerate(zip(body.input, node.input, strict=True)):
        whole = shape(name)
        if place >= states:
            axis = axes[place - states]
            trips = whole[axis]
            whole = tuple(size for at, size in enumerate(whole) if at != axis % len(whole))
        inputs[value.name] = whole
    return Counter({name: trips * number for name, number in _graph(body, inputs, scope, model).items()})


def _inferred(graph: Any, inputs: Mapping[str, Shape], scope: Mapping[str, Any], model: Any) -> dict[str, Shape]:
    """Shapes by name, as onnx infers them once every input's is known."""
    import onnx

    fixed = onnx.GraphProto()
    fixed.CopyFrom(graph)
    # What the exporter wrote about shapes has free dimensions in it; all of it is inferred anew.
    del fixed.value_info[:]
    for value in fixed.output:
        value.type.tensor_type.ClearField("shape")
    own = {tensor.name for tensor in fixed.initializer}
    for value in fixed.input:
        if value.name in inputs:
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, inputs[value.name]))
    made = own | {value.name for value in fixed.input} | {name for node in fixed.node for name in node.output}
    for name in sorted({name for node in fixed.node for name in node.input if name and name not in made}):
        borrowed = scope.get(name)
        if isinstance(borrowed, tuple):
            fixed.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, borrowed))
        elif borrowed is not None:
            fixed.initializer.append(borrowed)
    whole = onnx.helper.make_model(fixed, opset_imports=model.opset_import, ir_version=model.ir_version, functions=list(model.functions))
    try:
        whole = onnx.shape_inference.infer_shapes(whole, data_prop=True, strict_mode=False)
    except onnx.shape_inference.InferenceError as error:
        raise FlopError(f"shapes cannot be inferred: {' '.join(str(error).split())}") from error
    shapes = {tensor.name: tuple(tensor.dims) for tensor in whole.graph.initializer}
    for value in (*whole.graph.input, *whole.graph.value_info, *whole.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(int(dim.dim_value) for dim in dims)
    return shapes
