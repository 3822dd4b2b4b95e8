"""Manifests: which starts and goals an evaluation plays, with a fingerprint that says whether two evaluations played the same."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sim.tasks import Episode, PicturedGoalEnv

_SEED_STRIDE = 100_000
_SEED_OFFSET = 10_000


class ManifestError(ValueError):
    """A manifest that cannot be read or belongs to another task."""


@dataclass(frozen=True)
class EpisodeManifest:
    """Episodes in order, each with the evaluation seed that it was drawn for."""

    task: str
    seeds: tuple[int, ...]
    episodes: tuple[Episode, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all starts and goals."""
        text = json.dumps([episode.to_json() for episode in self.episodes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def episode_seed(seed: int, index: int) -> int:
    """The environment seed of episode ``index`` of evaluation seed ``seed``: the same with and without ROS."""
    return seed * _SEED_STRIDE + _SEED_OFFSET + index


def draw_manifest(
    env: PicturedGoalEnv, task: str, seeds: tuple[int, ...], count: int, suits: Callable[[Episode], bool] = lambda _: True
) -> EpisodeManifest:
    """The first ``count`` episodes of each seed that suit."""
    episodes = []
    for seed in seeds:
        drawn = (_drawn(env, episode_seed(seed, index)) for index in range(_SEED_STRIDE))
        episodes += list(itertools.islice((episode for episode in drawn if suits(episode)), count))
    return EpisodeManifest(task, seeds, tuple(episodes))


def _drawn(env: PicturedGoalEnv, seed: int) -> Episode:
    env.reset(seed=seed)
    assert env.episode is not None
    return env.episode


def write_manifest(file: Path, manifest: EpisodeManifest) -> None:
    """Write a manifest with its fingerprint."""
    content = {
        "task": manifest.task,
        "seeds": list(manifest.seeds),
        "fingerprint": manifest.fingerprint,
        "episodes": [episode.to_json() for episode in manifest.episodes],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")


def read_manifest(file: Path, task: str) -> EpisodeManifest:
    """Read a manifest back.

    Raises:
        ManifestError: it cannot be read, its fingerprint is off, or it belongs to another task.
    """
    try:
        content = json.loads(file.read_text())
        manifest = EpisodeManifest(
            str(content["task"]), tuple(int(s) for s in content["seeds"]), tuple(Episode.from_json(e) for e in content["episodes"])
        )
        fingerprint = content["fingerprint"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{file} is not a manifest of episodes: {error}") from error
    if manifest.fingerprint != fingerprint:
        raise ManifestError(f"{file}: the episodes are not those of its fingerprint")
    if not manifest.seeds or not manifest.episodes or len(manifest.episodes) % len(manifest.seeds):
        raise ManifestError(f"{file} holds {len(manifest.episodes)} episodes for {len(manifest.seeds)} seeds: not as many for each")
    if manifest.task != task:
        raise ManifestError(f"{file} is for task '{manifest.task}', not '{task}'")
    return manifest
