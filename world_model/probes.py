"""What a latent knows: linear probes from latents to ground truth. For evaluation; nothing is trained into the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1.0


def probe_errors(
    latents: NDArray[np.float32], state: NDArray[np.float32], train_latents: NDArray[np.float32], train_state: NDArray[np.float32]
) -> dict[str, float]:
    """RMS errors in cm of ridge regressions from ``latents (E, T, D)`` to ``state (E, T, 6)``: the tool and, where there is one, the block."""

    def with_one(values: NDArray[np.float32]) -> NDArray[np.float64]:
        flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
        return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)

    inputs, tests = with_one(train_latents), with_one(latents)
    targets, truth = train_state.reshape(-1, 6).astype(np.float64), state.reshape(-1, 6).astype(np.float64)
    weights = np.linalg.solve(inputs.T @ inputs + _RIDGE * np.eye(inputs.shape[1]), inputs.T @ targets)
    squared = (tests @ weights - truth) ** 2
    errors = {"tool_rmse_cm": float(100 * np.sqrt(squared[:, :3].sum(1).mean()))}
    if np.any(truth[:, 3:5]):
        errors["block_rmse_cm"] = float(100 * np.sqrt(squared[:, 3:5].sum(1).mean()))
    return errors
