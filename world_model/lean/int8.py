"""Matrices in 8 bits: weights once, per column; activations as they come, per tensor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic


def saturates() -> bool:
    """Whether this processor adds two 8-bit products in 16 bits, where they may saturate: x86 without VNNI. Weights of 7 bits are safe there."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    return "avx2" in flags and "vnni" not in flags


def quantised(model: Any, reduce_range: bool | None = None, attention: bool = False, keep: tuple[str, ...] = ()) -> Any:
    """The same graph with every product of a constant matrix in 8 bits (u8 activations, s8 weights, int32 sums); with ``attention``, every product.

    ``reduce_range`` keeps weights in 7 bits; None, where this processor needs it. Matrices whose names are in ``keep`` stay as they are: the one that
    pixels go through has inputs far from zero, whose mean times the error of a weight outgrows what they say.
    """
    named = onnx.ModelProto.FromString(model.SerializeToString())
    for place, node in enumerate(named.graph.node):
        node.name = f"{node.op_type}_{place}"
    kept = [node.name for node in named.graph.node if set(node.input) & set(keep)]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(named, source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=kept,
            per_channel=True,
            reduce_range=saturates() if reduce_range is None else reduce_range,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": not attention},
        )
        return onnx.load(target)
