"""A bundle's graphs as TensorRT engines, each kept only if it computes what ONNX Runtime computes on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from world_model.bundle import Manifest, read_manifest
from world_model.runtimes.device import find_device
from world_model.runtimes.engine_cache import graphs_sha256
from world_model.runtimes.graph import Graph, open_session, session_options
from world_model.runtimes.precision import FOR_THE_CPU, graph_file
from world_model.tensorrt.engine import Engine
from world_model.tensorrt.gate import LEAST_COSINE, Agreement, Arrays, agreement, probe
from world_model.tensorrt.library import build_engine, load_tensorrt
from world_model.tensorrt.operator_list import TensorRtError
from world_model.tensorrt.prepare import prepared
from world_model.tensorrt.shapes import EngineShapes, Profile, profile, trtexec

_PICTURES = 16


@dataclass(frozen=True)
class Plan:
    """One graph on its way to an engine: the file that it came from, as it goes to the parser, and its shapes."""

    graph: str
    file: Path
    precision: str
    content: bytes
    changes: tuple[str, ...]
    shapes: Profile


@dataclass(frozen=True)
class Built:
    """An engine that was kept."""

    plan: Plan
    file: Path
    agreement: Agreement


def onnx_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """All ONNX files of a bundle, whatever their precision: those that may go to TensorRT, and those that were made for the CPU alone."""
    files = [folder / name for name in sorted(read_manifest(folder).sha256) if name.endswith(".onnx")]
    left = [file for file in files if file.name.endswith(f".{FOR_THE_CPU}.onnx")]
    return [file for file in files if file not in left], left


def plans(folder: Path, precision: str, shapes: EngineShapes) -> Iterator[Plan]:
    """What each graph of a bundle is built from."""
    manifest = read_manifest(folder)
    for name in manifest.graphs:
        file, found, _ = graph_file(folder, manifest, name, precision, "tensorrt")
        rows = shapes.rows(name)
        steps = min(shapes.steps, manifest.horizon or shapes.steps)
        model, changes = prepared(onnx.load(file), rows if shapes.static else 0, steps, shapes.zones)
        yield Plan(name, file, found, model.SerializeToString(), tuple(changes), profile(model, rows))


def commands(folder: Path, out: Path, precision: str, shapes: EngineShapes, version: tuple[int, int]) -> list[str]:
    """Write the graphs as they go to the parser into ``out``, and say the ``trtexec`` command for each."""
    manifest = read_manifest(folder)
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for plan in plans(folder, precision, shapes):
        stem = _stem(manifest, plan, "DEVICE", ".".join(map(str, version)))
        (out / f"{stem}.onnx").write_bytes(plan.content)
        lines.append(trtexec(str(out / f"{stem}.onnx"), str(out / f"{stem}.engine"), str(out / "timings.cache"), plan.shapes, version))
    return lines


def build(folder: Path, out: Path, precision: str, shapes: EngineShapes, report: Callable[[str], None]) -> list[Built]:
    """Engines of all graphs in ``out``, named by bundle, device and version. The first that fails its gate ends it; those before are kept.

    Raises:
        TensorRtError: there is no TensorRT that this software knows, no device, a graph is refused, or an engine's cosine is below 0.999.
        BundleError: the bundle is damaged.
    """
    manifest = read_manifest(folder)
    trt, version = load_tensorrt()
    device, why = find_device()
    if device is None:
        raise TensorRtError(f"engines are built on the device that runs them: {why}")
    out.mkdir(parents=True, exist_ok=True)
    timings = out / f"timings-{device.label}-trt{trt.__version__}.cache"
    rng = np.random.default_rng(0)
    seen = {"frames": (_PICTURES, *manifest.frame), "joints": (_PICTURES, manifest.proprioception)}
    scenes = _reference(folder / "encoder.onnx", "encoder", probe(manifest, "encoder", seen, rng, np.empty((0, 0), np.float32)))["latents"]
    kept = []
    for plan in plans(folder, precision, shapes):
        content, measured = build_engine(trt, version, plan.content, plan.shapes, timings.read_bytes() if timings.is_file() else b"")
        _write(timings, measured)
        found = _compared(trt, content, plan, probe(manifest, plan.graph, input_shapes(plan), rng, scenes))
        if not found.met:
            raise TensorRtError(
                f"the engine of {plan.graph} in {plan.precision} is off: cosine {found.cosine:.5f} against ONNX Runtime on the CPU, least "
                f"{LEAST_COSINE}; it was not kept"
            )
        file = out / f"{_stem(manifest, plan, device.label, str(trt.__version__))}.engine"
        _write(file, content)
        kept.append(Built(plan, file, found))
        report(f"{file}: cosine {found.cosine:.6f}, largest difference {found.difference:.2g}")
    return kept


def _compared(trt: object, content: bytes, plan: Plan, inputs: Arrays) -> Agreement:
    with Engine(trt, content) as engine:
        return agreement(_reference(reference_file(plan), plan.graph, inputs), engine.run(inputs))


def reference_file(plan: Plan) -> Path:
    """What an engine is compared with: the fp32 graph, for fp16 as well, which no CPU computes in fp16.

    In int8 the graph itself: how far it is from fp32 was judged when it was written (``precision/gates.py``), more leniently than engines are.
    """
    return plan.file if plan.precision == "int8" else plan.file.with_name(f"{plan.graph}.onnx")


def _reference(file: Path, graph: str, inputs: Arrays) -> Arrays:
    session = open_session(file, session_options(1), [("CPUExecutionProvider", {})])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, Graph(session, graph).run(inputs), strict=True))


def input_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """The largest shape that the engine takes of each input."""
    inputs = onnx.load_from_string(plan.content).graph.input
    fixed = {value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim) for value in inputs}
    return fixed | {name: most for name, (_, _, most) in plan.shapes.items()}


def _stem(manifest: Manifest, plan: Plan, device: str, version: str) -> str:
    return f"{plan.graph}-{manifest.name}-{graphs_sha256(manifest)[:16]}-{device}-trt{version}-{plan.precision}"


def _write(file: Path, content: bytes) -> None:
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(content)
    partial.replace(file)
