"""The shapes that engines are built for."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import onnx

from world_model.tensorrt.operator_list import TensorRtError

_STEPS = "H"


@dataclass(frozen=True)
class EngineShapes:
    """``candidates`` N that the planner imagines at once, over ``steps`` H, among ``zones`` Z; perception encodes one picture at a time.

    ``static``: no other number of rows.

    Raises:
        TensorRtError: one is not positive.
    """

    candidates: int = 300
    steps: int = 10
    zones: int = 4
    static: bool = False

    def __post_init__(self) -> None:
        if min(self.candidates, self.steps, self.zones) < 1:
            raise TensorRtError(f"shapes {self.candidates},{self.steps},{self.zones} must all be at least 1")

    def rows(self, graph: str) -> int:
        """The usual and largest number of rows of ``graph``."""
        return 1 if graph in ("encoder", "witness") else self.candidates


def parse_shapes(text: str, static: bool = False) -> EngineShapes:
    """``N,H`` or ``N,H,Z`` as shapes.

    Raises:
        TensorRtError: it is not two or three whole numbers of at least 1.
    """
    parts = text.split(",")
    if len(parts) not in (2, 3) or not all(part.strip().isdigit() for part in parts):
        raise TensorRtError(f"--shapes is '{text}', must be N,H or N,H,Z: candidates, steps and zones, such as 300,5")
    candidates, steps, zones = (int(part) for part in (*parts, "4")[:3])
    return EngineShapes(candidates, steps, zones, static)


Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


def profile(model: onnx.ModelProto, rows: int) -> Profile:
    """Least, usual and largest shape of each input with a free dimension; {} where there is none. A free H or Z must be fixed before.

    Raises:
        TensorRtError: a dimension is free that is not rows.
    """
    found: Profile = {}
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        free = [place for place, size in enumerate(sizes) if size.dim_param]
        if not free:
            continue
        if free != [0]:
            raise TensorRtError(f"input '{value.name}' has a free dimension '{sizes[free[-1]].dim_param}' that no profile is known for")
        tail = tuple(size.dim_value for size in sizes[1:])
        found[value.name] = ((1, *tail), (rows, *tail), (rows, *tail))
    return found


def trtexec(onnx_file: str, engine: str, timings: str, shapes: Profile, version: tuple[int, int]) -> str:
    """The ``trtexec`` command that builds the same engine. From TensorRT 11 on every network is strongly typed, and the option is gone."""
    words = ["trtexec", f"--onnx={onnx_file}", f"--saveEngine={engine}", f"--timingCacheFile={timings}"]
    if version[0] == 10:
        words.append("--stronglyTyped")
    for place, option in enumerate(("minShapes", "optShapes", "maxShapes")):
        if shapes:
            words.append(f"--{option}=" + ",".join(f"{name}:{'x'.join(map(str, sizes[place]))}" for name, sizes in shapes.items()))
    return shlex.join(words)
