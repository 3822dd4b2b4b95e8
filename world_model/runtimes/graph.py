"""One ONNX graph that runs on one provider, through ordinary arrays on the CPU and through fixed buffers on a device."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from world_model.runtimes.device import pinned

Feed = Mapping[str, NDArray[Any]]
Shapes = tuple[tuple[int, ...], ...]
_MOST_SHAPES = 8
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def session_options(threads: int) -> Any:
    """Nobody spins: several processes share the cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


class Graph:
    """A session and the buffers that it runs in.

    ``bound`` names the memory ("cuda", "cpu") of buffers that never move, a set of them for each of the first shapes that come; empty for none.
    ``captured``: the session captures a CUDA graph for each set. Rows beyond ``most_rows`` are run in parts; 0 is any number.
    """

    def __init__(self, session: Any, name: str, bound: str = "", most_rows: int = 0, captured: bool = False) -> None:
        self.session, self.name = session, name
        self.first_run_ms: float | None = None
        self._memory, self._most_rows, self._captured = bound, most_rows, captured
        self._rowed = {value.name for value in session.get_inputs() if value.shape and not isinstance(value.shape[0], int)}
        self._outputs = [value.name for value in session.get_outputs()]
        self._buffers: dict[Shapes, _Buffers] = {}

    @property
    def shapes(self) -> dict[str, tuple[int | str | None, ...]]:
        """Of inputs and outputs by name; a free dimension is text or None."""
        return {value.name: tuple(value.shape) for value in (*self.session.get_inputs(), *self.session.get_outputs())}

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """All outputs. They are the caller's own."""
        began = time.perf_counter()
        rows = max((len(feed[name]) for name in self._rowed), default=0)
        if self._most_rows and rows > self._most_rows:
            parts = [self._run(self._part(feed, begin)) for begin in range(0, rows, self._most_rows)]
            found = [np.concatenate(values) for values in zip(*parts, strict=True)]
        else:
            found = self._run(feed)
        if self.first_run_ms is None:
            self.first_run_ms = (time.perf_counter() - began) * 1e3
        return found

    def try_out(self, began_s: float) -> None:
        """Run once on zeros, one row and one step: what fails only when it runs fails here.

        The first run counts from ``began_s``, of ``perf_counter``, on.

        Raises:
            RuntimeError: it fails, in one line.
        """
        feed = {
            value.name: np.zeros([size if isinstance(size, int) else 1 for size in value.shape], _TYPES[value.type])
            for value in self.session.get_inputs()
        }
        try:
            self.run(feed)
        except Exception as error:  # ONNX Runtime has a class for each status, without a common one
            raise RuntimeError(f"its first run fails: {' '.join(str(error).split())}") from error
        self.first_run_ms = (time.perf_counter() - began_s) * 1e3

    def _part(self, feed: Feed, begin: int) -> Feed:
        return {name: value[begin : begin + self._most_rows] if name in self._rowed else value for name, value in feed.items()}

    def _run(self, feed: Feed) -> list[NDArray[Any]]:
        if not self._memory:
            return list(self.session.run(None, feed))
        shapes = tuple(value.shape for value in feed.values())
        buffers = self._buffers.get(shapes)
        if buffers is None:
            if len(self._buffers) >= _MOST_SHAPES:
                return list(self.session.run(None, feed, self._options(-1)))
            # Tells the shapes of the outputs, and grows every arena before a graph is captured.
            first = self.session.run(None, feed, self._options(-1))
            buffers = _Buffers(self.session, feed, first, self._memory, self._options(len(self._buffers) + 1))
            self._buffers[shapes] = buffers
        return buffers.run(feed)

    def _options(self, captured_as: int) -> Any:
        """Run options: with CUDA graphs the number of the one to capture or to replay, -1 for none."""
        if not self._captured:
            return None
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(captured_as))
        return options


class _Buffers:
    """Inputs and outputs of one shape at addresses that stay."""

    def __init__(self, session: Any, feed: Feed, outputs: Sequence[NDArray[Any]], memory: str, options: Any) -> None:
        self._session, self._options = session, options
        self._binding = session.io_binding()
        self._staging = {name: pinned(value.shape, value.dtype) if memory == "cuda" else np.empty_like(value) for name, value in feed.items()}
        self._inputs: dict[str, Any] = {}
        self._outputs: list[Any] = []
        for name, value in feed.items():
            self._inputs[name] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype.type, memory, 0)
            self._binding.bind_ortvalue_input(name, self._inputs[name])
        for about, value in zip(session.get_outputs(), outputs, strict=True):
            self._outputs.append(onnxruntime.OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype.type, memory, 0))
            self._binding.bind_ortvalue_output(about.name, self._outputs[-1])

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        for name, value in feed.items():
            np.copyto(self._staging[name], value)
            self._inputs[name].update_inplace(self._staging[name])
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding, self._options)
        self._binding.synchronize_outputs()
        return [np.array(value.numpy()) for value in self._outputs]


def open_session(file: Path, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
    """A session on ``providers``, best first; what none of them can run is left to the CPU.

    Raises:
        RuntimeError: ONNX Runtime cannot make one, or made one without the first of them, in one line.
    """
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime has a class for each status, without a common one
        raise RuntimeError(" ".join(str(error).split())) from error
    if providers[0][0] not in session.get_providers():
        raise RuntimeError(f"ONNX Runtime made a session without {providers[0][0]}")
    return session
