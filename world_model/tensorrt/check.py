"""Whether TensorRT's ONNX parser takes a graph, judged from its operator list alone: no TensorRT and no GPU are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from world_model.tensorrt.operator_list import OperatorList
from world_model.tensorrt.restrictions import JUDGED, Constants, broken

_TYPES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.DOUBLE: "DOUBLE",
    TensorProto.INT64: "INT64",
    TensorProto.INT32: "INT32",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
    TensorProto.FLOAT8E4M3FN: "FP8",
    TensorProto.INT4: "INT4",
}
_BY_OUTPUT = {"Constant", "ConstantOfShape", "Cast"}
_BRANCHING = {"If", "Loop", "Scan"}
_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Row:
    """An operator of a graph: ``path`` such as Scan/Gemm for one in a body, how often, in which types, and ``refused`` why, empty where it is taken.

    ``note``: what the page restricts and nothing here can judge.
    """

    graph: str
    path: str
    count: int
    types: str
    refused: str
    note: str


def check_graph(name: str, model: ModelProto, known: OperatorList) -> list[Row]:
    """Every operator of ``model``, those in the bodies of Scan, Loop, If and of local functions as well."""
    rows: Counter[tuple[str, str, str, str]] = Counter()
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    least, most = known.opsets
    if not least <= opset <= most:
        rows[("(opset)", "", f"opset {opset} lies outside {least} to {most}", "")] += 1
    inferred = onnx.shape_inference.infer_shapes(model)
    types = _types(inferred.graph)
    functions = {(function.domain, function.name): function for function in model.functions}

    def visit(nodes: Iterator[NodeProto], path: str, types: dict[str, int], constants: Constants) -> None:
        for node in nodes:
            here = path + node.op_type
            function = functions.get((node.domain, node.op_type))
            if function is not None:
                visit(iter(function.node), f"{here}/", {}, constants.within(function.node, ()))
                continue
            found = _types_of(node, types)
            rows[(here, found, _refused(node, found, constants, known), _note(node, known))] += 1
            for attribute in node.attribute:
                bodies = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
                for body in bodies:
                    visit(iter(body.node), f"{here}/", {**types, **_types(body)}, constants.within(body.node, body.initializer))

    visit(iter(inferred.graph.node), "", types, Constants().within(inferred.graph.node, inferred.graph.initializer))
    free = _free_scan(inferred.graph)
    if free:
        rows[("Scan", "", "", f"its length '{free}' is free: fix it with `tensorrt build --shapes N,H`")] += 1
    return [Row(name, path, count, found, refused, note) for (path, found, refused, note), count in sorted(rows.items())]


def _refused(node: NodeProto, types: str, constants: Constants, known: OperatorList) -> str:
    if node.domain not in _DOMAINS:
        return f"domain '{node.domain}' is no ONNX operator: it would need a plugin"
    operator = known.operators.get(node.op_type)
    if operator is None:
        return "not in the list"
    if not operator.supported:
        return "not supported"
    strangers = [kind for kind in types.split(", ") if kind and operator.types and kind not in operator.types]
    if strangers and node.op_type not in _BRANCHING:
        if strangers == ["DOUBLE"]:
            return "DOUBLE would be computed as FP32"
        return f"takes {', '.join(operator.types)}, not {', '.join(strangers)}"
    return broken(node, operator.restrictions, constants)


def _note(node: NodeProto, known: OperatorList) -> str:
    operator = known.operators.get(node.op_type)
    return operator.restrictions if operator is not None and node.domain in _DOMAINS and node.op_type not in JUDGED else ""


def _types_of(node: NodeProto, types: dict[str, int]) -> str:
    """The type of the data that a node works on: of its first input, for Where of the second, for those that make tensors of the output."""
    names = list(node.output[:1]) if node.op_type in _BY_OUTPUT else list(node.input[1:2] if node.op_type == "Where" else node.input[:1])
    if node.op_type == "Cast":
        names += list(node.input[:1])
    kinds = (types.get(name, TensorProto.UNDEFINED) for name in names if name)
    return ", ".join(dict.fromkeys(_TYPES.get(kind, TensorProto.DataType.Name(kind)) for kind in kinds if kind != TensorProto.UNDEFINED))


def _types(graph: GraphProto) -> dict[str, int]:
    values = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return values | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _free_scan(graph: GraphProto) -> str:
    """The name of the free dimension that a Scan goes along, or ''."""
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim] for value in (*graph.value_info, *graph.input)
    }
    for node in graph.node:
        if node.op_type == "Scan":
            about = {attribute.name: attribute for attribute in node.attribute}
            count = about["num_scan_inputs"].i
            axes = list(about["scan_input_axes"].ints) if "scan_input_axes" in about else [0] * count
            for name, axis in zip(node.input[len(node.input) - count :], axes, strict=True):
                shape = shapes.get(name, [])
                if axis < len(shape) and isinstance(shape[axis], str):
                    return str(shape[axis])
    return ""
