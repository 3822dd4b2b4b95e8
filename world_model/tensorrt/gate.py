"""An engine is kept only if it computes what the graph computes: cosine of what both make of the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
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


def probe(manifest: Manifest, graph: str, shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator, latents: NDArray[np.float32]) -> Arrays:
    """Inputs of ``shapes`` for ``graph``: smooth pictures, actions in [-1, 1], scenes drawn from ``latents (M, D)``, which the encoder made of such.

    A score's tool stands in the middle of the workspace, with zones of 2 to 8 cm anywhere in it.
    """
    kind = graph.partition(".")[0]
    if kind in ("encoder", "witness"):
        rows = shapes["frames"][0]
        joints = {"joints": rng.uniform(-1, 1, (rows, manifest.proprioception)).astype(np.float32)} if manifest.proprioception else {}
        return {"frames": pictures(manifest.frame, rows, rng), **joints}
    scene: Arrays = {"latents": latents[rng.integers(0, len(latents), shapes["latents"][:-1])]}
    for name in ("past_actions", "actions"):
        if name in shapes:
            scene[name] = rng.uniform(-1, 1, shapes[name]).astype(np.float32)
    if "goal" in shapes:
        scene["goal"] = latents[rng.integers(0, len(latents))]
    if "steps_left" in shapes:
        scene["steps_left"] = np.asarray(rng.uniform(*manifest.actor_steps, shapes["steps_left"]), np.float32)
    if kind == "score":
        lower, upper = (np.array(manifest.tool_step[key], np.float32) for key in ("lower", "upper"))
        scene["tool"] = (lower + upper) / 2
        where = rng.uniform(lower[:2], upper[:2], (shapes["zones"][0], 2))
        extent = rng.uniform((0.02, 0.02, -np.pi, 0), (0.08, 0.08, np.pi, 0.02), (len(where), 4))
        scene["zones"] = np.concatenate([where, extent], axis=1).astype(np.float32)
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
