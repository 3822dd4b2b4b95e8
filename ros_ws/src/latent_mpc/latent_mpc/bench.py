"""How fast every stage is on this machine, beside what the machine can do at best, in one interleaved run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from arm_model import Kinematics, load_arm
from latent_mpc.bench_guard import guard_cycle
from latent_mpc.bench_guardrails import guardrail_stages
from planner_node.assembly import PlannerConfig
from planner_node.controller import LatentController
from planner_node.guardrails.zone import Zone
from planner_node.shield import Motion, Shield, ShieldConfig
from planner_node.solvers.solver import Deadline
from sim.arm_world import stock_arm
from sim.tasks import make_env
from world_model.protocol import Context
from world_model.runtime import OnnxModel

_MATRIX = 1024
_COPY_BYTES = 64 * 2**20
_CYCLE_S = 0.01


@dataclass(frozen=True)
class Stage:
    """One thing that is timed: ``work`` does it once; ``flop`` and ``bytes_moved`` say what it must do at least, where that can be counted."""

    name: str
    work: Callable[[], object]
    flop: float = 0.0
    bytes_moved: float = 0.0


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a stage: wall ``p50`` and ``p99``, processor time ``cpu_ms``; ``limit_ms`` is the machine's time for the same arithmetic."""

    name: str
    ms: dict[str, float]
    cpu_ms: float
    limit_ms: float | None
    ratio_to_limit: float | None


def time_stages(stages: list[Stage], rounds: int, report: Callable[[int, int], None]) -> dict[str, tuple[np.ndarray[Any, Any], float]]:
    """Wall times (s) and mean processor time (s) of each stage; all stages take turns, so that a busy moment hits them alike."""
    for stage in stages:
        stage.work()
    wall: dict[str, list[float]] = {stage.name: [] for stage in stages}
    cpu = dict.fromkeys(wall, 0.0)
    for done in range(rounds):
        for stage in stages:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            stage.work()
            wall[stage.name].append(time.perf_counter() - begun)
            cpu[stage.name] += time.process_time() - begun_cpu
        report(done + 1, rounds)
    return {name: (np.array(times), cpu[name] / rounds) for name, times in wall.items()}


def bench(model: Path, task: str, rounds: int, report: Callable[[int, int], None]) -> dict[str, Any]:
    """Time rendering, physics, every network, planning and the shield; ``machine`` holds the roof that was measured in the same run.

    Raises:
        ValueError: the bundle or the task cannot be used.
    """
    with threadpool_limits(limits=1):  # the roof of one core: the nodes run single-threaded sessions too
        stages = _stages(OnnxModel(model), task)
        times = time_stages(stages, rounds, report)
    gflops = 2 * _MATRIX**3 / float(np.median(times["roof: fp32 matrix product"][0])) / 1e9
    gbps = 2 * _COPY_BYTES / float(np.median(times["roof: memory copy"][0])) / 1e9
    machine = {"roof_gflops_fp32": gflops, "roof_gops_int8": None, "memcpy_gbps": gbps, "cores": os.cpu_count()}
    return {
        "machine": machine,
        "stages": [asdict(_timing(stage, *times[stage.name], gflops)) for stage in stages if not stage.name.startswith("roof")],
        "peers": [],
        "frames_per_second": {stage.name: 1.0 / float(np.median(times[stage.name][0])) for stage in stages if stage.name.startswith("render")},
    }


def table(result: dict[str, Any]) -> str:
    """The result as text for a terminal."""
    machine = result["machine"]
    lines = [f"{machine['cores']} cores; one core: {machine['roof_gflops_fp32']:.0f} GFLOP/s fp32, {machine['memcpy_gbps']:.1f} GB/s copy"]
    for stage in result["stages"]:
        limit = "" if stage["limit_ms"] is None else f"  limit {stage['limit_ms']:.3f} ms, {stage['ratio_to_limit']:.1f} x"
        lines.append(f"{stage['name']:<52} p50 {stage['ms']['p50']:8.3f} ms  p99 {stage['ms']['p99']:8.3f} ms  cpu {stage['cpu_ms']:8.3f} ms{limit}")
    lines += [f"{name}: {rate:.0f} frames/s" for name, rate in result["frames_per_second"].items()]
    return "\n".join(lines)


def _timing(stage: Stage, wall: np.ndarray[Any, Any], cpu_s: float, gflops: float) -> Timing:
    limit = stage.flop / gflops / 1e6 if stage.flop else None
    p50, p99 = (float(1e3 * np.quantile(wall, q)) for q in (0.5, 0.99))
    return Timing(stage.name, {"p50": p50, "p99": p99}, 1e3 * cpu_s, limit, p50 / limit if limit else None)


def _stages(model: OnnxModel, task: str) -> list[Stage]:
    rng = np.random.default_rng(0)
    matrices = rng.standard_normal((2, _MATRIX, _MATRIX)).astype(np.float32)
    source, sink = np.ones(_COPY_BYTES, np.uint8), np.empty(_COPY_BYTES, np.uint8)
    env = make_env(task)
    observation, _ = env.reset(seed=0)
    camera, large = env.task.camera, env.task.camera.resized(224, 224)
    meshes = stock_arm()
    tool = observation["tool"].astype(np.float64)
    latent = model.encode(observation["image"][None])[0]
    goal = model.encode(observation["goal"][None])[0]
    context = Context(np.repeat(latent[None, None], model.history, 1), np.zeros((1, model.history - 1, model.action_dim), np.float32))
    actions = rng.uniform(-1, 1, (64, 8, model.action_dim)).astype(np.float32)
    latents = np.repeat(latent[None], 64, 0)
    still = np.zeros(model.action_dim, np.float32)
    predictor_flop = 2.0 * _parameters(model, "rollout.onnx")

    def planner(mode: str, zones: tuple[Zone, ...] = ()) -> Callable[[], object]:
        controller = LatentController(model, env.task.tool_step, PlannerConfig(mode=mode))
        controller.start(goal, env.task.steps, zones)
        controller.see(0.0, latent, tool)
        return lambda: controller.plan(0.0, tool, Deadline.after(10.0))

    arm = load_arm()
    kinematics = Kinematics(arm)
    q = kinematics.solve(tool)
    shield = Shield(ShieldConfig(arm.limits.scaled(0.5, 0.5, 0.5, margin=0.02), _CYCLE_S))
    rest, target = shield.hold(q), Motion(q + 0.05, np.zeros_like(q), np.zeros_like(q))
    beside = Zone((float(tool[0]) + 0.1, float(tool[1])), (0.02, 0.07))
    return [
        Stage("roof: fp32 matrix product", lambda: matrices[0] @ matrices[1]),
        Stage("roof: memory copy", lambda: np.copyto(sink, source)),
        Stage("render 64 px, simple shapes", lambda: camera.render(env.world.client)),
        Stage("render 224 px, simple shapes", lambda: large.render(env.world.client)),
        Stage("render 64 px, visual meshes", lambda: camera.render(meshes)),
        Stage("environment step with picture", lambda: env.step(still)),
        Stage("inverse kinematics", lambda: kinematics.solve(tool, arm.home)),
        Stage("encode one frame", lambda: model.encode(observation["image"][None])),
        Stage("rollout, 64 candidates x 8 steps", lambda: model.rollout(context.repeated(64), actions), flop=64 * 8 * predictor_flop),
        Stage("temporal distance, 64 latents", lambda: model.distance(latents, goal), flop=65 * 2.0 * _parameters(model, "heads.onnx")),
        Stage(
            "actor, 64 latents",
            lambda: model.propose(latents, goal, np.full(64, 8.0)),
            flop=64 * 2.0 * _parameters(model, "actor.onnx"),
        ),
        Stage("plan: along the actor", planner("planner")),
        Stage("plan: along the actor, with a wall", planner("planner", (beside,))),
        Stage("plan: actor alone", planner("actor")),
        Stage("plan: CEM 150 x 5", planner("cem")),
        Stage("shield, one cycle", lambda: shield.follow(rest, 1, target)),
        Stage("shield and collision check, one cycle", guard_cycle(arm)),
        *(Stage(name, work) for name, work in guardrail_stages(env.task.tool_step)),
    ]


def _parameters(model: OnnxModel, graph: str) -> float:
    """Weights of a graph, counted from its size: four bytes each."""
    return (model.directory / graph).stat().st_size / 4.0
