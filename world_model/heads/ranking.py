"""How well numbers put things in order: the area under the ROC curve, and rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1 of ``values (N,)``; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return shared


def auroc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Probability that a positive gets a higher score than a negative, a tie counting one half (Mann and Whitney 1947). NaN without both kinds.

    ``scores (N,)`` and ``positive (N,) bool``.
    """
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return float("nan")
    return float((ranks(scores)[positive].sum() - count * (count + 1) / 2) / (count * others))


def spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Rank correlation of ``first (N,)`` with ``second (N,)``: Pearson's correlation of their ranks. NaN where one of them is constant."""
    a, b = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def bootstrap_auroc(
    scores: NDArray[np.floating],
    positive: NDArray[np.bool_],
    known: NDArray[np.bool_],
    rng: np.random.Generator,
    resamples: int = 100,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the AUROC over whole trajectories drawn with replacement (Efron 1979): frames of one trajectory are not independent.

    ``scores (E, T)``, ``positive`` and ``known (E, T) bool``; only known frames count. NaN where no draw holds both kinds.
    """
    episodes = len(scores)
    draws = []
    for _ in range(resamples):
        index = rng.integers(episodes, size=episodes)
        counted = known[index]
        draws.append(auroc(scores[index][counted], positive[index][counted]))
    if np.all(np.isnan(draws)):
        return float("nan"), float("nan")
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
