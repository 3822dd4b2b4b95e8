"""Where a search begins: at what is left of the last plan."""

from __future__ import annotations

import numpy as np

from planner_node.solvers.search import Search
from world_model.protocol import F32

# What follows the end of the last plan is its last action, fainter.
_FADE = 0.5


def warm_start(search: Search, horizon: int) -> F32:
    """Actions ``(horizon, A)``: the best that others found in the same search, else what is left of the last plan, else none."""
    found = search.best(horizon)
    if found is not None:
        return found.copy()
    previous = search.problem.previous
    if previous is None or len(previous) == 0:
        return np.zeros((horizon, search.action_dim), dtype=np.float32)
    warm: F32 = filled(previous[None], horizon)[0]
    return warm


def filled(actions: F32, horizon: int) -> F32:
    """Sequences ``(N, H, A)``, H at least 1, cut to ``horizon``, or filled at the end with half of the last action."""
    kept = actions[:, :horizon]
    tail = np.repeat(_FADE * kept[:, -1:], horizon - kept.shape[1], axis=1)
    whole: F32 = np.concatenate([kept, tail], axis=1).astype(np.float32)
    return whole
