"""What a latent knows: linear probes from latents to ground truth. For evaluation; nothing is trained into the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from world_model.heads.probe import fit_ridge, probe_figures, probe_targets, ridge_values


def probe_errors(
    latents: NDArray[np.float32], state: NDArray[np.float32], train_latents: NDArray[np.float32], train_state: NDArray[np.float32]
) -> dict[str, float]:
    """How well ridge regressions from ``latents (E, T, D)`` find ``state (E, T, 6)``: RMS errors in cm of tool and, where there is one, block.

    Beside them R2 of tool, block and yaw (as sine and cosine of four times it: the block is square).
    """
    dim = latents.shape[-1]
    both, columns = probe_targets(np.concatenate([train_state.reshape(-1, 6), state.reshape(-1, 6)]))
    count = train_state.reshape(-1, 6).shape[0]
    weights = fit_ridge(train_latents.reshape(-1, dim), both[:count])
    figures = probe_figures(ridge_values(weights, latents.reshape(-1, dim)), both[count:], columns)
    return {name: value for name, value in figures.items() if not name.endswith("median_cm")}
