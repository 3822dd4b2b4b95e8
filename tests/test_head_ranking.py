"""Orders: the area under the ROC curve and rank correlation against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from world_model.heads.ranking import auroc, bootstrap_auroc, spearman


def auroc_by_pairs(scores, positive):
    pairs = list(itertools.product(scores[positive], scores[~positive]))
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


@pytest.mark.parametrize("levels", [3, 10, 10_000])
def test_auroc_is_the_share_of_pairs_in_order(levels):
    rng = np.random.default_rng(levels)
    positive = rng.random(60) < 0.3
    scores = np.floor(levels * (rng.random(60) + 0.3 * positive)) / levels
    assert auroc(scores, positive) == pytest.approx(auroc_by_pairs(scores, positive), abs=1e-12)


def test_auroc_without_both_kinds_is_not_a_number():
    assert np.isnan(auroc(np.arange(3.0), np.zeros(3, bool)))


def test_spearman_by_the_formula_without_ties_and_by_hand_with_them():
    rng = np.random.default_rng(1)
    a, b = rng.permutation(30).astype(float), rng.permutation(30).astype(float)
    gaps = (np.argsort(np.argsort(a)) - np.argsort(np.argsort(b))) ** 2
    assert spearman(a, b) == pytest.approx(1 - 6 * gaps.sum() / (30 * (30**2 - 1)), abs=1e-12)
    assert spearman(np.exp(a), b) == pytest.approx(spearman(a, b), abs=1e-12)
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5
    assert spearman(np.array([0.0, 1.0, 1.0, 2.0]), np.arange(4.0)) == pytest.approx(4.5 / np.sqrt(4.5 * 5), abs=1e-12)


def test_the_bootstrap_draws_whole_trajectories():
    """With all frames of a trajectory alike the interval is as wide as a few trajectories make it, not as thousands of frames would."""
    rng = np.random.default_rng(2)
    positive = np.repeat(np.arange(20)[:, None] % 2 == 0, 200, axis=1)
    scores = np.repeat(rng.standard_normal((20, 1)) + positive[:, :1], 200, axis=1)
    low, high = bootstrap_auroc(scores, positive, np.ones_like(positive), rng)
    alone = auroc(scores.ravel(), positive.ravel())
    assert low < alone < high and high - low > 0.15
    flat = bootstrap_auroc(scores.reshape(-1, 1), positive.reshape(-1, 1), np.ones((4000, 1), bool), rng)
    assert flat[1] - flat[0] < 0.5 * (high - low)


def test_unknown_frames_do_not_count():
    scores = np.array([[0.1, 9.0], [0.9, -9.0]])
    positive = np.array([[False, False], [True, True]])
    known = np.array([[True, False], [True, False]])
    low, high = bootstrap_auroc(scores, positive, known, np.random.default_rng(0))
    assert (low, high) == (1.0, 1.0)
