"""The least time that a bundle's graphs can take on a Jetson, by arithmetic alone: ``python benchmarks/jetson_bounds.py [BUNDLE ...]``.

Multiplications and additions of every Gemm, MatMul and Conv at N candidates over H steps, divided by the dense fp16 peaks that docs/jetson.md names;
and how many operators there are, since each is a kernel launch unless it is fused. Nothing of this was measured on a Jetson.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from latent_mpc.markdown_table import markdown_table
from onnx import AttributeProto, GraphProto, NodeProto

_CANDIDATES, _STEPS = 300, 5
_TFLOPS = {"Orin Nano Super": 17.0, "AGX Orin": 42.5, "Thor": 259.0}
_SIZES = {"N": _CANDIDATES, "H": _STEPS}

Shapes = dict[str, list[int]]


def shapes_of(graph: GraphProto, rows: int) -> Shapes:
    """Shapes by name, with N and H put in; as many rows as perception or the planner has."""
    sizes = {**_SIZES, "N": rows}
    values = (*graph.value_info, *graph.input, *graph.output)
    known = {value.name: [sizes.get(d.dim_param, 1) if d.dim_param else d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}
    return known | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def work(node: NodeProto, shapes: Shapes) -> float:
    """FLOP of one run of ``node``; elementwise work is left out."""
    if node.op_type not in ("Gemm", "MatMul", "Conv"):
        return 0.0
    out, weight = shapes[node.output[0]], shapes[node.input[1]]
    if node.op_type == "Conv":
        return 2.0 * float(np.prod(out)) * float(np.prod(weight[1:]))
    turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 2.0 * float(np.prod(out)) * (weight[-1] if turned else weight[-2])


def visit(graph: GraphProto, outer: Shapes, rows: int, times: int = 1) -> Iterator[tuple[NodeProto, float, int]]:
    """Every node, its work and how often it runs, bodies included."""
    shapes = {**outer, **shapes_of(graph, rows)}
    for node in graph.node:
        bodies = [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]
        for body in bodies:
            yield from visit(body, shapes, rows, times * _STEPS)
        if not bodies:
            yield node, work(node, shapes), times


def main() -> None:
    """Print a row for each graph."""
    rows = []
    for folder in map(Path, sys.argv[1:] or ["models/reach", "models/push", "models/push-vit"]):
        for name, count in (("encoder", 1), ("rollout", _CANDIDATES), ("heads", _CANDIDATES), ("actor", _CANDIDATES)):
            model = onnx.shape_inference.infer_shapes(onnx.load(folder / f"{name}.onnx"))
            found = list(visit(model.graph, {}, count))
            flop = sum(each * times for _, each, times in found)
            launches = sum(times for _, _, times in found)
            bounds = [f"{flop / (peak * 1e12) * 1e6:.2f}" for peak in _TFLOPS.values()]
            rows.append([folder.name, f"{name}, N = {count}", f"{flop / 1e9:.4f}", str(launches), *bounds])
    print(markdown_table(("bundle", "graph", "GFLOP", "operators run", *(f"{name}, us" for name in _TFLOPS)), rows))


if __name__ == "__main__":
    main()
