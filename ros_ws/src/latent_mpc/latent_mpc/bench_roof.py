"""What one core of this machine can do at best: products of matrices in fp32 and int8, and copies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latent_mpc.bench_timing import Stage, Times

_MATRIX = 1024
_COPY_BYTES = 64 * 2**20
FP32, INT8, COPY = "roof: fp32 matrix product", "roof: int8 matrix product", "roof: memory copy"


def roof_stages(rng: np.random.Generator) -> list[Stage]:
    """Square products of 1024 in fp32 (numpy's BLAS) and, where onnx is installed to write the graph, u8 x s8 (ONNX Runtime); a copy of 64 MiB."""
    matrices = rng.standard_normal((2, _MATRIX, _MATRIX)).astype(np.float32)
    out = np.empty((_MATRIX, _MATRIX), np.float32)
    source, sink = np.ones(_COPY_BYTES, np.uint8), np.empty(_COPY_BYTES, np.uint8)
    stages = [
        Stage(FP32, lambda: np.matmul(matrices[0], matrices[1], out=out)),
        Stage(COPY, lambda: np.copyto(sink, source)),
    ]
    graph = _int8_product(rng)
    if graph is not None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        feed = {"a": rng.integers(0, 256, (_MATRIX, _MATRIX), dtype=np.uint8)}
        stages.append(Stage(INT8, lambda: session.run(None, feed)))
    return stages


def machine(times: Mapping[str, Times]) -> dict[str, Any]:
    """The roof that was measured, of one core, by its processor time; ``roof_gops_int8`` is None where it could not be measured."""
    flop = 2.0 * _MATRIX**3
    return {
        "roof_gflops_fp32": flop / times[FP32].cpu_s / 1e9,
        "roof_gops_int8": flop / times[INT8].cpu_s / 1e9 if INT8 in times else None,
        "memcpy_gbps": 2 * _COPY_BYTES / times[COPY].cpu_s / 1e9,
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def _processor() -> str:
    """What the machine calls its processor."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _int8_product(rng: np.random.Generator) -> bytes | None:
    """Activations u8 by constant weights s8, which the runtime may arrange as it likes beforehand."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    shape = [_MATRIX, _MATRIX]
    a, c = (helper.make_tensor_value_info(name, kind, shape) for name, kind in (("a", TensorProto.UINT8), ("c", TensorProto.INT32)))
    b = numpy_helper.from_array(rng.integers(-127, 128, shape, dtype=np.int8), "b")
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["c"])], "int8", [a], [c], [b])
    whole: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    return whole
