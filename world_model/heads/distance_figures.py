"""What a temporal distance is worth, told by ground truth that it never saw."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from world_model.heads.distance import Distance
from world_model.heads.ranking import spearman


@torch.inference_mode()
def distance_figures(
    head: Distance, latents: Tensor, state: NDArray[np.float32] | None, rng: np.random.Generator, pairs: int = 20_000
) -> dict[str, float]:
    """Rank correlations on held-out episodes, ``latents (E, T+1, D)`` and true ``state (E, T+1, 6)``.

    ``steps``: with the recorded steps between two frames of one episode, in their order. ``steps_20``: the same, at most 20 steps apart. ``block``
    and ``tool``: with the true distance in m between any two scenes, also of different episodes, of the block or the tool. ``asymmetry``: mean of
    ``|d(s, g) - d(g, s)|`` over mean d. ``steps_per_step``: mean d over mean recorded steps.
    """
    episodes, length = latents.shape[:2]
    which = rng.integers(episodes, size=pairs)
    ends = np.sort(np.argsort(rng.random((pairs, length)), axis=1)[:, :2], axis=1)
    apart = (ends[:, 1] - ends[:, 0]).astype(np.float64)
    forward = _steps(head, latents[which, ends[:, 0]], latents[which, ends[:, 1]])
    near = apart <= 20
    figures = {"steps": spearman(forward, apart), "steps_20": spearman(forward[near], apart[near])}
    if state is not None:
        (first, second), (at, to) = rng.integers(episodes, size=(2, pairs)), rng.integers(length, size=(2, pairs))
        seen = _steps(head, latents[first, at], latents[second, to])
        for name, columns in (("block", slice(3, 5)), ("tool", slice(0, 3))):
            gap = np.linalg.norm(state[first, at][:, columns] - state[second, to][:, columns], axis=1)
            if gap.any():
                figures[name] = spearman(seen, gap)
    back = _steps(head, latents[which, ends[:, 1]], latents[which, ends[:, 0]])
    figures["asymmetry"] = float(np.abs(forward - back).mean() / forward.mean())
    figures["steps_per_step"] = float(forward.mean() / apart.mean())
    return figures


def _steps(head: Distance, latents: Tensor, goals: Tensor) -> NDArray[np.float64]:
    steps: NDArray[np.float64] = head(latents, goals).double().numpy()
    return steps
