"""Simulated episodes, collected in parallel: the same episodes for the same seed, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latent_mpc.shard_collection import collect_shards
from sim.appearance import NOMINAL, Appearance, draw_appearance
from sim.exploration import ExplorationMix, exploration_for
from sim.tasks import PicturedGoalEnv, make_env, task_named
from sim.tasks.task import State
from world_model.bundle import bundle_sha256, read_manifest
from world_model.protocol import PlanningModel
from world_model.runtime import OnnxModel

_ACTOR_STEPS = (8, 29)
_MODE_SHARE = 0.6
# Beyond what robustness is evaluated at, so that the edge is inside.
_STRONGEST_APPEARANCE = 1.2
_APPEARANCE_STREAM = 1


class _Recording:
    """An episode as it grows: what is seen, true and measured before each action and after the last."""

    def __init__(self, env: PicturedGoalEnv) -> None:
        self._env = env
        self._actions: list[NDArray[np.float32]] = []
        self.frames: list[NDArray[np.uint8]] = []
        self.states: list[State] = []
        self._joints: list[NDArray[np.float64]] = []
        self._look()

    def move(self, action: NDArray[np.float32]) -> None:
        """Carry out ``action (A,)`` and look."""
        self._env.move(action)
        self._actions.append(action)
        self._look()

    def arrays(self) -> Recorded:
        """What was recorded, as the format wants it."""
        state = np.stack([flat_state(state) for state in self.states])
        return Recorded(np.stack(self.frames), np.stack(self._actions), state, np.stack(self._joints).astype(np.float32))

    def _look(self) -> None:
        self.frames.append(self._env.render())
        self.states.append(self._env.state())
        self._joints.append(self._env.world.joints()[0])


class Recorded(NamedTuple):
    """One episode: ``frames (T+1, h, w, 3) uint8``, ``actions (T, A)``, ``state (T+1, 6)`` and measured ``joints (T+1, J) rad``, all float32."""

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    state: NDArray[np.float32]
    joints: NDArray[np.float32]


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
    episodes: int = 25
    steps: int = 40
    randomised: float = 0.0
    mix: ExplorationMix = field(default_factory=ExplorationMix)

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


def explore(env: PicturedGoalEnv, rng: np.random.Generator, steps: int, mix: ExplorationMix) -> Recorded:
    """One exploring episode."""
    policy = exploration_for(env.task, rng, mix=mix)
    env.place(*policy.start())
    recording = _Recording(env)
    for _ in range(steps):
        recording.move(policy.act(recording.states[-1], env.commanded))
    return recording.arrays()


def take_over(env: PicturedGoalEnv, rng: np.random.Generator, model: PlanningModel, steps: int) -> Recorded:
    """One episode towards a drawn goal in which the actor acts for 8 to 28 steps and the script goes on from wherever that led."""
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    assert env.episode is not None
    block = env.episode.goal_block
    script = exploration_for(env.task, rng, np.array(env.episode.goal_tool) if block is None else np.array([block.x, block.y]))
    goal = model.encode(observation["goal"][None])[0]
    switch = int(rng.integers(*_ACTOR_STEPS))
    recording = _Recording(env)
    for step in range(steps):
        if step < switch:
            mixture = model.propose(model.encode(recording.frames[-1][None]), goal, np.array([env.task.steps - step], dtype=np.float32))
            action = (mixture.mode() if rng.random() < _MODE_SHARE else mixture.sample(rng))[0]
        else:
            action = script.act(recording.states[-1], env.commanded)
        recording.move(action)
    return recording.arrays()


class TaskCollector:
    """Makes shards of a simulated task; one simulator for each."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._env = make_env(collection.task)
        self._model = None if collection.actor is None else OnnxModel(collection.actor)

    def shard(self, index: int) -> dict[str, NDArray[Any]]:
        """The arrays of shard ``index``: every episode has a generator of its own, whoever collects it."""
        episodes = [self._episode(index, number) for number in range(self._collection.episodes)]
        return dict(zip(Recorded._fields, (np.stack(arrays) for arrays in zip(*episodes, strict=True)), strict=True))

    def _episode(self, index: int, number: int) -> Recorded:
        asked = self._collection
        rng = np.random.default_rng([asked.seed, index, number])
        self._env.appear(asked.appearance(index, number))
        return explore(self._env, rng, asked.steps, asked.mix) if self._model is None else take_over(self._env, rng, self._model, asked.steps)


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
        "mix": asdict(collection.mix) if collection.actor is None else None,
        "actor": None if collection.actor is None else bundle_sha256(read_manifest(collection.actor)),
        "steps": collection.steps,
        "episodes_per_shard": collection.episodes,
    }
    collect_shards(collection.out, description, collection.shards, partial(TaskCollector, collection), workers, report)
