"""What was known when: nearest stamps, unbroken stretches, values between two samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from latent_mpc.recording import Series


def nearest(known: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the nearest of the sorted times ``known (N,)`` to each of ``wanted (M,)``."""
    after = np.searchsorted(known, wanted).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    return np.where(np.abs(known[before] - wanted) <= np.abs(known[after] - wanted), before, after)


def stretches(good: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Begin and end of every unbroken run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    for first, last in edges.reshape(-1, 2):
        yield int(first), int(last)


def at(series: Series, times_ns: NDArray[np.int64], since_ns: int) -> NDArray[np.float64]:
    """Values ``(N, K)`` at ``times_ns``, linearly between what was said since ``since_ns``, held before the first and after the last."""
    newer = series.between(since_ns, int(series.times_ns[-1]) + 1)
    known = newer if len(newer.times_ns) else series
    # Nanoseconds since the epoch do not fit a double's 53 bits.
    grid, stamps = (times_ns - since_ns).astype(np.float64), (known.times_ns - since_ns).astype(np.float64)
    return np.stack([np.interp(grid, stamps, column) for column in known.values.T], axis=-1)


def held(series: Series, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Values ``(N, K)`` at ``times_ns``: the newest ones said by then, NaN before the first."""
    index = np.searchsorted(series.times_ns, times_ns, side="right") - 1
    return np.where(index[:, None] >= 0, series.values[index.clip(0)], np.nan)


def mean_held(series: Series, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean ``(N-1, K)`` between ``times_ns (N,)`` of values that hold until the next one is said; NaN where nothing was said by its begin."""
    inside = series.between(int(times_ns[0]) + 1, int(times_ns[-1]))
    grid = np.union1d(times_ns, inside.times_ns)
    seconds = np.diff(grid) / 1e9
    said = np.nan_to_num(held(series, grid[:-1]))
    total = np.concatenate([np.zeros((1, said.shape[1])), np.cumsum(said * seconds[:, None], axis=0)])
    mean = np.diff(total[np.searchsorted(grid, times_ns)], axis=0) / (np.diff(times_ns) / 1e9)[:, None]
    return np.where(times_ns[:-1, None] < series.times_ns[0], np.nan, mean)


def fading(series: Series, hold_ns: int) -> Series:
    """Velocities as an arm obeys them: a command that nobody repeats within ``hold_ns`` ends in a stop, and before the first there is none."""
    zero = np.zeros((1, series.values.shape[1]))
    silent = np.flatnonzero(np.diff(series.times_ns, append=np.iinfo(np.int64).max) > hold_ns)
    times = np.concatenate([[0], series.times_ns, series.times_ns[silent] + hold_ns])
    values = np.concatenate([zero, series.values, zero.repeat(len(silent), 0)])
    order = np.argsort(times, kind="stable")
    return Series(times[order], values[order])
