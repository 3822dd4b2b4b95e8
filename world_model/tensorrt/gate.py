"""An engine is kept only if it computes what the graph computes: cosine of what both make of the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_model.bundle import Manifest

LEAST_COSINE = 0.999
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Agreement:
    """The least cosine of any row of any output, and the largest difference."""

    cosine: float
    difference: float

    @property
    def met(self) -> bool:
        """Whether the engine may be kept."""
        return self.cosine >= LEAST_COSINE


def agreement(reference: Arrays, candidate: Arrays) -> Agreement:
    """How far ``candidate`` is from ``reference``: arrays ``(N, ...)`` by the name of the output. What is not finite agrees with nothing.

    Outputs with one number a row, such as distances, are compared as one vector over all rows.
    """
    cosines, differences = [], []
    for name, expected in reference.items():
        found = candidate.get(name)
        if found is None or found.shape != expected.shape or not np.isfinite(found).all():
            return Agreement(-1.0, float("inf"))
        one, other = (array.reshape(len(expected), -1).astype(np.float64) for array in (expected, found))
        if one.shape[1] == 1:
            one, other = one.T, other.T
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        equal = (one == other).all(axis=1)
        cosines.append(float(np.where(equal, 1.0, (one * other).sum(axis=1) / np.maximum(norms, 1e-30)).min()))
        differences.append(float(np.abs(one - other).max()))
    return Agreement(min(cosines), max(differences))


def probe(manifest: Manifest, graph: str, rows: int, steps: int, rng: np.random.Generator, latents: NDArray[np.float32]) -> Arrays:
    """Inputs for ``graph``: smooth pictures, actions in [-1, 1], scenes drawn from ``latents (M, D)``, which the encoder made of such pictures."""
    drawn = latents[rng.integers(0, len(latents), (rows, manifest.history))] if len(latents) else np.empty(0, np.float32)
    if graph in ("encoder", "witness"):
        joints = {"joints": rng.uniform(-1, 1, (rows, manifest.proprioception)).astype(np.float32)} if manifest.proprioception else {}
        return {"frames": pictures(manifest.frame, rows, rng), **joints}
    if graph == "rollout":
        past = rng.uniform(-1, 1, (rows, manifest.history - 1, manifest.action_dim)).astype(np.float32)
        return {"latents": drawn, "past_actions": past, "actions": rng.uniform(-1, 1, (rows, steps, manifest.action_dim)).astype(np.float32)}
    scene: Arrays = {"latents": drawn[:, -1], "goal": latents[rng.integers(0, len(latents))]}
    if graph == "actor":
        scene["steps_left"] = rng.uniform(*manifest.actor_steps, rows).astype(np.float32)
    return scene


def pictures(frame: tuple[int, int, int], count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Smooth pictures ``(count, h, w, 3) uint8``: 4 x 4 colours, drawn at random, with straight lines between them."""
    height, width, channels = frame
    colours = rng.uniform(0, 255, (count, 4, 4, channels))
    down, across = np.linspace(0, 3, height), np.linspace(0, 3, width)
    low_y, low_x = np.minimum(down.astype(int), 2), np.minimum(across.astype(int), 2)
    share_y, share_x = (down - low_y)[:, None, None], (across - low_x)[None, :, None]
    top = colours[:, low_y][:, :, low_x] * (1 - share_x) + colours[:, low_y][:, :, low_x + 1] * share_x
    bottom = colours[:, low_y + 1][:, :, low_x] * (1 - share_x) + colours[:, low_y + 1][:, :, low_x + 1] * share_x
    result: NDArray[np.uint8] = np.round(top * (1 - share_y) + bottom * share_y).astype(np.uint8)
    return result
