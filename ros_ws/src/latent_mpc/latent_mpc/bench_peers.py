"""The peers' share of the bench: who is there, what they are given to do, and what they say in one line where they are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from latent_mpc import bench_stable_worldmodel
from latent_mpc.bench_contenders import OURS, Contender, MissingPeerError, compare, peer_version
from latent_mpc.bench_own_dynamics import OwnDynamics
from latent_mpc.bench_stages import PUBLISHED, controlled, first_context
from planner_node.assembly import PlannerConfig
from sim.tasks import PicturedGoalEnv
from world_model.protocol import F32
from world_model.runtime import OnnxModel

KINDS = ("none", "short", "published")
DEFAULT, OUR_CEM = "along the actor (default)", "CEM 300 x 30"
Report = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class Setting:
    """How much work the peers get: LeWM-shaped plans of ``lewm`` iterations each, own dynamics with ``own`` iterations on ``problems`` first frames.

    ``samples`` and ``horizon`` are the published ones. Beside them, always: one plan at the published setting, whole, for the ratio that is a bar.
    """

    lewm: tuple[int, ...]
    own: tuple[int, ...]
    problems: int = 8
    lewm_problems: int = 2
    samples: int = PUBLISHED.samples
    horizon: int = PUBLISHED.horizon


SETTINGS = {"short": Setting(lewm=(2,), own=(10,)), "published": Setting(lewm=(10, 30), own=(10, 30), problems=20, lewm_problems=1)}


@dataclass(frozen=True)
class Findings:
    """Rows of the bench's ``peers``, and what was left out and why, one line each.

    ``plan_ratio``: processor time of stable-worldmodel's CEM + LeWM at its published setting over our default planner's from frame to plan.
    ``costs_differ``: of each way of ours to run LeWM's weights, the largest difference of a cost from theirs, over the largest cost.
    """

    rows: list[dict[str, Any]]
    missing: list[str]
    plan_ratio: float | None
    costs_differ: dict[str, float]


def run_peers(model: OnnxModel, env: PicturedGoalEnv, kind: str, seed: int, version: str, report: Report) -> Findings:
    """Everybody on the same work, in this process, one thread each: call it inside ``threadpool_limits(1)``.

    Peers that are not installed are left out, and named in ``missing``; our own solvers are there in any case.
    """
    setting = SETTINGS[kind]
    missing: list[str] = []
    rows: list[dict[str, Any]] = []
    for iterations in setting.own:
        firsts = [first_context(model, env, seed + number) for number in range(setting.problems)]
        own = OwnDynamics(model, firsts, setting.samples, iterations, setting.horizon, seed)
        contenders = own.contenders(version)
        contenders += present([partial(own.theirs, name) for name in bench_stable_worldmodel.SOLVERS], missing)
        contenders += present([own.mppi], missing)
        work = f"our push dynamics and cost, {setting.samples} x {iterations}, H {setting.horizon}"
        rows += compare(work, contenders, len(own), "CEM", report(f"own dynamics x {iterations}"), own.cost, iterations)
    lewm_rows, ratio, differ = _lewm(model, env, setting, seed, version, missing, report)
    return Findings(rows + lewm_rows, sorted(set(missing)), ratio, differ)


def present(makers: Sequence[Callable[[], Contender]], missing: list[str]) -> list[Contender]:
    """The contenders that can be made; why others cannot is added to ``missing``."""
    made: list[Contender] = []
    for make in makers:
        try:
            made.append(make())
        except MissingPeerError as error:
            missing.append(str(error))
    return made


def _lewm(
    model: OnnxModel, env: PicturedGoalEnv, setting: Setting, seed: int, version: str, missing: list[str], report: Report
) -> tuple[list[dict[str, Any]], float | None, dict[str, float]]:
    from latent_mpc.bench_lewm import CONTENDERS, LewmBench

    try:
        peer_version(bench_stable_worldmodel.PACKAGE)
        import torch

        lewm = bench_stable_worldmodel.random_lewm(seed)
    except (ImportError, MissingPeerError) as error:
        missing.append(str(error) if isinstance(error, MissingPeerError) else f"LeWM-shaped work needs torch and transformers ({error})")
        return [], None, {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows: list[dict[str, Any]] = []
        differ: dict[str, float] = {}
        LewmBench(lewm, setting.samples, 1, setting.horizon, seed).theirs("CEM").plan(0)  # the first run allocates
        for iterations in setting.lewm:
            bench = LewmBench(lewm, setting.samples, iterations, setting.horizon, seed)
            contenders = present([partial(bench.theirs, name) for name in bench_stable_worldmodel.SOLVERS], missing)
            contenders += present([bench.mppi], missing)
            for entry in CONTENDERS:
                try:
                    contenders.append(bench.ours(entry, version))
                    differ[entry.name] = bench.difference(entry)
                except ImportError as error:
                    missing.append(f"{entry.name} is not there ({error})")
            work = f"LeWM-shaped, random weights, {setting.samples} x {iterations}, H {setting.horizon}"
            rows += compare(work, contenders, setting.lewm_problems, "CEM + LeWM", report(f"LeWM-shaped x {iterations}"), None, iterations, False)
        published = LewmBench(lewm, PUBLISHED.samples, PUBLISHED.iterations, PUBLISHED.horizon, seed).theirs("CEM")
        headline = _headline(published, model, env, seed, version, report)
    finally:
        torch.set_num_threads(threads)
    by_name = {row["name"]: row["cpu_ms"] for row in headline}
    ratio = by_name[f"{published.package}: {published.name}"] / by_name[f"{OURS}: {DEFAULT}"]
    return rows + headline, ratio, differ


def _headline(published: Contender, model: OnnxModel, env: PicturedGoalEnv, seed: int, version: str, report: Report) -> list[dict[str, Any]]:
    """From a frame to a plan for push: ours as it ships, our CEM at the published size, and the published search on the published model."""
    observation, _ = env.reset(seed=seed)
    image = observation["image"][None]

    def ours(name: str, config: PlannerConfig, repeats: int) -> Contender:
        plan = controlled(model, env, seed, config)

        def frame_to_plan(problem: int) -> F32:
            model.encode(image)
            plan()
            return np.zeros((0, model.action_dim), np.float32)

        frame_to_plan(0)
        return Contender(name, OURS, version, frame_to_plan, repeats)

    contenders = [
        ours(DEFAULT, PlannerConfig(), 50),
        ours(OUR_CEM, PlannerConfig(mode="cem", solvers={"cem": PUBLISHED}), 3),
        published,
    ]
    work = f"frame to plan for {env.task.name}; peers at {PUBLISHED.samples} x {PUBLISHED.iterations}, H {PUBLISHED.horizon}"
    # Nobody warms up at half a minute each: the same code ran just before.
    return compare(work, contenders, 1, DEFAULT, report("frame to plan"), warm_up=False)
