"""Opens a bundle's graphs, each on the best provider that can be had, and keeps the reasons."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from world_model.bundle import BundleError, Manifest
from world_model.runtimes.choice import GraphChoice, RuntimeChoice
from world_model.runtimes.config import RuntimeConfig, RuntimeRefusedError
from world_model.runtimes.device import find_device, tensorrt_version
from world_model.runtimes.engine_cache import engine_key
from world_model.runtimes.graph import Graph, open_session, session_options
from world_model.runtimes.precision import graph_file
from world_model.runtimes.providers import (
    MOST_STEPS,
    PROVIDERS,
    Machine,
    cuda_options,
    profile_options,
    rows_of,
    tensorrt_options,
)


@dataclass(frozen=True)
class _Way:
    """How a device is asked: with a CUDA graph, for which it must take every operator, and with profile shapes, for which every free input."""

    label: str
    cuda_graph: bool = False
    profile: bool = False


# Best first. Without profiles TensorRT builds an engine for the shapes that come, again for each that lies outside those before.
_WAYS = {
    "tensorrt": (_Way("CUDA graph", cuda_graph=True, profile=True), _Way("profile shapes", profile=True), _Way("shapes as they come")),
    "cuda": (_Way("CUDA graph", cuda_graph=True), _Way("launches one by one")),
}


def this_machine() -> Machine:
    """What can be had here."""
    device, why = find_device()
    return Machine(device, why, tuple(onnxruntime.get_available_providers()), tensorrt_version())


class Sessions:
    """The graphs of the bundle in ``folder``, tried on the runtimes of ``tried`` in that order.

    Raises:
        BundleError: a graph cannot be run by the CPU either.
        RuntimeRefusedError: the only runtime to try cannot be had.
    """

    def __init__(self, folder: Path, manifest: Manifest, config: RuntimeConfig, tried: tuple[str, ...], machine: Machine | None = None) -> None:
        self._folder, self._manifest, self._config, self._tried = folder, manifest, config, tried
        self._machine = machine or this_machine()
        self._choices: list[GraphChoice] = []
        self._engines: Path | None = None

    @property
    def most_steps(self) -> int:
        """Steps that a rollout may have at once, 0 for any number."""
        return MOST_STEPS if any(choice.runs_on == "tensorrt" for choice in self._choices) else 0

    def choice(self) -> RuntimeChoice:
        """What was chosen for the graphs that were opened and asked about."""
        engines = str(self._engines) if self._engines and any(choice.runs_on == "tensorrt" for choice in self._choices) else ""
        return RuntimeChoice(self._config.runtime, tuple(self._choices), self._machine.name, self._machine.software, engines)

    def open(self, name: str) -> Graph:
        """The graph ``name``, on the first runtime that takes it."""
        asked = name in self._config.graphs
        over: list[tuple[str, str]] = []
        for runtime in self._tried if asked else ("cpu",):
            why = self._machine.why_not(runtime)
            if not why:
                try:
                    graph, choice = self._open_on(runtime, name, over)
                except RuntimeError as error:
                    if runtime == "cpu":
                        raise BundleError(f"{self._folder / f'{name}.onnx'} cannot be run: {error}") from error
                    why = str(error)
                else:
                    if asked:
                        self._choices.append(choice)
                    return graph
            over.append((runtime, why))
        told = "; ".join(f"{what}: {why}" for what, why in over)
        raise RuntimeRefusedError(f"runtime '{self._config.runtime}' cannot be had for {name}: {told}; runtime 'auto' takes the best that can")

    def _open_on(self, runtime: str, name: str, over: list[tuple[str, str]]) -> tuple[Graph, GraphChoice]:
        """Raises RuntimeError: ``runtime`` does not take the graph."""
        file, precision, why = graph_file(self._folder, self._manifest, name, self._config.precision, runtime)
        notes = [*over, *([(self._config.precision, why)] if why else [])]
        options = session_options(self._config.threads)
        if runtime == "cpu":
            graph = Graph(open_session(file, options, [(PROVIDERS["cpu"], {})]), name)
            return graph, GraphChoice(name, runtime, precision, tuple(notes))
        for way in _WAYS[runtime]:
            began_s = time.perf_counter()
            try:
                session = self._on_device(runtime, file, precision, name, way)
                graph = Graph(session, name, "cuda", rows_of(name)[1] if way.profile else 0, way.cuda_graph)
                graph.try_out(began_s)
            except RuntimeError as error:
                if way is _WAYS[runtime][-1]:
                    raise
                notes.append((f"{runtime} with {way.label}", str(error)))
            else:
                return graph, GraphChoice(name, runtime, precision, tuple(notes))
        raise AssertionError("the last way returns or raises")

    def _on_device(self, runtime: str, file: Path, precision: str, name: str, way: _Way) -> object:
        options = session_options(self._config.threads)
        cuda = (PROVIDERS["cuda"], cuda_options(way.cuda_graph and runtime == "cuda"))
        if runtime == "cuda":
            return open_session(file, options, [cuda])
        device = self._machine.device
        assert device is not None  # without one nothing is tried on it
        key = engine_key(self._manifest, device, self._machine.tensorrt, onnxruntime.__version__, precision)
        self._engines = key.folder(self._config.engine_cache)
        engines = self._engines / name  # of its own: two nodes build at the same time, and nobody locks a file of timings
        try:
            engines.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RuntimeError(f"{engines} cannot be made: {error.strerror}") from error
        # A session on the CPU tells the shapes of the inputs without another library that reads ONNX.
        shapes = {value.name: tuple(value.shape) for value in open_session(file, options, [(PROVIDERS["cpu"], {})]).get_inputs()}
        profile = profile_options(shapes, *rows_of(name)) if way.profile else {}
        tensorrt = (PROVIDERS["tensorrt"], tensorrt_options(name, precision, engines, profile, way.cuda_graph))
        return open_session(file, options, [tensorrt, cuda])
