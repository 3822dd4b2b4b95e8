"""Those restrictions of TensorRT's operator page that can be judged from a graph without running it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

# The input with the axes, of operators that the page wants constant axes from.
_AXES = {"CumSum": 1, "Pad": 3, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1} | {
    f"Reduce{kind}": 1 for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
}
_POOLS = ("AveragePool", "MaxPool", "LpPool")
_RESIZE_MODES = {"nearest", "linear"}
JUDGED = {*_AXES, *_POOLS, "LayerNormalization", "ScatterND", "QuantizeLinear", "DequantizeLinear"}
"""Operators of whose restrictions nothing is left to read once `broken` finds none."""


@dataclass(frozen=True)
class Constants:
    """Tensors that are known before a graph runs, by name; a body sees those around it."""

    tensors: Mapping[str, TensorProto] = field(default_factory=dict)

    def within(self, nodes: Iterable[NodeProto], initializers: Iterable[TensorProto]) -> Constants:
        """With those of a graph or body as well."""
        found = {tensor.name: tensor for tensor in initializers}
        for node in nodes:
            if node.op_type == "Constant":
                found[node.output[0]] = helper.get_node_attr_value(node, "value") if node.attribute[0].name == "value" else TensorProto()
        return Constants({**self.tensors, **found})

    def zeros(self, name: str) -> bool:
        """Whether a tensor is known to hold zeros only."""
        tensor = self.tensors.get(name)
        return tensor is not None and tensor.data_type != TensorProto.UNDEFINED and not np.any(numpy_helper.to_array(tensor))


def broken(node: NodeProto, restrictions: str, constants: Constants) -> str:
    """The restriction that ``node`` breaks, or ''."""
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    inputs = list(node.input)
    place = _AXES.get(node.op_type)
    if place is not None and "`ax" in restrictions and len(inputs) > place and inputs[place] and inputs[place] not in constants.tensors:
        return "its axes are not constant"
    if node.op_type == "LayerNormalization" and any(node.output[1:]):
        return "only its first output is supported"
    if node.op_type in _POOLS:
        if any(size != 1 for size in settings.get("dilations", [])):
            return "it is dilated"
        if node.op_type != "LpPool" and len(settings.get("kernel_shape", [0, 0])) not in (2, 3):
            return "only 2D and 3D pooling are supported"
        if node.op_type == "MaxPool" and any(node.output[1:]):
            return "its output of indices is not supported"
    if node.op_type == "ScatterND" and settings.get("reduction", b"none") != b"none":
        return "its reduction is not supported"
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(inputs) > 2 and inputs[2] and not constants.zeros(inputs[2]):
        return "its zero point is not zero: TensorRT quantises symmetrically"
    if node.op_type == "Resize":
        if settings.get("antialias", 0):
            return "antialiasing is not supported"
        if settings.get("mode", b"nearest").decode() not in _RESIZE_MODES:
            return f"its mode {settings['mode'].decode()} is not supported"
    return ""
