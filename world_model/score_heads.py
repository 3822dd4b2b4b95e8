"""Learned guardrails inside ``score.onnx``: its margin becomes the least of tool path's and heads', its inputs and outputs stay what they are.

As in the planner's search (``planner_node.objective``): a head judges every imagined scene; who begins where it forbids may leave, but not go deeper.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper, version_converter

from world_model.bundle import Manifest
from world_model.heads.card import GRAPH, HeadError
from world_model.heads.onnx_head import OnnxHead
from world_model.protocol import F32

_BARE = "bare."


def open_heads(folders: Sequence[Path], manifest: Manifest) -> tuple[OnnxHead, ...]:
    """The guardrail heads in ``folders``, for a bundle with this ``manifest``.

    Raises:
        HeadError: a head is damaged, was fitted on another model, or is no calibrated guardrail.
    """
    heads = tuple(OnnxHead(folder, manifest) for folder in folders)
    for head in heads:
        if head.card.kind != "guardrail" or head.card.threshold is None:
            raise HeadError(f"{head.folder} is a {head.card.kind} head: score.onnx takes calibrated guardrails only, which have margins")
    return heads


def described(heads: Sequence[OnnxHead]) -> list[dict[str, Any]]:
    """What is baked in, for the manifest."""
    return [{"name": head.name, "threshold": head.card.threshold, "unit": head.unit, "graph_sha256": head.card.graph_sha256} for head in heads]


def least_margin(margin: F32, now: F32, imagined: F32, heads: Sequence[OnnxHead]) -> NDArray[np.float32]:
    """The least ``(N,)`` of ``margin (N,)`` and the heads' margins on ``imagined (N, H, D)`` from ``now (1, D)``: what the graph is gated against."""
    count, horizon, dim = imagined.shape
    least = [margin]
    for head in heads:
        every = head.margins(np.ascontiguousarray(imagined.reshape(-1, dim))).reshape(count, horizon)
        least.append(every.min(1) - np.minimum(head.margins(np.ascontiguousarray(now))[0], np.float32(0)))
    found: NDArray[np.float32] = np.min(least, axis=0)
    return np.where(np.isnan(found), -np.inf, found).astype(np.float32)


def with_heads(score: onnx.ModelProto, heads: Sequence[OnnxHead]) -> onnx.ModelProto:
    """A score graph, free or of fixed shape, whose ``margin (N,)`` is the least of its own and the heads'; the graph itself without heads.

    Heads stay in fp32 whatever the precision of the rest: they are small, and what they say decides.
    """
    if not heads:
        return score
    whole = onnx.ModelProto()
    whole.CopyFrom(score)
    graph = whole.graph
    _set_aside(graph, ("cost", "margin"))
    constants = _Constants(graph)
    node = helper.make_node
    history, dim = (entry.dim_value for entry in _dims(graph.input, "latents")[1:])
    nodes = [
        node("Gather", ["latents", constants("last", np.int64(history - 1))], ["heads.now"], axis=1),
        node("Reshape", ["imagined", constants("rows", [-1, dim])], ["heads.every"]),
        node("Concat", ["heads.now", "heads.every"], ["heads.rows"], axis=0),
    ]
    shape = _dims(graph.output, "imagined")[:2]
    if all(entry.HasField("dim_value") for entry in shape):
        back = constants("back", [entry.dim_value for entry in shape])
    else:
        back = "heads.back"
        nodes.append(node("Shape", ["imagined"], [back], start=0, end=2))
    for number, head in enumerate(heads):
        nodes += _judged(graph, head, f"head{number}.", back, constants, whole.opset_import)
    least = [f"{_BARE}margin", *(f"head{number}.least" for number in range(len(heads)))]
    # What is not a number was not judged: infeasible by any measure, as the rest of the graph has it.
    nodes += [
        node("Sum", [f"head{number}.unknown" for number in range(len(heads))], ["heads.unknown"]),
        node("Greater", ["heads.unknown", constants("half", np.float32(0.5))], ["heads.broken"]),
        node("Min", least, ["heads.least"]),
        node("Where", ["heads.broken", constants("infinite", np.float32(np.inf)), f"{_BARE}cost"], ["cost"]),
        node("Where", ["heads.broken", constants("never", np.float32(-np.inf)), "heads.least"], ["margin"]),
    ]
    graph.node.extend(nodes)
    onnx.checker.check_model(whole)
    return whole


def _judged(graph: onnx.GraphProto, head: OnnxHead, prefix: str, back: str, constants: _Constants, opsets: Any) -> list[onnx.NodeProto]:
    """One head on all rows, added to ``graph``; its smallest margin ``(N,)`` is ``<prefix>least``, how often it was no number ``<prefix>unknown``."""
    version = next(entry.version for entry in opsets if not entry.domain)
    model = onnx.load(head.folder / GRAPH)
    if next(entry.version for entry in model.opset_import if not entry.domain) != version:
        model = version_converter.convert_version(model, version)
    inside = compose.add_prefix(model, prefix, rename_inputs=True, rename_outputs=True).graph
    for entry in inside.node:
        entry.input[:] = ["heads.rows" if name == f"{prefix}latents" else name for name in entry.input]
    graph.initializer.extend(inside.initializer)
    zero, one, end = constants("zero", [0]), constants("one", [1]), constants("end", [np.iinfo(np.int64).max])
    node = helper.make_node
    return [
        *inside.node,
        node("Gather", [inside.output[0].name, constants("column", np.int64(0))], [f"{prefix}column"], axis=1),
        node("Sub", [f"{prefix}column", constants(f"{prefix}threshold", np.float32(head.card.threshold))], [f"{prefix}margins"]),
        node("Slice", [f"{prefix}margins", zero, one, zero], [f"{prefix}now"]),
        node("Min", [f"{prefix}now", constants("nothing", np.float32(0))], [f"{prefix}forgiven"]),
        node("Slice", [f"{prefix}margins", one, end, zero], [f"{prefix}flat"]),
        node("Reshape", [f"{prefix}flat", back], [f"{prefix}ahead"]),
        node("Sub", [f"{prefix}ahead", f"{prefix}forgiven"], [f"{prefix}judged"]),
        node("IsNaN", [f"{prefix}judged"], [f"{prefix}nan"]),
        node("Cast", [f"{prefix}nan"], [f"{prefix}counted"], to=TensorProto.FLOAT),
        node("ReduceMax", [f"{prefix}counted", one], [f"{prefix}unknown"], keepdims=0),
        node("ReduceMin", [f"{prefix}judged", one], [f"{prefix}least"], keepdims=0),
    ]


class _Constants:
    """Constants of ``graph``, each added where it is first asked for."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._known: set[str] = set()

    def __call__(self, name: str, value: Any) -> str:
        full = f"heads.constant.{name}"
        if full not in self._known:
            self._known.add(full)
            array = np.array(value, dtype=np.int64) if isinstance(value, list) else np.asarray(value)
            self._graph.initializer.append(numpy_helper.from_array(array, full))
        return full


def _set_aside(graph: onnx.GraphProto, names: tuple[str, ...]) -> None:
    """What the graph called ``names`` is called ``bare.<name>`` from now on; its outputs keep their names."""
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [f"{_BARE}{name}" if name in names else name for name in values]


def _dims(values: Any, name: str) -> Any:
    return next(value for value in values if value.name == name).type.tensor_type.shape.dim
