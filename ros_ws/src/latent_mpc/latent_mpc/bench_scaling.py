"""How the cost of planning grows with candidates, steps, tokens and joints, and whether its memory grows with iterations."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from arm_model import load_arm, shipped_arms
from latent_mpc.bench_chain import chain_arm
from latent_mpc.bench_guard import guard_cycle
from latent_mpc.bench_stages import controlled
from latent_mpc.bench_timing import Stage, time_stages
from planner_node.assembly import PlannerConfig
from planner_node.solvers.cem import CemConfig
from sim.tasks import PicturedGoalEnv, make_env
from world_model.bundle import read_manifest
from world_model.runtime import OnnxModel

CANDIDATES = (32, 64, 128, 256, 512, 1024)
HORIZONS = (2, 5, 10, 20)
TOKENS = (1, 4, 16, 64)
JOINTS = (3, 6, 12)
# A plan of so many candidates, steps and iterations, where something else is varied.
_SAMPLES, _STEPS, _ITERATIONS = 128, 8, 5
_TOKEN_SAMPLES, _TOKEN_STEPS, _TOKEN_ITERATIONS = 32, 4, 2
_TOKEN_WIDTH = 24
FEW, MANY = 5, 50
# Bar: what doubling the candidates may cost, and how much more memory ten times as many iterations may take.
MOST_PER_DOUBLING, MOST_GROWTH_MB = 2.1, 2.0


@dataclass(frozen=True)
class Series:
    """Processor time ``cpu_ms`` of a plan, or a cycle, at each of ``sizes`` of one thing: the least of all rounds, in which all sizes took turns."""

    of: str
    what: str
    sizes: tuple[int, ...]
    labels: tuple[str, ...]
    cpu_ms: tuple[float, ...]

    def per_doubling(self) -> list[float]:
        """By how much time grows for each doubling between two neighbouring sizes: ``(t2 / t1) ** (1 / log2(n2 / n1))``."""
        steps = zip(self.sizes, self.sizes[1:], self.cpu_ms, self.cpu_ms[1:], strict=False)
        return [float((after / before) ** (1.0 / np.log2(larger / smaller))) for smaller, larger, before, after in steps if larger > smaller]


def scaling(
    model: OnnxModel, env: PicturedGoalEnv, seed: int, rounds: int, report: Callable[[str], Callable[[int, int], None]]
) -> list[dict[str, Any]]:
    """All series, as rows of the bench's ``scaling``. Tokens need torch, and are left out where it is missing."""

    def cem(samples: int, steps: int, iterations: int) -> PlannerConfig:
        return PlannerConfig(mode="cem", solvers={"cem": CemConfig(samples, iterations, max(2, samples // 10), steps)})

    def along(samples: int) -> PlannerConfig:
        return PlannerConfig(solvers={"actor_rollouts": {"samples": samples - 1}})

    def plans(configs: Sequence[PlannerConfig]) -> list[Callable[[], object]]:
        return [controlled(model, env, seed, config) for config in configs]

    arms = sorted(shipped_arms(), key=lambda name: load_arm(name).home.size)
    found = [
        _series(
            "candidates",
            f"CEM, {_ITERATIONS} iterations of {_STEPS} steps",
            CANDIDATES,
            plans([cem(n, _STEPS, _ITERATIONS) for n in CANDIDATES]),
            rounds,
            report,
        ),
        _series("candidates", "along the actor, 10 steps", CANDIDATES, plans([along(n) for n in CANDIDATES]), rounds, report),
        _series(
            "steps", f"CEM, {_SAMPLES} candidates x {_ITERATIONS}", HORIZONS, plans([cem(_SAMPLES, h, _ITERATIONS) for h in HORIZONS]), rounds, report
        ),
        _series(
            "iterations",
            f"CEM, {_SAMPLES} candidates of {_STEPS} steps",
            (5, 10, 20, 40),
            plans([cem(_SAMPLES, _STEPS, n) for n in (5, 10, 20, 40)]),
            rounds,
            report,
        ),
        replace(
            _series(
                "joints",
                "one guardrail cycle, shipped arms",
                tuple(load_arm(name).home.size for name in arms),
                [guard_cycle(load_arm(name)) for name in arms],
                20 * rounds,
                report,
            ),
            labels=tuple(arms),
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        chains = [guard_cycle(chain_arm(joints, Path(folder))) for joints in JOINTS]
        found.append(_series("joints", "one guardrail cycle, an upright chain", JOINTS, chains, 20 * rounds, report))
    found += _tokens(model, rounds, report, cem(_TOKEN_SAMPLES, _TOKEN_STEPS, _TOKEN_ITERATIONS))
    return [
        {
            "of": series.of,
            "what": series.what,
            "sizes": list(series.sizes),
            "labels": list(series.labels),
            "cpu_ms": list(series.cpu_ms),
            "per_doubling": series.per_doubling(),
        }
        for series in found
    ]


def memory(model: Path, task: str, seed: int) -> dict[str, Any]:
    """Peak resident memory (MiB) of a process that plans with CEM, after few and after many iterations; a process of its own for each.

    ``plan_mb`` is what planning adds to a process that has loaded the bundle and planned once with one iteration.
    """
    rows = []
    for iterations in (FEW, MANY):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            before, peak = pool.submit(_peak, model, task, seed, iterations).result()
        rows.append({"iterations": iterations, "loaded_mb": before, "peak_mb": peak, "plan_mb": peak - before})
    growth = rows[1]["plan_mb"] - rows[0]["plan_mb"]
    return {"plans": rows, "growth_mb": growth, "flat": growth <= MOST_GROWTH_MB, "bar_mb": MOST_GROWTH_MB}


def worst_doubling(rows: Sequence[dict[str, Any]]) -> float | None:
    """The largest growth for a doubling of the candidates; the bar is 2.1."""
    return max((growth for row in rows if row["of"] == "candidates" for growth in row["per_doubling"]), default=None)


def _peak(model: Path, task: str, seed: int, iterations: int) -> tuple[float, float]:
    """Peak resident memory in MiB of this process, before the plan and after it."""
    opened, env = OnnxModel(model), make_env(task)

    def plan(count: int) -> Callable[[], object]:
        config = CemConfig(300, count, 30, 5)
        return controlled(opened, env, seed, PlannerConfig(mode="cem", solvers={"cem": config}))

    plan(1)()
    asked = plan(iterations)
    # The kernel counts the peak from here on. Not everybody may ask it to: then what loading took hides as much of the plan's.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmHWM")
    asked()
    return before, _status("VmHWM")


def _status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024.0


def _series(
    of: str,
    what: str,
    sizes: tuple[int, ...],
    works: Sequence[Callable[[], object]],
    rounds: int,
    report: Callable[[str], Callable[[int, int], None]],
) -> Series:
    stages = [Stage(f"{number} {size}", work) for number, (size, work) in enumerate(zip(sizes, works, strict=True))]
    times = time_stages(stages, rounds, report(f"{of}: {what}"))
    return Series(of, what, sizes, tuple(map(str, sizes)), tuple(1e3 * times[stage.name].least_s for stage in stages))


def _tokens(model: OnnxModel, rounds: int, report: Callable[[str], Callable[[int, int], None]], config: PlannerConfig) -> list[Series]:
    """Untrained bundles of a ViT whose grid makes K tokens, and a transformer over them: nothing but their shape matters here."""
    try:
        from world_model.config import parse_config
        from world_model.untrained import export_untrained
    except ImportError:
        return []
    manifest = read_manifest(model.directory)
    frames = np.random.default_rng(0).integers(0, 256, (8, *manifest.frame), dtype=np.uint8)
    works = []
    with tempfile.TemporaryDirectory() as folder:
        for tokens in TOKENS:
            side = round(tokens**0.5)
            shape = {"kind": "vit", "size": 64, "patch": 8, "width": 64, "depth": 1, "heads": 2}
            shape |= {"tokens": "global"} if tokens == 1 else {"tokens": "pooled", "grid": side}
            predictor = {"kind": "transformer", "width": 128, "depth": 2, "heads": 4}
            content = {
                "name": "tokens",
                "tasks": list(manifest.tasks),
                "model": {"encoder": shape, "latent_dim": _TOKEN_WIDTH, "predictor": predictor},
            }
            bundle = Path(folder) / str(tokens)
            export_untrained(parse_config(content, "the bench's own configuration"), manifest, frames, bundle)
            opened = OnnxModel(bundle)
            works.append(controlled(opened, make_env("push-far"), 0, config))
        what = (
            f"CEM, {_TOKEN_SAMPLES} candidates x {_TOKEN_ITERATIONS}, {_TOKEN_STEPS} steps, transformer of 2 layers, {_TOKEN_WIDTH} numbers a token"
        )
        return [_series("tokens", what, TOKENS, works, max(2, rounds // 3), report)]
