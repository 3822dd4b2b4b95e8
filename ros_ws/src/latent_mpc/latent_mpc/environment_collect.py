"""Episodes of any Gymnasium environment, collected in parallel: the same for the same seed, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.environment import RANDOM, EnvironmentConfig, PictureEnvironment, PictureEnvironmentError, action_source
from latent_mpc.shard_collection import collect_shards

_MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class EnvironmentCollection:
    """What to collect: ``shards`` of ``episodes`` of ``steps`` actions by ``policy``, ``random`` or ``module:callable``."""

    environment: EnvironmentConfig
    shards: int
    seed: int
    out: Path
    policy: str = RANDOM
    episodes: int = 25
    steps: int = 40


class EnvironmentCollector:
    """Makes shards of one environment."""

    def __init__(self, collection: EnvironmentCollection) -> None:
        self._collection = collection
        self._env = PictureEnvironment(collection.environment)

    def shard(self, index: int) -> dict[str, NDArray[Any]]:
        """The arrays of shard ``index``."""
        episodes = [self._episode(index, number) for number in range(self._collection.episodes)]
        frames, actions = (np.stack(arrays) for arrays in zip(*episodes, strict=True))
        return {"frames": frames, "actions": actions}

    def _episode(self, index: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The first episode of the full length that this place's generators lead to; shorter ones are dropped."""
        for attempt in range(_MOST_ATTEMPTS):
            episode = self._play(np.random.default_rng([self._collection.seed, index, number, attempt]))
            if episode is not None:
                return episode
        asked = self._collection
        raise PictureEnvironmentError(f"{asked.environment.id} ended {_MOST_ATTEMPTS} episodes before step {asked.steps}: give fewer --episode-steps")

    def _play(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
        source = action_source(self._collection.policy, self._env, rng)
        seen = self._env.reset(int(rng.integers(2**31)))
        frames, actions = [seen.frame], []
        for _ in range(self._collection.steps):
            if seen.ended:
                return None
            actions.append(source.act(seen.observation))
            seen = self._env.step(actions[-1])
            frames.append(seen.frame)
        return np.stack(frames), np.stack(actions)


def collect_environment(collection: EnvironmentCollection, workers: int, report: Callable[[int, int], None]) -> None:
    """Collect every shard that ``collection.out`` does not hold yet; ``report(done, all)`` after each.

    Raises:
        PictureEnvironmentError: the environment cannot be used, or its episodes are too short.
        NamedObjectError: a module or callable does not exist.
        DatasetError: the folder holds another collection.
    """
    # Opened here once, so that what is wrong with it is said before any worker starts.
    env = PictureEnvironment(collection.environment)
    action_source(collection.policy, env, np.random.default_rng(0))
    description = {
        **env.describe(),
        "seed": collection.seed,
        "policy": collection.policy,
        "steps": collection.steps,
        "episodes_per_shard": collection.episodes,
    }
    env.close()
    collect_shards(collection.out, description, collection.shards, partial(EnvironmentCollector, collection), workers, report)
