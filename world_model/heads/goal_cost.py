"""A goal cost: one number for a frame, as a person would give it, or as a rule computes it. It needs no goal picture."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from world_model.heads.ensemble import Ensemble, EnsembleConfig, fit_ensemble
from world_model.heads.labels import LabelError, Labels
from world_model.heads.ranking import spearman

_CONFIG = EnsembleConfig(members=6, steps=300, learning_rate=6e-3, weight_decay=2.0)


def fit_goal_cost(
    labels: Labels, unlabelled: Tensor, latents: NDArray[np.float32], values: NDArray[np.float64], generator: torch.Generator
) -> Ensemble:
    """A head on ``latents (N, D)`` with the ``values (N,)`` that they were given; the lower, the better.

    Raises:
        LabelError: all frames were given the same value.
    """
    if np.ptp(values) == 0:
        raise LabelError(f"'{labels.source}' gives all {len(values)} labelled frames the same value: nothing can be learned from that")
    targets = torch.from_numpy(values.astype(np.float32))[:, None]
    return fit_ensemble(unlabelled, torch.from_numpy(latents), targets, _CONFIG, generator)


def goal_cost_figures(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> dict[str, float]:
    """R2, RMS error and rank correlation of ``predicted (N,)`` with ``truth (N,)``."""
    squared = float(((predicted - truth) ** 2).mean())
    return {"r2": 1.0 - squared / max(float(truth.var()), 1e-12), "rmse": squared**0.5, "spearman": spearman(predicted, truth)}
