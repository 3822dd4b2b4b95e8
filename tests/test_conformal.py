"""The calibrated bound: exact for a known distribution, kept over many simulated calibrations, and honest when it cannot be had."""

from __future__ import annotations

import math

import numpy as np
import pytest

from world_model.heads.conformal import CalibrationError, calibrate, missed, trajectories_needed, trajectory_scores


def draw(rng, trajectories, frames=12):
    """Trajectories whose frames share a mood, with scores that overlap: unsafe ones are lower on average."""
    mood = rng.standard_normal((trajectories, 1))
    unsafe = rng.random((trajectories, frames)) < rng.uniform(0.0, 0.4, (trajectories, 1))
    scores = mood + rng.standard_normal((trajectories, frames)) + np.where(unsafe, -1.0, 1.0)
    return scores.astype(np.float32), unsafe


@pytest.mark.parametrize("miss_rate", [0.05, 0.1, 0.3])
def test_misses_stay_within_the_bound(miss_rate):
    """A fresh trajectory against a fresh calibration, 4,000 times: the rate lies in [alpha - 1/(n+1), alpha], give or take binomial noise."""
    rng = np.random.default_rng(5)
    misses, counted, least = 0, 0, 10**9
    for _ in range(4000):
        scores, unsafe = draw(rng, 40)
        try:
            bound = calibrate(scores[1:], unsafe[1:], miss_rate)
        except CalibrationError:
            continue
        least = min(least, bound.trajectories)
        if unsafe[0].any():
            counted += 1
            misses += bool(missed(scores[:1], unsafe[:1], bound.threshold)[0])
    noise = 3.5 * math.sqrt(miss_rate * (1 - miss_rate) / counted)
    assert counted > 1000
    assert miss_rate - 1 / (least + 1) - noise <= misses / counted <= miss_rate + noise


@pytest.mark.parametrize(("count", "miss_rate"), [(19, 0.05), (20, 0.05), (37, 0.1), (9, 0.1), (3, 0.25)])
def test_the_threshold_is_the_right_order_statistic(count, miss_rate):
    """With uniform scores the k-th of n is beta distributed with mean k / (n+1): the exact miss rate is 1 - k / (n+1), the next below alpha."""
    scores = np.random.default_rng(0).permutation(np.arange(count, dtype=np.float32))[:, None]
    unsafe = np.ones((count, 1), bool)
    threshold = calibrate(scores, unsafe, miss_rate).threshold
    k = int(missed(scores, unsafe, threshold).size - missed(scores, unsafe, threshold).sum())
    exact = 1 - k / (count + 1)
    assert exact <= miss_rate + 1e-12 < exact + 1 / (count + 1) + 1e-9


def test_a_frame_at_the_threshold_is_safe_and_the_next_below_is_not():
    scores = np.array([[0.25], [0.5], [0.125]], np.float32)
    bound = calibrate(scores, np.ones((3, 1), bool), 0.25)
    assert np.float32(0.5) < np.float32(bound.threshold)
    assert not missed(scores, np.ones((3, 1), bool), bound.threshold).any()
    assert missed(np.array([[bound.threshold]], np.float32), np.ones((1, 1), bool), bound.threshold).all()


def test_a_lower_rate_never_lowers_the_threshold_and_more_unsafe_frames_neither():
    scores, unsafe = draw(np.random.default_rng(3), 300)
    thresholds = [calibrate(scores, unsafe, rate).threshold for rate in (0.5, 0.3, 0.2, 0.1, 0.05, 0.01)]
    assert thresholds == sorted(thresholds) and len(set(thresholds)) == len(thresholds)
    more = unsafe | ((np.random.default_rng(4).random(unsafe.shape) < 0.3) & unsafe.any(1, keepdims=True))
    assert calibrate(scores, more, 0.1).threshold >= calibrate(scores, unsafe, 0.1).threshold


def test_only_unsafe_frames_make_a_trajectory_count():
    scores = np.array([[1.0, 5.0], [2.0, 3.0], [9.0, 9.0]], np.float32)
    unsafe = np.array([[True, False], [True, True], [False, False]])
    np.testing.assert_array_equal(trajectory_scores(scores, unsafe), [1.0, 3.0])


@pytest.mark.parametrize(("miss_rate", "needed"), [(0.5, 1), (0.3, 3), (0.25, 3), (0.1, 9), (0.05, 19), (0.01, 99), (0.001, 999)])
def test_how_many_trajectories_are_needed(miss_rate, needed):
    assert trajectories_needed(miss_rate) == needed
    scores = np.zeros((needed, 2), np.float32)
    unsafe = np.ones((needed, 2), bool)
    calibrate(scores, unsafe, miss_rate)
    if needed > 1:
        with pytest.raises(CalibrationError, match=f"needs {needed} calibration trajectories with an unsafe frame, there are {needed - 1}"):
            calibrate(scores[1:], unsafe[1:], miss_rate)


@pytest.mark.parametrize("miss_rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_that_is_none(miss_rate):
    with pytest.raises(CalibrationError, match="must lie between 0 and 1"):
        trajectories_needed(miss_rate)


def test_a_score_that_is_none():
    with pytest.raises(CalibrationError, match="not finite"):
        calibrate(np.full((30, 1), np.nan, np.float32), np.ones((30, 1), bool), 0.1)
