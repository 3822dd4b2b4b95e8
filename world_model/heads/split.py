"""Which episodes teach, which calibrate and which test: never the same, because frames of one episode resemble each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FIT_SHARE, _CALIBRATION_SHARE = 0.4, 0.3


@dataclass(frozen=True)
class Split:
    """Episode numbers: ``fit`` that labelled frames are drawn from, ``calibration`` for the threshold, ``test`` for what is reported."""

    fit: NDArray[np.intp]
    calibration: NDArray[np.intp]
    test: NDArray[np.intp]


def split_episodes(episodes: NDArray[np.intp], rng: np.random.Generator) -> Split:
    """``episodes`` in random order, cut at 40 % and 70 %."""
    order = rng.permutation(episodes)
    first, second = (round(share * len(order)) for share in (_FIT_SHARE, _FIT_SHARE + _CALIBRATION_SHARE))
    return Split(order[:first], order[first:second], order[second:])


def draw_frames(known: NDArray[np.bool_], count: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """``count`` labelled frames drawn uniformly without replacement, or all if there are fewer: rows and columns of ``known (E, T+1) bool``."""
    rows, columns = np.nonzero(known)
    chosen = rng.permutation(len(rows))[:count]
    return rows[chosen], columns[chosen]
