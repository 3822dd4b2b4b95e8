"""Simulated episodes, collected in parallel: the same episodes for the same seed, whatever the number of workers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.exploration import exploration_for
from sim.tasks import PicturedGoalEnv, make_env, task_named
from sim.tasks.task import State
from world_model.data import ShardWriter, write_description

EPISODE_STEPS = 40
EPISODES_PER_SHARD = 25


@dataclass(frozen=True)
class Collection:
    """What to collect: ``shards`` x 25 episodes x 40 steps of ``task``."""

    task: str
    shards: int
    seed: int
    out: Path


def flat_state(state: State) -> NDArray[np.float32]:
    """``(6,) float32``: tool x y z and block x y yaw, zeros where there is no block."""
    block = (0.0, 0.0, 0.0) if state.block is None else (state.block.x, state.block.y, state.block.yaw)
    return np.array([*state.tool, *block], dtype=np.float32)


def explore(env: PicturedGoalEnv, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """One exploring episode: frames ``(T+1, h, w, 3)``, actions ``(T, A)``, state ``(T+1, 6)``."""
    policy = exploration_for(env.task, rng)
    env.place(*policy.start())
    frames, actions, states = [env.render()], [], [env.state()]
    for _ in range(EPISODE_STEPS):
        action = policy.act(states[-1], env.commanded)
        env.move(action)
        actions.append(action)
        frames.append(env.render())
        states.append(env.state())
    return np.stack(frames), np.stack(actions), np.stack([flat_state(state) for state in states])


_env: PicturedGoalEnv | None = None


def _open_env(task: str) -> None:
    global _env  # one simulator per worker process, opened once
    _env = make_env(task)


def _collect_shard(work: tuple[Collection, int]) -> int:
    collection, index = work
    assert _env is not None
    episodes = [explore(_env, np.random.default_rng([collection.seed, index, number])) for number in range(EPISODES_PER_SHARD)]
    frames, actions, states = (np.stack(arrays) for arrays in zip(*episodes, strict=True))
    ShardWriter(collection.out, index).write(frames, actions, states)
    return index


def collect(collection: Collection, workers: int, report: Callable[[int, int], None]) -> None:
    """Collect every shard that ``collection.out`` does not hold yet; ``report(done, all)`` after each.

    Raises:
        UnknownTaskError: there is no such task.
        ValueError: the folder holds another collection.
    """
    task = task_named(collection.task)
    description: dict[str, Any] = {
        "task": task.name,
        "tool_step": asdict(task.tool_step),
        "frame": [task.camera.height, task.camera.width, 3],
        "seed": collection.seed,
        "policy": "exploration",
    }
    write_description(collection.out, description)
    missing = [index for index in range(collection.shards) if not ShardWriter(collection.out, index).path.is_dir()]
    done = collection.shards - len(missing)
    report(done, collection.shards)
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _open_env, (collection.task,)) as pool:
        for _ in pool.imap_unordered(_collect_shard, [(collection, index) for index in missing]):
            done += 1
            report(done, collection.shards)
