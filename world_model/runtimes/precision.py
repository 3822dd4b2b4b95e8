"""Which of a bundle's files a graph is read from."""

from __future__ import annotations

from pathlib import Path

from world_model.bundle import FP32, Manifest

FOR_THE_CPU = "int8_dynamic"
"""int8 with scales that each run finds for itself: what pays on a CPU, and what TensorRT does not know."""

_HALF_ON_CPU = "the CPU computes a graph in fp16 in fp32, and no faster"


def graph_file(folder: Path, manifest: Manifest, graph: str, precision: str, runtime: str) -> tuple[Path, str, str]:
    """The file of ``graph`` for ``runtime``, the precision that it is in, and why that is not the one that was asked for, or ''.

    int8 on the CPU is that with dynamic scales: with fixed ones, which are TensorRT's, it is slower than fp32 there (docs/export.md).
    """
    plain = folder / manifest.graph(graph)
    if precision == FP32:
        return plain, FP32, ""
    if precision == "fp16" and runtime == "cpu":
        return plain, FP32, _HALF_ON_CPU
    kind = FOR_THE_CPU if precision == "int8" and runtime == "cpu" else precision
    if graph in manifest.precisions.get(kind, ()):
        return folder / manifest.graph(graph, kind), kind, ""
    return plain, FP32, f"the bundle has no {graph} in {kind}"
