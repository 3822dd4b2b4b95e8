"""The guardrail head: how far a scene is from what is forbidden, learned from 20 to 1,000 labelled frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from world_model.heads.conformal import missed
from world_model.heads.ensemble import Ensemble, EnsembleConfig, fit_ensemble
from world_model.heads.labels import LabelError, Labels
from world_model.heads.ranking import auroc, bootstrap_auroc

# Found on the push data at 50, 200 and 1,000 frames; classes say less than distances and need a stronger pull.
_DISTANCES = EnsembleConfig(members=6, steps=200, learning_rate=6e-3, weight_decay=2.0)
_CLASSES = EnsembleConfig(members=6, steps=200, learning_rate=6e-3, weight_decay=10.0)


def guardrail_targets(labels: Labels, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is regressed for label ``values (N,)``: classes as they are, distances saturated at their median size.

    Only the boundary matters: how far is far is not worth a small network's capacity.

    Raises:
        LabelError: the values are no margins or classes, or all frames are of one kind.
    """
    if labels.kind not in ("margin", "class"):
        raise LabelError(f"'{labels.source}' is a number, a guardrail needs to know what is forbidden; write for example {labels.source} > 0.5")
    forbidden = int((values < 0).sum())
    if forbidden in (0, len(values)):
        kind = "forbidden" if forbidden else "safe"
        raise LabelError(f"all {len(values)} labelled frames are {kind}: a guardrail needs some of both kinds; label more")
    if labels.kind == "class":
        return values
    limit = np.median(np.abs(values))
    return np.clip(values, -limit, limit)


def fit_guardrail(
    labels: Labels, unlabelled: Tensor, latents: NDArray[np.float32], values: NDArray[np.float64], generator: torch.Generator
) -> Ensemble:
    """A head on ``latents (N, D)`` with label ``values (N,)``; its output ``(N, 1)`` grows with safety, in the unit of the labels.

    ``unlabelled (..., D)`` are further latents of the data, whose mean and variance are used.

    Raises:
        LabelError: the labels are of the wrong kind, or of one kind only.
    """
    targets = torch.from_numpy(guardrail_targets(labels, values).astype(np.float32))[:, None]
    config = _CLASSES if labels.kind == "class" else _DISTANCES
    return fit_ensemble(unlabelled, torch.from_numpy(latents), targets, config, generator)


@dataclass(frozen=True)
class GuardrailFigures:
    """How a calibrated guardrail does on trajectories that it never saw: plain numbers for ``head.json``.

    ``missed`` of ``trajectories`` with an unsafe frame had one that was taken for safe; of the truly safe frames the share ``false_alarms`` was not.
    """

    auroc: float
    auroc_ci95: tuple[float, float]
    trajectories: int
    missed: int
    false_alarms: float
    test_frames: int


def measure_guardrail(scores: NDArray[np.float32], labels: Labels, threshold: float, rng: np.random.Generator) -> GuardrailFigures:
    """Figures from ``scores (E, T+1)`` of test trajectories with their ``labels``; frames without a label count for nothing."""
    known, unsafe = labels.known, labels.unsafe
    misses = missed(scores, unsafe, threshold)
    safe = known & ~unsafe
    return GuardrailFigures(
        auroc=auroc(-scores[known], unsafe[known]),
        auroc_ci95=bootstrap_auroc(-scores, unsafe, known, rng),
        trajectories=len(misses),
        missed=int(misses.sum()),
        false_alarms=float((scores[safe] < np.float32(threshold)).mean()) if safe.any() else 0.0,
        test_frames=int(known.sum()),
    )
