"""int8 in two forms: QDQ, which says its scales in the graph and is calibrated on recorded inputs, and MatMulInteger, scaled anew in every run.

QDQ is what TensorRT takes (explicit quantisation: symmetric, weights per channel, activations per tensor); on CPUs without VNNI dynamic scales are
often faster and always closer (docs/export.md). Only matrix products and convolutions are quantised; what lies between stays in fp32.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from world_model.precision.running import opened

Feed = Mapping[str, NDArray[Any]]

JUDGE = "judge."
_QUANTISED = ["MatMul", "Conv"]


def to_int8(model: onnx.ModelProto, feeds: Sequence[Feed]) -> onnx.ModelProto:
    """The graph with QDQ around its products and convolutions, its ranges those of ``feeds``; the body of a Scan is calibrated on its own steps."""
    return _everywhere(model, feeds, _static)


def to_int8_dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with integer products whose scales each run finds for itself. Convolutions stay in fp32: ONNX Runtime has none for int8 x int8."""
    return _everywhere(model, (), lambda part, feeds: _dynamic(part))


def _everywhere(model: onnx.ModelProto, feeds: Sequence[Feed], convert: Any) -> onnx.ModelProto:
    scan = next((node for node in model.graph.node if node.op_type == "Scan"), None)
    if scan is None:
        return _opset_kept(convert(_with_products(model), feeds), model)
    body = next(attribute for attribute in scan.attribute if attribute.name == "body")
    alone = helper.make_model(body.g, opset_imports=model.opset_import, ir_version=model.ir_version)
    steps = list(_steps(scan, alone, [{**feed, **_before(model, scan, feed)} for feed in feeds]))
    converted = _opset_kept(convert(_with_products(alone), steps), model)
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    place = next(node for node in whole.graph.node if node.op_type == "Scan")
    next(attribute for attribute in place.attribute if attribute.name == "body").g.CopyFrom(converted.graph)
    del whole.opset_import[:]
    whole.opset_import.extend(converted.opset_import)
    onnx.checker.check_model(whole)
    return whole


def _static(model: onnx.ModelProto, feeds: Sequence[Feed]) -> onnx.ModelProto:
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            str(target),
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_QUANTISED,
            nodes_to_exclude=_excluded(model),
            # What a product is fed with is rounded, not what comes out of it: normalisations and sums are in fp32 anyway.
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": _QUANTISED},
        )
        return onnx.load(str(target))


def _dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model, str(target), per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"], nodes_to_exclude=_excluded(model)
        )
        return onnx.load(str(target))


def _excluded(model: onnx.ModelProto) -> list[str]:
    """Names of the products of critic and actor in a graph that holds them beside the rollout: they are small, and what they say decides."""
    return [node.name for node in model.graph.node if any(name.startswith(JUDGE) for name in node.input)]


class _Reader(CalibrationDataReader):
    """Feeds one after another, as the calibrator asks for them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next one; None after the last."""
        return next(self._feeds, None)


def _steps(scan: onnx.NodeProto, body: onnx.ModelProto, feeds: Sequence[Feed]) -> Iterator[Feed]:
    """What the body of ``scan`` is fed in every step of every one of ``feeds``, which name what goes into it."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in scan.attribute}
    scanned = attributes["num_scan_inputs"]
    states = len(scan.input) - scanned
    axes = attributes.get("scan_input_axes", [0] * scanned)
    names = [value.name for value in body.graph.input]
    session = opened(body)
    for feed in feeds:
        values = [feed[name] for name in scan.input]
        carried, sequences = values[:states], values[states:]
        for step in range(sequences[0].shape[axes[0]]):
            here = [np.ascontiguousarray(sequence.take(step, axis)) for sequence, axis in zip(sequences, axes, strict=True)]
            now = dict(zip(names, [*carried, *here], strict=True))
            yield now
            carried = session.run(None, now)[:states]


def _before(model: onnx.ModelProto, scan: onnx.NodeProto, feed: Feed) -> Feed:
    """What goes into ``scan`` of ``model`` without being an input of the graph itself: worked out before its first step."""
    known = {value.name for value in model.graph.input}
    names = [name for name in scan.input if name not in known]
    if not names:
        return {}
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.output[:]
    part.graph.node.extend(node for node in model.graph.node if node.op_type != "Scan")
    part.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    wanted = {name for node in part.graph.node for name in node.input}
    inputs = [value for value in model.graph.input if value.name in wanted]
    del part.graph.input[:]
    part.graph.input.extend(inputs)
    return dict(zip(names, opened(part).run(names, {value.name: feed[value.name] for value in inputs}), strict=True))


def _with_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gemm as MatMul and Add: then no bias needs int32, which TensorRT does not take, and ONNX Runtime has an integer kernel for the rest."""
    split = onnx.ModelProto()
    split.CopyFrom(model)
    graph = split.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = settings.get("alpha", 1.0) == settings.get("beta", 1.0) == 1.0 and not settings.get("transA", 0)
        if node.op_type != "Gemm" or not plain or node.input[1] not in constants:
            nodes.append(node)
            continue
        weight = node.input[1]
        if settings.get("transB", 0):
            turned = f"{weight}.turned"
            if turned not in constants:
                constants[turned] = numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(constants[weight]).T), turned)
                graph.initializer.append(constants[turned])
            weight = turned
        (out,) = node.output
        biased = len(node.input) > 2
        product = f"{out}.product" if biased else out
        nodes.append(helper.make_node("MatMul", [node.input[0], weight], [product], name=product))
        if biased:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [out], name=out))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for number, node in enumerate(graph.node):
        node.name = node.name or f"node_{number}"
    return split


def _opset_kept(converted: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the quantiser's notes and unused domains."""
    used = {node.domain for node in converted.graph.node}
    imports = [entry for entry in converted.opset_import if entry.domain in used or not entry.domain]
    del converted.opset_import[:]
    converted.opset_import.extend(imports)
    converted.ir_version = model.ir_version
    del converted.graph.value_info[:]
    return converted


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to preprocess, which has been done, and its progress on stdout."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
