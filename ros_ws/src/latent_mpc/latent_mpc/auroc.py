"""How well a score tells events from ordinary frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def auroc95(events: F64, runs: Sequence[F64], rng: np.random.Generator, resamples: int = 2000) -> tuple[float, float, float]:
    """Area under the ROC curve, P(event > ordinary) + P(equal) / 2, and its 95 % interval.

    ``events (E,)``: one score each; ``runs``: the scores of the ordinary frames of each run. The interval is the percentile bootstrap over events and
    over whole runs, since frames of one run resemble each other.

    Raises:
        ValueError: there are no events or no ordinary frames.
    """
    kept = [scores for scores in runs if len(scores)]
    if not len(events) or not kept:
        raise ValueError("an AUROC needs events and ordinary frames")
    wins = np.stack([_wins(events, np.sort(scores)) for scores in kept])
    frames = np.array([len(scores) for scores in kept], dtype=np.float64)
    area = float(wins.sum() / (len(events) * frames.sum()))
    draws = np.empty(resamples)
    for i in range(resamples):
        chosen_runs = np.bincount(rng.integers(len(kept), size=len(kept)), minlength=len(kept))
        chosen_events = np.bincount(rng.integers(len(events), size=len(events)), minlength=len(events))
        draws[i] = chosen_runs @ wins @ chosen_events / (len(events) * (chosen_runs @ frames))
    low, high = np.quantile(draws, [0.025, 0.975])
    return area, float(low), float(high)


def _wins(events: F64, ordinary: F64) -> F64:
    """For each event the number of ``ordinary`` scores (sorted) below it, half of the equal ones included."""
    below = np.searchsorted(ordinary, events, side="left")
    up_to = np.searchsorted(ordinary, events, side="right")
    wins: F64 = 0.5 * (below + up_to).astype(np.float64)
    return wins
