"""Which of a bundle's files a graph is read from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from world_model.bundle import Manifest

PLAIN = "fp32"
FOR_THE_CPU = "int8_dynamic"
"""int8 with scales that each run finds for itself: what pays on a CPU, and what TensorRT does not know."""

_HALF_ON_CPU = "the CPU computes fp16 many times slower than fp32"
_KINDS_ON_CPU = {"int8": (FOR_THE_CPU, "int8")}


def graph_file(folder: Path, manifest: Manifest, graph: str, precision: str, runtime: str) -> tuple[Path, str, str]:
    """The file of ``graph`` for ``runtime``, the precision that it is in, and why that is not the one that was asked for, or ''.

    int8 on the CPU is taken with dynamic scales where the bundle has it so, else with fixed ones.
    """
    plain = folder / f"{graph}.onnx"
    if precision == PLAIN:
        return plain, PLAIN, ""
    if precision == "fp16" and runtime == "cpu":
        return plain, PLAIN, _HALF_ON_CPU
    held: dict[str, Any] = getattr(manifest, "precisions", {})
    for kind in _KINDS_ON_CPU.get(precision, (precision,)) if runtime == "cpu" else (precision,):
        file = folder / f"{graph}.{kind}.onnx"
        if graph in held.get(kind, ()) and file.name in manifest.sha256:
            return file, kind, ""
    return plain, PLAIN, f"the bundle has no {graph} in {precision}"
