"""How far two computations of the same lie apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from world_model.bundle import Manifest
from world_model.precision.integer import Feed
from world_model.score import Score, ScoreSettings
from world_model.training import Learned

Outputs = Sequence[NDArray[Any]]
Run = Callable[[Feed], Outputs]


@dataclass(frozen=True)
class Figures:
    """``worst`` and ``mean`` absolute difference over all outputs; ``relative``: the mean one over the mean size of what is right.

    ``cosine_least`` and ``cosine_mean`` of latents, None where a graph makes none. Of several outputs the worst counts.
    """

    worst: float
    mean: float
    relative: float
    cosine_least: float | None
    cosine_mean: float | None

    def as_json(self) -> dict[str, float | None]:
        """Plain numbers."""
        return asdict(self)


def figures(reference: Run, candidate: Run, feeds: Sequence[Feed], latents: int | None) -> Figures:
    """Of ``candidate`` beside ``reference`` on ``feeds``; output number ``latents`` holds latents.

    What is not finite on one side only counts as infinitely far.
    """
    right, found = ([_stacked(outputs) for outputs in zip(*(run(feed) for feed in feeds), strict=True)] for run in (reference, candidate))
    differences = [_difference(a, b) for a, b in zip(right, found, strict=True)]
    sizes = [float(np.abs(values[np.isfinite(values)]).mean()) for values in right]
    cosines = None if latents is None else _cosines(right[latents], found[latents])
    return Figures(
        max(float(difference.max()) for difference in differences),
        max(float(difference.mean()) for difference in differences),
        max(float(difference.mean()) / max(size, 1e-9) for difference, size in zip(differences, sizes, strict=True)),
        None if cosines is None else float(cosines.min()),
        None if cosines is None else float(cosines.mean()),
    )


def _stacked(outputs: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Rows ``(rows, n)`` of the same output of several runs."""
    return np.concatenate([values.reshape(-1, values.shape[-1]).astype(np.float64) for values in outputs if values.size])


def _difference(right: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        difference = np.where((right == found) | (np.isnan(right) & np.isnan(found)), 0.0, np.abs(found - right))
    return np.where(np.isnan(difference), np.inf, difference)


def _cosines(right: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    product = np.linalg.norm(right, axis=1) * np.linalg.norm(found, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (right * found).sum(1) / product
    return np.where(np.isfinite(cosines), cosines, np.where((right == found).all(1), 1.0, -1.0))


def torch_runs(learned: Learned, manifest: Manifest, settings: ScoreSettings | None) -> dict[str, Run]:
    """The networks in torch, in fp32, by the graph that they became."""
    runs = {
        "encoder": _encode(learned),
        "rollout": _run(lambda feed: [learned.jepa.rollout(feed["latents"], feed["past_actions"], feed["actions"])]),
        "heads": _run(lambda feed: [learned.distance(feed["latents"], feed["goal"][None])]),
        "actor": _run(lambda feed: learned.actor(feed["latents"], feed["goal"].expand_as(feed["latents"]), feed["steps_left"])),
    }
    if settings is not None:
        score: nn.Module = Score(learned, manifest, settings)
        names = ("latents", "past_actions", "actions", "goal", "steps_left", "tool", "zones")
        runs["score"] = _run(lambda feed: score(*(feed[name] for name in names)))
    return runs


def _encode(learned: Learned) -> Run:
    return _run(lambda feed: [learned.jepa.encode(feed["frames"], feed.get("joints"))])


def _run(compute: Callable[[dict[str, Tensor]], Sequence[Tensor]]) -> Run:
    def run(feed: Feed) -> Outputs:
        with torch.inference_mode():
            return [value.numpy() for value in compute({name: torch.from_numpy(np.asarray(values)) for name, values in feed.items()})]

    return run
