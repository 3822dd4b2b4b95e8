"""ONNX Runtime's execution providers: which of them can be had here, why not the others, and with which options each is opened.

Options: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html and CUDA-ExecutionProvider.html, ONNX Runtime 1.23.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnxruntime

from world_model.runtimes.config import RuntimeConfig
from world_model.runtimes.device import Device

ORDER = ("tensorrt", "cuda", "cpu")
PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
_ROWS = {"encoder": (1, 16), "witness": (1, 16)}
_USUAL_ROWS, _MOST_ROWS = 128, 4096
MOST_STEPS, USUAL_STEPS = 64, 10
_LIBRARIES = {"tensorrt": "libonnxruntime_providers_tensorrt.so", "cuda": "libonnxruntime_providers_cuda.so"}
_SHARED = "libonnxruntime_providers_shared.so"

Options = dict[str, str]


@dataclass(frozen=True)
class Machine:
    """What decides which providers can be had: the ``device`` or why there is none, and what this build of ONNX Runtime was made with."""

    device: Device | None
    no_device: str
    available: tuple[str, ...]
    tensorrt: str = ""

    def why_not(self, runtime: str) -> str:
        """Why ``runtime`` cannot be had, or '' where nothing is known against it: opening a session is what decides."""
        if runtime == "cpu":
            return ""
        if PROVIDERS[runtime] not in self.available:
            return f"ONNX Runtime {onnxruntime.__version__} was built without {PROVIDERS[runtime]}"
        reasons = ([self.no_device] if self.device is None else []) + [text for text in (_missing_library(runtime),) if text]
        return "; ".join(reasons)

    @property
    def name(self) -> str:
        """The device in a few words."""
        return "the CPU" if self.device is None else f"{self.device.name} (sm {self.device.capability}, driver for CUDA {self.device.driver})"

    @property
    def software(self) -> str:
        """What runs the graphs, with versions."""
        return f"ONNX Runtime {onnxruntime.__version__}" + (f", TensorRT {self.tensorrt}" if self.tensorrt else "")


def order(config: RuntimeConfig) -> tuple[str, ...]:
    """What is tried for a graph, best first."""
    return ORDER if config.runtime == "auto" else (config.runtime,)


def tensorrt_options(graph: str, precision: str, engines: Path, profile: Options, cuda_graph: bool) -> Options:
    """Options of the TensorRT provider. Precision comes from the graph's own types; the flags only permit what is in it."""
    return {
        "device_id": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_engine_cache_prefix": graph,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(engines),
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_int8_enable": "1" if precision == "int8" else "0",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_cuda_graph_enable": "1" if cuda_graph else "0",
        **profile,
    }


def cuda_options(cuda_graph: bool) -> Options:
    """Options of the CUDA provider. TF32 is off: it would cost three decimal digits of every matrix product."""
    return {
        "device_id": "0",
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if cuda_graph else "0",
    }


def rows_of(graph: str) -> tuple[int, int]:
    """The usual and largest number of rows of ``graph`` in one run. TensorRT takes memory for the largest, and a picture's row is a big one."""
    return _ROWS.get(graph, (_USUAL_ROWS, _MOST_ROWS))


def profile_options(inputs: Mapping[str, Sequence[int | str | None]], usual_rows: int, most_rows: int) -> Options:
    """Profile shapes for inputs whose first free dimension is rows and whose others are steps; {} where every shape is fixed.

    ``inputs``: shapes by name, a free dimension as text or None. TensorRT refuses a profile that leaves out an input with a free dimension.
    """
    free = {name: shape for name, shape in inputs.items() if any(not isinstance(size, int) for size in shape)}
    if not free:
        return {}

    def shapes(rows: int, steps: int) -> str:
        sizes = {name: [size if isinstance(size, int) else rows if place == 0 else steps for place, size in enumerate(free[name])] for name in free}
        return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in sizes.items())

    return {
        "trt_profile_min_shapes": shapes(1, 1),
        "trt_profile_opt_shapes": shapes(usual_rows, USUAL_STEPS),
        "trt_profile_max_shapes": shapes(most_rows, MOST_STEPS),
    }


@cache
def _missing_library(runtime: str) -> str:
    """What the loader lacks for a provider, in its own words; ONNX Runtime itself tells nobody but the terminal."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / _SHARED), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / _LIBRARIES[runtime]))
    except OSError as error:
        text = str(error).removesuffix(": cannot open shared object file: No such file or directory")
        return f"the library {text} is missing" if text != str(error) else f"a library cannot be loaded: {error}"
    return ""
