"""TensorRT's Python package: which one there is, and an engine built with it. Every name used exists in the wheels of 10.3, 10.13 and 11.4."""

from __future__ import annotations

import importlib
from typing import Any

from world_model.tensorrt.operator_list import TensorRtError, parse_version
from world_model.tensorrt.shapes import Profile

_MISSING = (
    "the Python package tensorrt is missing: on a Jetson `sudo apt install python3-libnvinfer-dev` and a virtual environment with "
    "--system-site-packages, on x86 `pip install tensorrt-cu12` (10.x or 11) beside an NVIDIA driver"
)
_WORKSPACE_BYTES = 1 << 30


def load_tensorrt() -> tuple[Any, tuple[int, int]]:
    """The package ``tensorrt`` and its version.

    Raises:
        TensorRtError: it is missing, lacks its libraries, or is of a version that this software does not know.
    """
    try:
        trt = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        raise TensorRtError(_MISSING) from error
    except (ImportError, OSError) as error:
        raise TensorRtError(f"the Python package tensorrt cannot be loaded: {' '.join(str(error).split())}") from error
    return trt, parse_version(str(trt.__version__))


def build_engine(trt: Any, version: tuple[int, int], graph: bytes, shapes: Profile, timings: bytes) -> tuple[bytes, bytes]:
    """The serialised engine of an ONNX ``graph``, and the timing cache after it.

    The network is strongly typed: precision is what the graph says, layer by layer. TensorRT 11 knows no other kind.

    Raises:
        TensorRtError: the parser refuses the graph, or the builder finds no engine; the message holds TensorRT's own words.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if version[0] == 10 else 0
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        reasons = "; ".join(str(parser.get_error(index).desc()) for index in range(parser.num_errors))
        raise TensorRtError(f"TensorRT {trt.__version__} cannot parse the graph: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    cache = config.create_timing_cache(timings) or config.create_timing_cache(b"")  # damaged ones are begun anew
    config.set_timing_cache(cache, ignore_mismatch=False)
    if shapes:
        profile = builder.create_optimization_profile()
        for name, (least, usual, most) in shapes.items():
            profile.set_shape(name, least, usual, most)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise TensorRtError(f"TensorRT {trt.__version__} built no engine; what it said is above")
    return bytes(engine), bytes(config.get_timing_cache().serialize())
