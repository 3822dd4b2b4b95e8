"""Statistics of a data set as LeRobot keeps them, for normalisation: exact, over every row and every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def of_values(values: NDArray[Any]) -> dict[str, Any]:
    """Statistics over rows of ``values (N, K)``, a list of K numbers each, and ``count`` = [N]."""
    numbers = values.astype(np.float64)
    found = {"min": numbers.min(0), "max": numbers.max(0), "mean": numbers.mean(0), "std": numbers.std(0)}
    found |= {name: np.quantile(numbers, share, axis=0) for name, share in QUANTILES.items()}
    return {name: value.tolist() for name, value in found.items()} | {"count": [len(numbers)]}


def histogram(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each of the 256 shades occurs in each channel of ``frames (N, h, w, 3)``: ``(3, 256)``. Those of several parts add up."""
    return np.stack([np.bincount(frames[..., channel].ravel(), minlength=256) for channel in range(3)])


def _around(place: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.floor(place), np.ceil(place)


def of_pictures(shades: NDArray[np.int64], frames: int) -> dict[str, Any]:
    """Statistics of each channel, white being 1, as lists of shape (3, 1, 1), from their histograms ``(3, 256)``; ``count`` = [frames]."""
    levels = np.arange(256) / 255.0
    total = shades.sum(1)
    mean = shades @ levels / total
    std = np.sqrt(np.maximum(shades @ levels**2 / total - mean**2, 0.0))
    cumulative = shades.cumsum(1)
    found = {"min": [levels[row > 0][0] for row in shades], "max": [levels[row > 0][-1] for row in shades], "mean": mean, "std": std}
    for name, share in QUANTILES.items():
        # The q-quantile of n sorted values lies at place q (n - 1), between two of them.
        place = share * (total - 1)
        low, high = (np.array([np.searchsorted(*pair, side="right") for pair in zip(cumulative, end, strict=True)]) for end in _around(place))
        found[name] = levels[low] + (place - np.floor(place)) * (levels[high] - levels[low])
    return {name: np.reshape(value, (3, 1, 1)).tolist() for name, value in found.items()} | {"count": [frames]}
