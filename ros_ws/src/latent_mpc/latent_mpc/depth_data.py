"""Pictures with their depth, from exploring episodes in simulation: what a depth head learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latent_mpc.json_file import write_json
from latent_mpc.staging import staged
from sim.exploration import exploration_for
from sim.tasks import make_env
from world_model.heads.depth import SIDE


@dataclass(frozen=True)
class DepthCollection:
    """``frames`` pictures of ``task``, every fourth of exploring episodes of 20 actions."""

    task: str
    frames: int
    seed: int
    out: Path


_EPISODE_STEPS, _EVERY = 20, 4


def collect_depth(collection: DepthCollection, report: Callable[[int, int], None]) -> None:
    """Write ``frames.npy``, ``depth.npy``, ``episode.npy`` and ``depth.json`` to ``collection.out``, whole or not at all.

    Raises:
        UnknownTaskError: there is no such task.
        OutputError: the folder holds something else.
    """
    env = make_env(collection.task)
    frames: list[NDArray[np.uint8]] = []
    depths: list[NDArray[np.float32]] = []
    episodes: list[int] = []
    with staged(collection.out, "depth.json") as folder:
        episode = 0
        while len(frames) < collection.frames:
            rng = np.random.default_rng([collection.seed, episode])
            policy = exploration_for(env.task, rng)
            env.place(*policy.start())
            for step in range(_EPISODE_STEPS):
                if step % _EVERY == 0:
                    frames.append(env.render())
                    camera = env.appearance.seen_by(env.task.camera).resized(SIDE, SIDE)
                    depths.append(camera.render_depth(env.world.client))
                    episodes.append(episode)
                env.move(policy.act(env.state(), env.commanded))
            episode += 1
            report(min(len(frames), collection.frames), collection.frames)
        count = collection.frames
        np.save(folder / "frames.npy", np.stack(frames[:count]), allow_pickle=False)
        np.save(folder / "depth.npy", np.stack(depths[:count]), allow_pickle=False)
        np.save(folder / "episode.npy", np.array(episodes[:count], np.int64), allow_pickle=False)
        write_json(folder / "depth.json", {"task": collection.task, "seed": collection.seed, "frames": count, "camera": asdict(env.task.camera)})
    env.close()
