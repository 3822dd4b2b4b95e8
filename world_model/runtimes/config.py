"""What a user may ask of a runtime."""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("fp32", "fp16", "int8")
RUNTIMES = ("auto", "tensorrt", "cuda", "cpu", "torch")
GRAPHS = ("encoder", "witness", "rollout", "heads", "actor")
PERCEPTION_GRAPHS = ("encoder", "witness")
PLANNER_GRAPHS = ("rollout", "heads", "actor")


class RuntimeRefusedError(ValueError):
    """A runtime that was asked for by name cannot be had here, with the reason in one line."""


@dataclass(frozen=True)
class RuntimeConfig:
    """How a bundle is to run.

    ``runtime``: ``auto`` tries TensorRT, CUDA and the CPU in that order, for each graph; a name takes that one or refuses. ``precision``: that of the
    graphs that the bundle has in it; the others run in fp32. ``threads``: intra-operator threads of each graph. ``engine_cache``: folder of built
    engines and timings, by default ``latent-mpc/engines`` under ``$XDG_CACHE_HOME``. ``graphs``: those that the runtime is chosen for; the others
    are opened on the CPU, for whoever never runs them.

    Raises:
        RuntimeRefusedError: there is no such runtime, precision or graph, or not one thread.
    """

    threads: int = 1
    precision: str = "fp32"
    runtime: str = "auto"
    engine_cache: str = ""
    graphs: tuple[str, ...] = GRAPHS

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise RuntimeRefusedError(f"threads is {self.threads}, must be at least 1")
        if self.runtime not in RUNTIMES:
            raise RuntimeRefusedError(f"runtime is '{self.runtime}', must be one of: {', '.join(RUNTIMES)}")
        if self.precision not in PRECISIONS:
            raise RuntimeRefusedError(f"precision is '{self.precision}', must be one of: {', '.join(PRECISIONS)}")
        for name in self.graphs:
            if name not in GRAPHS:
                raise RuntimeRefusedError(f"there is no graph '{name}'; there are {', '.join(GRAPHS)}")
