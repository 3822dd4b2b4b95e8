"""A position probe: where tool and block are, read off the latent. It says what the latent knows; for people and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from world_model.heads.ensemble import Ensemble, EnsembleConfig, fit_ensemble

F64 = NDArray[np.float64]
_RIDGE = 1.0
_LEAST_SPREAD = 1e-3
_COLUMNS = ("tool_x", "tool_y", "tool_z", "block_x", "block_y", "sin_4yaw", "cos_4yaw")
_GROUPS = {"tool": ("tool_x", "tool_y", "tool_z"), "block": ("block_x", "block_y"), "yaw": ("sin_4yaw", "cos_4yaw")}
_CONFIG = EnsembleConfig(members=4, width=128, steps=600, learning_rate=4e-3, weight_decay=0.3)


def probe_targets(state: NDArray[np.floating]) -> tuple[F64, tuple[str, ...]]:
    """What can be read off ``state (..., 6)``, and its names: only what varies, such as no height where the tool slides on the table.

    The block is square: its yaw has a symmetry of 90 degrees, so the sine and cosine of four times it are what a picture can show.
    """
    flat = state.astype(np.float64).reshape(-1, 6)
    values = np.concatenate([flat[:, :5], np.sin(4 * flat[:, 5:]), np.cos(4 * flat[:, 5:])], axis=1)
    varies = np.flatnonzero(values.std(0) > _LEAST_SPREAD)
    chosen: F64 = values[:, varies].reshape(*state.shape[:-1], len(varies))
    return chosen, tuple(_COLUMNS[index] for index in varies)


def fit_ridge(latents: NDArray[np.floating], targets: F64) -> F64:
    """Weights ``(D+1, K)`` of a ridge regression from ``latents (N, D)`` to ``targets (N, K)``, the bias last."""
    inputs = _with_one(latents)
    weights: F64 = np.asarray(np.linalg.solve(inputs.T @ inputs + _RIDGE * np.eye(inputs.shape[1]), inputs.T @ targets), np.float64)
    return weights


def ridge_values(weights: F64, latents: NDArray[np.floating]) -> F64:
    """Predictions ``(N, K)``."""
    return _with_one(latents) @ weights


def fit_probe(unlabelled: Tensor, latents: NDArray[np.float32], targets: F64, generator: torch.Generator) -> Ensemble:
    """Small networks from ``latents (N, D)`` to ``targets (N, K)``."""
    return fit_ensemble(unlabelled, torch.from_numpy(latents), torch.from_numpy(targets.astype(np.float32)), _CONFIG, generator)


def probe_figures(predicted: NDArray[np.floating], truth: F64, columns: Sequence[str]) -> dict[str, float]:
    """R2 and, for places, RMS and median error in cm of ``predicted (N, K)`` for tool, block and yaw, as far as ``columns`` name them.

    R2 of a group is 1 - (sum of squared errors) / (sum of squared deviations from the mean), over all its columns.
    """
    figures: dict[str, float] = {}
    for name, members in _GROUPS.items():
        index = [number for number, column in enumerate(columns) if column in members]
        if not index:
            continue
        squared = (predicted[:, index] - truth[:, index]) ** 2
        spread = ((truth[:, index] - truth[:, index].mean(0)) ** 2).sum()
        figures[f"{name}_r2"] = float(1 - squared.sum() / spread)
        if name != "yaw":
            figures[f"{name}_rmse_cm"] = float(100 * np.sqrt(squared.sum(1).mean()))
            figures[f"{name}_median_cm"] = float(100 * np.median(np.sqrt(squared.sum(1))))
    return figures


def _with_one(latents: NDArray[np.floating]) -> F64:
    flat = np.asarray(latents, dtype=np.float64)
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
