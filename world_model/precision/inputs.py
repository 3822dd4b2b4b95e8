"""What graphs are calibrated and judged on: scenes from recorded episodes, and random numbers beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_model.bundle import BundleError, Manifest
from world_model.data import EpisodeDataset
from world_model.precision.integer import Feed
from world_model.precision.tolerance import Episodes
from world_model.protocol import F32
from world_model.runtime import OnnxModel

# Steps that a rollout is judged over.
HORIZON = 8
_ZONES = 2
_GOALS = 8


@dataclass(frozen=True)
class Inputs:
    """K scenes, and what is in them.

    ``frames (K, L, h, w, 3) uint8`` of the context, ``goals (K, h, w, 3) uint8``; ``joints (K, L, J)`` rad, J = 0 without proprioception;
    ``past_actions (K, L-1, A)``, ``actions (K, H, A)``; ``steps_left (K,)``; ``latents (K, L, D)`` and ``goal_latents (K, D)``.
    """

    frames: NDArray[np.uint8]
    goals: NDArray[np.uint8]
    joints: F32
    past_actions: F32
    actions: F32
    steps_left: F32
    latents: F32
    goal_latents: F32

    @property
    def count(self) -> int:
        """How many scenes."""
        return len(self.frames)

    def taken(self, part: slice) -> Inputs:
        """Some of the scenes."""
        return Inputs(**{name: values[part] for name, values in vars(self).items()})


def recorded(dataset: EpisodeDataset, model: OnnxModel, count: int, rng: np.random.Generator, episodes: NDArray[np.intp] | None = None) -> Inputs:
    """Scenes from episodes of ``dataset``, all or those in ``episodes``: a goal is the frame 1 to ``actor_steps`` steps after the newest.

    Raises:
        BundleError: the data have other frames or actions than the bundle, lack the joints that it wants, or their episodes are too short.
    """
    manifest, length = model.manifest, model.history
    horizon = min(HORIZON, manifest.horizon or HORIZON)
    where = dataset.directory
    if dataset.frame != manifest.frame or dataset.action_dim != manifest.action_dim:
        raise BundleError(
            f"{where} has frames {dataset.frame} and {dataset.action_dim} action components, the bundle {manifest.frame} and {manifest.action_dim}"
        )
    if dataset.steps < length + horizon:
        raise BundleError(f"{where} has episodes of {dataset.steps} steps; {length + horizon} are needed")
    all_joints = dataset.joints() if manifest.proprioception else None
    if manifest.proprioception and (all_joints is None or all_joints.shape[2] != manifest.proprioception):
        raise BundleError(f"{where} lacks the {manifest.proprioception} joint positions that the bundle's encoder takes")
    known = np.arange(dataset.episodes) if episodes is None else episodes
    chosen = rng.choice(known, count, replace=count > len(known))
    begins = rng.integers(0, dataset.steps + 1 - length - horizon + 1, count)
    newest = begins + length - 1
    most = np.minimum(dataset.steps - newest, manifest.actor_steps[1])
    ahead = rng.integers(1, most + 1)
    actions = dataset.actions()
    rows = chosen[:, None]
    frames = dataset.windows(chosen, begins, length)
    goals = dataset.windows(chosen, newest + ahead, 1)[:, 0]
    joints = np.zeros((count, length, 0), np.float32) if all_joints is None else all_joints[rows, begins[:, None] + np.arange(length)]
    goal_latents = model.encode(goals)
    latents = model.encode(frames.reshape(-1, *manifest.frame), joints.reshape(count * length, -1)).reshape(count, length, -1)
    return Inputs(
        frames,
        goals,
        joints,
        np.ascontiguousarray(actions[rows, begins[:, None] + np.arange(length - 1)]),
        np.ascontiguousarray(actions[rows, newest[:, None] + np.arange(horizon)]),
        np.clip(ahead, *manifest.actor_steps).astype(np.float32),
        latents,
        goal_latents,
    )


def whole_episodes(dataset: EpisodeDataset, manifest: Manifest, chosen: NDArray[np.intp]) -> Episodes:
    """The ``chosen`` episodes, for what is judged over time."""
    frames = dataset.windows(chosen, np.zeros(len(chosen), np.intp), dataset.steps + 1)
    all_joints = dataset.joints() if manifest.proprioception else None
    joints = np.zeros((*frames.shape[:2], 0), np.float32) if all_joints is None else all_joints[chosen]
    return Episodes(frames, joints, dataset.actions()[chosen])


def split(dataset: EpisodeDataset, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Episodes to calibrate on, and others to judge on: halves of all, drawn.

    Raises:
        BundleError: there is one episode only.
    """
    if dataset.episodes < 2:
        raise BundleError(f"{dataset.directory} holds one episode; two are needed, one to calibrate on and another to judge on")
    order = rng.permutation(dataset.episodes)
    return order[: len(order) // 2], order[len(order) // 2 :]


def random_inputs(manifest: Manifest, count: int, rng: np.random.Generator) -> Inputs:
    """Noise in every input: pictures no camera takes, latents of unit variance as training makes them."""
    length, dim, horizon = manifest.history, manifest.latent_dim, min(HORIZON, manifest.horizon or HORIZON)
    return Inputs(
        rng.integers(0, 256, (count, length, *manifest.frame), dtype=np.uint8),
        rng.integers(0, 256, (count, *manifest.frame), dtype=np.uint8),
        rng.uniform(-2, 2, (count, length, manifest.proprioception)).astype(np.float32),
        rng.uniform(-1, 1, (count, length - 1, manifest.action_dim)).astype(np.float32),
        rng.uniform(-1, 1, (count, horizon, manifest.action_dim)).astype(np.float32),
        rng.uniform(*manifest.actor_steps, count).astype(np.float32),
        rng.standard_normal((count, length, dim)).astype(np.float32),
        rng.standard_normal((count, dim)).astype(np.float32),
    )


def feeds(graph: str, inputs: Inputs, manifest: Manifest) -> list[Feed]:
    """What the graph called ``graph`` is run with: a few feeds that cover all scenes, or some where each has a goal of its own."""
    kind, _, shape = graph.partition(".")
    if kind in ("encoder", "witness"):
        frames = np.concatenate([inputs.frames.reshape(-1, *manifest.frame), inputs.goals])
        feed: dict[str, NDArray[Any]] = {"frames": frames}
        if manifest.proprioception:
            known = inputs.joints.reshape(-1, manifest.proprioception)
            feed["joints"] = np.concatenate([known, np.full((inputs.count, manifest.proprioception), np.nan, np.float32)])
        return [feed]
    if kind in ("heads", "actor"):
        return list(_towards_goals(kind, inputs))
    if kind == "rollout" and not shape:
        return [{"latents": inputs.latents, "past_actions": inputs.past_actions, "actions": inputs.actions}]
    return list(_fixed(kind, shape, inputs, manifest))


def _towards_goals(kind: str, inputs: Inputs) -> Iterator[Feed]:
    now = np.ascontiguousarray(inputs.latents[:, -1])
    for goal in inputs.goal_latents[:_GOALS]:
        yield {"latents": now, "goal": goal} | ({"steps_left": inputs.steps_left} if kind == "actor" else {})


def _fixed(kind: str, shape: str, inputs: Inputs, manifest: Manifest) -> Iterator[Feed]:
    """Feeds of graphs that take N candidates from one context, and of those whose shape is fixed, such as ``300x5``."""
    count, horizon = (int(number) for number in shape.split("x")[:2]) if shape else (inputs.count, inputs.actions.shape[1])
    zones = int(shape.split("x")[2]) if shape.count("x") == 2 else _ZONES
    rng = np.random.default_rng(0)
    for scene in range(min(_GOALS, inputs.count)):
        rows = np.arange(scene, scene + count) % inputs.count
        ahead = np.concatenate([inputs.actions[rows]] * -(-horizon // inputs.actions.shape[1]), axis=1)[:, :horizon]
        if kind == "rollout":
            yield {"latents": inputs.latents[rows], "past_actions": inputs.past_actions[rows], "actions": np.ascontiguousarray(ahead)}
            continue
        lower, upper = (np.array(manifest.tool_step[key], np.float32) for key in ("lower", "upper"))
        yield {
            "latents": inputs.latents[scene : scene + 1],
            "past_actions": inputs.past_actions[scene : scene + 1],
            "actions": np.ascontiguousarray(ahead),
            "goal": inputs.goal_latents[scene],
            "steps_left": np.array(inputs.steps_left[scene], np.float32),
            "tool": rng.uniform(lower, upper).astype(np.float32),
            "zones": _zones(rng, zones, lower, upper),
        }


def _zones(rng: np.random.Generator, count: int, lower: F32, upper: F32) -> F32:
    """Upright boxes in the workspace, ``(Z, 6)``."""
    centre = rng.uniform(lower[:2], upper[:2], (count, 2))
    rest = rng.uniform((0.01, 0.01, -np.pi, 0.0), (0.08, 0.08, np.pi, 0.03), (count, 4))
    return np.concatenate([centre, rest], axis=1).astype(np.float32)


def opened_data(folder: Path) -> EpisodeDataset:
    """The data set in ``folder``.

    Raises:
        DatasetError: it is missing or damaged.
    """
    return EpisodeDataset(folder)
