"""Graphs run by ONNX Runtime on the CPU, one thread each: here figures count, not speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from world_model.bundle import BundleError


def opened(model: onnx.ModelProto | Path) -> Any:
    """A session of the graph.

    Raises:
        BundleError: ONNX Runtime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class for each status, without a common one
        raise BundleError(f"{model if isinstance(model, Path) else 'a graph'} cannot be run: {' '.join(str(error).split())}") from error
