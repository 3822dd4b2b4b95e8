"""Runs of a simulated scene for the evaluation of surprise: ordinary ones, and ones to which something impossible happens."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latent_mpc.surprise_loop import play_planned
from latent_mpc.surprise_run import Run
from sim.appearance import NOMINAL, draw_appearance
from sim.disturbances import DisturbedScene
from sim.exploration import exploration_for
from sim.tasks import PicturedGoalEnv, make_env
from sim.tasks.task import State
from world_model.runtime import OnnxModel

# Of a run with an event only these frames are rendered: enough for the statistic to settle before, and to see when it is noticed.
FRAMES_BEFORE, FRAMES_AFTER = 8, 6
_ORDINARY_STEPS = 40
_LATEST = 30
_MOVED_M = 1e-3
# Apart from every other use of a seed, such as the collection of training data.
_STREAM = 53_617


@dataclass(frozen=True)
class Script:
    """Which run to play: the ``number``-th of ``part``, with ``event`` or without, and with the factors ``look`` of appearance drawn anew.

    With ``task`` the planner plays an episode of that one in closed loop, ``steps`` actions of it, 0 for all; without it the exploring teacher plays.
    """

    part: str
    number: int
    event: str = ""
    look: tuple[str, ...] = ()
    steps: int = 0
    task: str = ""


def play(env: PicturedGoalEnv, seed: int, script: Script) -> Run:
    """Let the exploring teacher push (or reach) as in the collection of data, and let the event happen at a random time between two frames."""
    rng = _started(env, seed, script)
    policy = exploration_for(env.task, rng)
    env.place(*policy.start())
    scene = DisturbedScene(env, rng)
    struck = int(rng.integers(FRAMES_BEFORE, _LATEST + 1)) if script.event else 0
    first, steps = (struck - FRAMES_BEFORE, struck + FRAMES_AFTER - 1) if script.event else (0, script.steps or _ORDINARY_STEPS)
    states, tools, joints = [env.state()], [env.commanded], [env.world.joints()[0]]
    frames = [scene.frame()] if first == 0 else []
    for step in range(1, steps + 1):
        env.move(policy.act(states[-1], env.commanded))
        tools.append(env.commanded)
        joints.append(env.world.joints()[0])
        if script.event and step == struck:
            scene.strike(script.event)
        states.append(_remembered(env.state(), states[-1]))
        if step >= first:
            frames.append(scene.frame())
    moved = [_moved(before, after) for before, after in itertools.pairwise(states)]
    contact = np.array([False, *moved])[first:]
    points = np.stack(tools[first:])
    actions = env.task.tool_step.between(points[:-1], points[1:])
    return Run(np.stack(frames), actions, np.stack(joints[first:]).astype(np.float32), contact, struck - first if script.event else None)


def _started(env: PicturedGoalEnv, seed: int, script: Script) -> np.random.Generator:
    """The script's own random numbers; its look is on."""
    name = np.frombuffer(f"{script.part}/{script.event}".encode(), np.uint8).tolist()
    rng = np.random.default_rng([seed, _STREAM, script.number, *name])
    env.appear(draw_appearance(rng, script.look) if script.look else NOMINAL)
    return rng


def _remembered(state: State, before: State) -> State:
    """The teacher goes on as if a block that vanished were still there."""
    return State(state.tool, before.block) if state.block is None else state


def _moved(before: State, after: State) -> bool:
    if before.block is None or after.block is None:
        return False
    return float(np.hypot(after.block.x - before.block.x, after.block.y - before.block.y)) > _MOVED_M


class _Stage:
    """A simulator for each task and the planner's model, opened once in each worker process."""

    def __init__(self, task: str, seed: int, model: Path) -> None:
        self._task, self._seed, self._model = task, seed, OnnxModel(model)
        self._envs: dict[str, PicturedGoalEnv] = {}

    def play(self, script: Script) -> Run:
        name = script.task or self._task
        env = self._envs[name] if name in self._envs else self._envs.setdefault(name, make_env(name))
        if not script.task:
            return play(env, self._seed, script)
        rng = _started(env, self._seed, script)
        return play_planned(env, self._model, int(rng.integers(2**31)), script.steps)


_stage: _Stage | None = None


def _open_worker(task: str, seed: int, model: Path) -> None:
    global _stage
    _stage = _Stage(task, seed, model)


def _play(script: Script) -> Run:
    assert _stage is not None
    return _stage.play(script)


def play_all(model: Path, task: str, seed: int, scripts: list[Script], workers: int, report: Callable[[int, int], None]) -> list[Run]:
    """Play every script, the same runs whatever the number of workers; ``report(done, all)`` after each. ``model`` is the planner's bundle."""
    runs: list[Run] = []
    # An executor says so when a worker was killed; a Pool would wait for it for ever.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _open_worker, (task, seed, model)) as pool:
        for run in pool.map(_play, scripts, chunksize=4):
            runs.append(run)
            report(len(runs), len(scripts))
    return runs
