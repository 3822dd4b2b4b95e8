"""A bound on misses, calibrated over whole trajectories (conformal prediction, Vovk 2005; over trajectories as in Lindemann 2023).

A head gives every frame a score, the higher the safer. The score of a *trajectory* is the highest score among its truly unsafe frames: the one that
a threshold misses first. With n calibration trajectories that hold an unsafe frame, the threshold is the k-th smallest of their scores,
``k = ceil((n + 1)(1 - alpha))``; a frame counts as safe only where its score is *above* it.

What is guaranteed: if a fresh trajectory with an unsafe frame is exchangeable with those n, the probability that any of its unsafe frames is taken
for safe is at most alpha (and more than alpha - 1/(n+1) when scores do not tie). The probability is over the calibration set and the fresh trajectory
together (marginal), and counts trajectories, not frames. Nothing is promised for trajectories of another kind: another policy, another camera, or
latents that were imagined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class CalibrationError(ValueError):
    """A miss rate that the trajectories at hand cannot be calibrated to, with the reason in one line."""


@dataclass(frozen=True)
class Calibration:
    """``threshold``: the lowest score that counts as safe; ``miss_rate`` alpha, asked for; ``trajectories`` n that it rests on."""

    threshold: float
    miss_rate: float
    trajectories: int


def trajectory_scores(scores: NDArray[np.float32], unsafe: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Highest score among the unsafe frames of each trajectory that has one, ``(n,)``: ``scores (E, T)``, ``unsafe (E, T) bool``."""
    highest = np.where(unsafe, scores, -np.inf).max(1)
    worst: NDArray[np.float32] = highest[unsafe.any(1)]
    return worst


def trajectories_needed(miss_rate: float) -> int:
    """The fewest trajectories that can be calibrated to ``miss_rate``: ``ceil((n + 1)(1 - alpha)) <= n``.

    Raises:
        CalibrationError: the rate does not lie between 0 and 1.
    """
    if not 0 < miss_rate < 1:
        raise CalibrationError(f"the miss rate is {miss_rate}, must lie between 0 and 1")
    needed = max(1, math.floor(1 / miss_rate) - 1)
    while _rank(needed, miss_rate) > needed:
        needed += 1
    return needed


def _rank(count: int, miss_rate: float) -> int:
    # 1e-9: (1 - 0.05) * 20 is 19.000000000000004 for some rates, and one trajectory more would be asked for
    return math.ceil((count + 1) * (1 - miss_rate) - 1e-9)


def require_trajectories(unsafe: NDArray[np.bool_], miss_rate: float) -> None:
    """Make sure that enough trajectories hold an unsafe frame, ``unsafe (E, T) bool``.

    Raises:
        CalibrationError: too few do; the message says how many are needed.
    """
    needed, held = trajectories_needed(miss_rate), int(unsafe.any(1).sum())
    if held < needed:
        raise CalibrationError(
            f"a miss rate of {miss_rate:g} needs {needed} calibration trajectories with an unsafe frame, there are {held}: "
            "label more, or ask for a higher rate"
        )


def calibrate(scores: NDArray[np.float32], unsafe: NDArray[np.bool_], miss_rate: float) -> Calibration:
    """The threshold for ``scores (E, T) float32`` of calibration trajectories whose truly ``unsafe (E, T)`` frames are known.

    Raises:
        CalibrationError: too few trajectories hold an unsafe frame (the message says how many are needed), or a score is not finite.
    """
    require_trajectories(unsafe, miss_rate)
    if not np.all(np.isfinite(scores)):
        raise CalibrationError("a calibration score is not finite")
    worst = np.sort(trajectory_scores(scores, unsafe))
    limit = np.float32(worst[_rank(len(worst), miss_rate) - 1])
    return Calibration(float(np.nextafter(limit, np.float32(np.inf))), miss_rate, len(worst))


def missed(scores: NDArray[np.float32], unsafe: NDArray[np.bool_], threshold: float) -> NDArray[np.bool_]:
    """Whether some unsafe frame counts as safe, for each trajectory that has one, ``(n,)``."""
    return trajectory_scores(scores, unsafe) >= np.float32(threshold)
