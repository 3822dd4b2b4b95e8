"""``latent-mpc bench``: this machine's roof, every stage against it, the peers on the same work, scaling and memory, in one seeded run."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from latent_mpc.bench_contenders import OURS
from latent_mpc.bench_peers import KINDS, run_peers
from latent_mpc.bench_roof import machine, roof_stages
from latent_mpc.bench_scaling import memory, scaling, worst_doubling
from latent_mpc.bench_stages import stages_of
from latent_mpc.bench_timing import Times, time_stages, timing
from sim.tasks import make_env
from world_model.runtime import OnnxModel

NO_ONNX = "operations are not counted and int8 is not measured: onnx is not installed; `make bench` installs it"
_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch", "stable-worldmodel", "pytorch-mppi")


class BenchError(ValueError):
    """A bench that cannot be run as asked, with the reason in one line."""


@dataclass(frozen=True)
class BenchConfig:
    """``rounds`` in which all stages take turns; ``peers``: ``none``, ``short`` or ``published``; ``nodes``: what ``bench-nodes`` wrote."""

    model: Path
    task: str = "push-far"
    rounds: int = 100
    seed: int = 0
    peers: str = "short"
    scaling: bool = False
    nodes: Path | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise BenchError(f"rounds is {self.rounds}, must be at least 1")
        if self.peers not in KINDS:
            raise BenchError(f"peers is '{self.peers}'; choose {', '.join(KINDS)}")


def bench(config: BenchConfig, report: Callable[[str], Callable[[int, int], None]]) -> dict[str, Any]:
    """Everything that ``config`` asks for, with the keys of the contract.

    ``missing`` says in one line each what was left out and why: a peer that is not installed has no row.

    Raises:
        ValueError: the bundle or the task cannot be used, or ``nodes`` cannot be read.
    """
    nodes = None if config.nodes is None else _read(config.nodes)
    model, env = OnnxModel(config.model), make_env(config.task)
    missing = [] if find_spec("onnx") else [NO_ONNX]
    with threadpool_limits(limits=1):  # one core's roof, and one core's stages: the nodes run single-threaded sessions too
        stages = [*roof_stages(np.random.default_rng(config.seed)), *stages_of(model, env, config.seed)]
        times = time_stages(stages, config.rounds, report("stages"))
        roof = machine(times)
        result: dict[str, Any] = {
            "machine": roof,
            "stages": [asdict(timing(stage, times, roof["roof_gflops_fp32"])) for stage in stages if not stage.name.startswith("roof")],
            "peers": [],
            "frames_per_second": _rates(times),
            "seed": config.seed,
            "rounds": config.rounds,
            "model": model.manifest.name,
            "task": config.task,
            "versions": versions(),
        }
        if config.peers != "none":
            found = run_peers(model, env, config.peers, config.seed, result["versions"][OURS], report)
            result |= {"peers": found.rows, "plan_ratio": found.plan_ratio, "costs_differ": found.costs_differ}
            missing += found.missing
        if config.scaling:
            rows = scaling(model, env, config.seed, max(3, config.rounds // 20), report)
            result |= {"scaling": rows, "worst_doubling": worst_doubling(rows), "memory": memory(config.model, config.task, config.seed)}
    env.close()
    if nodes is not None:
        result["nodes"] = nodes
    return {**result, "missing": missing}


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """What was run: Python, the system, this project, and those of ``packages`` that are installed."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.release()} {platform.machine()}"}
    for name in (OURS, *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {OURS: "source", **found}


def _rates(times: dict[str, Times]) -> dict[str, float]:
    return {name: 1.0 / float(np.median(found.wall)) for name, found in times.items() if name.startswith("render")}


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except OSError as error:
        raise BenchError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise BenchError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BenchError(f"{file} holds no JSON object: it is not what `latent-mpc bench-nodes --json` writes")
    return content
