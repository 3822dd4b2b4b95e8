"""Simulated episodes, collected in parallel: the same episodes for the same seed, whatever the number of workers."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.appearance import NOMINAL, Appearance, draw_appearance
from sim.exploration import exploration_for
from sim.tasks import PicturedGoalEnv, make_env, task_named
from sim.tasks.task import State
from world_model.bundle import bundle_sha256, read_manifest
from world_model.data import DatasetError, EpisodeDataset, ShardWriter, write_description
from world_model.protocol import PlanningModel
from world_model.runtime import OnnxModel

EPISODE_STEPS = 40
EPISODES_PER_SHARD = 25
_ACTOR_STEPS = (8, 29)
_MODE_SHARE = 0.6
# Beyond what robustness is evaluated at, so that the edge is inside.
_STRONGEST_APPEARANCE = 1.2
_APPEARANCE_STREAM = 1

Recorded = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Collection:
    """What to collect: ``shards`` of ``episodes`` of ``steps`` actions of ``task``.

    ``randomised`` is the share of episodes in which camera, light, colours and a distractor are drawn anew; the motion is the same for any share.

    With a bundle ``actor``, take-over episodes: the actor acts from pixels until the script takes over. They show the way out of the actor's own
    mistakes (DAgger, Ross 2011).
    """

    task: str
    shards: int
    seed: int
    out: Path
    actor: Path | None = None
    episodes: int = EPISODES_PER_SHARD
    steps: int = EPISODE_STEPS
    randomised: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.randomised <= 1.0:
            raise ValueError(f"the share of randomised episodes is {self.randomised}, must lie between 0 and 1")

    def appearance(self, shard: int, number: int) -> Appearance:
        """How episode ``number`` of ``shard`` looks."""
        rng = np.random.default_rng([self.seed, shard, number, _APPEARANCE_STREAM])
        return draw_appearance(rng, most=_STRONGEST_APPEARANCE) if rng.random() < self.randomised else NOMINAL


def flat_state(state: State) -> NDArray[np.float32]:
    """``(6,) float32``: tool x y z and block x y yaw, zeros where there is no block."""
    block = (0.0, 0.0, 0.0) if state.block is None else (state.block.x, state.block.y, state.block.yaw)
    return np.array([*state.tool, *block], dtype=np.float32)


def explore(env: PicturedGoalEnv, rng: np.random.Generator, steps: int) -> Recorded:
    """One exploring episode: frames ``(T+1, h, w, 3)``, actions ``(T, A)``, state ``(T+1, 6)``."""
    policy = exploration_for(env.task, rng)
    env.place(*policy.start())
    frames, actions, states = [env.render()], [], [env.state()]
    for _ in range(steps):
        action = policy.act(states[-1], env.commanded)
        env.move(action)
        actions.append(action)
        frames.append(env.render())
        states.append(env.state())
    return np.stack(frames), np.stack(actions), np.stack([flat_state(state) for state in states])


def take_over(env: PicturedGoalEnv, rng: np.random.Generator, model: PlanningModel, steps: int) -> Recorded:
    """One episode towards a drawn goal in which the actor acts for 8 to 28 steps and the script goes on from wherever that led."""
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    assert env.episode is not None
    block = env.episode.goal_block
    script = exploration_for(env.task, rng, np.array(env.episode.goal_tool) if block is None else np.array([block.x, block.y]))
    goal = model.encode(observation["goal"][None])[0]
    switch = int(rng.integers(*_ACTOR_STEPS))
    frames, actions, states = [env.render()], [], [env.state()]
    for step in range(steps):
        if step < switch:
            mixture = model.propose(model.encode(frames[-1][None]), goal, np.array([env.task.steps - step], dtype=np.float32))
            action = (mixture.mode() if rng.random() < _MODE_SHARE else mixture.sample(rng))[0]
        else:
            action = script.act(states[-1], env.commanded)
        env.move(action)
        actions.append(action)
        frames.append(env.render())
        states.append(env.state())
    return np.stack(frames), np.stack(actions), np.stack([flat_state(state) for state in states])


_worker: tuple[PicturedGoalEnv, PlanningModel | None] | None = None


def _open_worker(collection: Collection) -> None:
    global _worker  # one simulator per worker process, opened once
    _worker = (make_env(collection.task), None if collection.actor is None else OnnxModel(collection.actor))


def _collect_shard(work: tuple[Collection, int]) -> int:
    collection, index = work
    assert _worker is not None
    env, model = _worker
    episodes = []
    for number in range(collection.episodes):
        rng = np.random.default_rng([collection.seed, index, number])
        env.appear(collection.appearance(index, number))
        episodes.append(explore(env, rng, collection.steps) if model is None else take_over(env, rng, model, collection.steps))
    frames, actions, states = (np.stack(arrays) for arrays in zip(*episodes, strict=True))
    ShardWriter(collection.out, index).write(frames, actions, states)
    return index


def collect(collection: Collection, workers: int, report: Callable[[int, int], None]) -> None:
    """Collect every shard that ``collection.out`` does not hold yet; ``report(done, all)`` after each.

    Raises:
        UnknownTaskError: there is no such task.
        DatasetError: the folder holds another collection.
        BundleError: the actor's bundle cannot be used.
    """
    task = task_named(collection.task)
    description: dict[str, Any] = {
        "task": task.name,
        "tool_step": asdict(task.tool_step),
        "frame": [task.camera.height, task.camera.width, 3],
        "seed": collection.seed,
        "randomised": collection.randomised,
        "policy": "exploration" if collection.actor is None else "take-over",
        "actor": None if collection.actor is None else bundle_sha256(read_manifest(collection.actor)),
    }
    _claim(collection.out, description)
    missing = [index for index in range(collection.shards) if not ShardWriter(collection.out, index).path.is_dir()]
    done = collection.shards - len(missing)
    report(done, collection.shards)
    # An executor says so when a worker was killed; a Pool would wait for it for ever.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _open_worker, (collection,)) as pool:
        for _ in pool.map(_collect_shard, [(collection, index) for index in missing]):
            done += 1
            report(done, collection.shards)


def _claim(out: Path, description: dict[str, Any]) -> None:
    """Write the description, unless the folder holds shards of another one."""
    if (out / "dataset.json").is_file() and any(out.glob("shard-*")):
        before = EpisodeDataset(out).description
        for key, value in json.loads(json.dumps(description)).items():
            if before.get(key) != value:
                raise DatasetError(f"{out} holds a collection with {key} {before.get(key)}, not {value}; choose another --out or delete it")
    write_description(out, description)
