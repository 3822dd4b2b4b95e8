"""The arithmetic of single solvers: noise, weights, splines, beside closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from planner_node.plan import Scores
from planner_node.solvers.mppi import averaged, softmin_weights
from planner_node.solvers.noise import coloured, correlated
from planner_node.solvers.predictive_sampling import interpolation
from planner_node.solvers.warm_start import filled


def scores(cost: list[float], margin: list[float]) -> Scores:
    return Scores(np.array(cost, dtype=float), np.array(margin, dtype=float), {})


def test_weights_are_boltzmann_s_among_the_feasible():
    weights = softmin_weights(scores([1.0, 2.0, -50.0, 4.0], [0.0, 0.1, -1e-3, 0.2]), temperature=0.5, fewest=2)
    expected = np.exp(-np.array([1.0, 2.0, np.inf, 4.0]) / 0.5)
    assert np.allclose(weights, expected / expected.sum()) and weights[2] == 0.0, "an infeasible one does not count, however cheap"


def test_costs_far_from_zero_do_not_underflow():
    weights = softmin_weights(scores([1e6, 1e6 + 1.0], [0.0, 0.0]), 1.0, 1)
    assert np.allclose(weights, [1 / (1 + np.exp(-1)), 1 / (1 + np.e)])
    assert softmin_weights(scores([-1e6, 1e6], [0.0, 0.0]), 1e-3, 1).tolist() == [1.0, 0.0]


def test_where_few_are_feasible_the_least_violating_join_in_in_order():
    weights = softmin_weights(scores([7.0, -9.0, -9.0, -9.0, np.inf], [0.0, -0.3, -0.1, -0.2, -np.inf]), temperature=2.0, fewest=3)
    assert np.allclose(weights / weights[0], [1.0, 0.0, np.exp(-1.0), np.exp(-2.0), 0.0])


def test_where_none_is_feasible_violation_alone_counts():
    weights = softmin_weights(scores([0.0, 100.0, -5.0], [-0.3, -0.1, -0.2]), temperature=1.0, fewest=2)
    assert np.allclose(weights, np.array([0.0, 1.0, np.exp(-1.0)]) / (1 + np.exp(-1.0)))


def test_an_average_of_bounded_actions_is_bounded():
    actions = np.ones((3, 2, 1), np.float32)
    assert averaged(actions, np.array([0.5, 0.3, 0.2 + 1e-7])).max() == 1.0
    assert np.allclose(averaged(np.array([[[1.0]], [[-1.0]]], np.float32), np.array([0.75, 0.25])), 0.5)


@pytest.mark.parametrize("horizon", [2, 5, 8, 33])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_has_unit_variance_at_every_step(horizon, exponent):
    noise = coloured(np.random.default_rng(0), (20_000, horizon, 1), exponent)
    assert noise.shape == (20_000, horizon, 1) and noise.dtype == np.float32
    assert np.allclose(noise.var(0), 1.0, atol=0.06) and np.allclose(noise.mean(0), 0.0, atol=0.05)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_power_of_coloured_noise_falls_as_it_should(exponent):
    """By a periodogram, at frequencies k / 64: the slope in log-log is minus the exponent."""
    noise = coloured(np.random.default_rng(1), (4000, 64, 1), exponent)[..., 0]
    k = np.arange(1, 32)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(64), k) / 64)
    power = (np.abs(noise @ waves) ** 2).mean(0)
    slope = np.polyfit(np.log(k), np.log(power), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)


def test_red_noise_trembles_less_than_white_noise():
    rough = [np.diff(coloured(np.random.default_rng(2), (2000, 8, 2), exponent), axis=1).var() for exponent in (0.0, 1.0, 2.0)]
    assert rough[0] > 1.5 * rough[1] > 1.5 * 1.5 * rough[2]


def test_coloured_noise_of_one_step_is_plain():
    assert coloured(np.random.default_rng(0), (5000, 1, 2), 2.0).std() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_correlated_noise_keeps_its_variance_and_correlation(correlation):
    noise = correlated(np.random.default_rng(0), (20_000, 6, 1), correlation)[..., 0]
    assert np.allclose(noise.var(0), 1.0, atol=0.05)
    for lag in (1, 3):
        assert np.corrcoef(noise[:, 1], noise[:, 1 + lag])[0, 1] == pytest.approx(correlation**lag, abs=0.03)


def test_knots_are_passed_through_and_lines_stay_lines():
    weights = interpolation(3, 9)
    assert np.allclose(weights.sum(1), 1.0) and np.allclose(weights[[0, 4, 8]], np.eye(3))
    assert np.allclose(weights @ np.array([0.0, 4.0, 8.0]), np.arange(9.0))
    assert np.allclose(interpolation(8, 8), np.eye(8)) and interpolation(1, 1).tolist() == [[1.0]]
    assert np.allclose(interpolation(1, 4), 1.0), "one knot holds for all steps"


def test_tails_are_filled_with_half_of_the_last_action():
    left = np.array([[[1.0, -0.5], [0.4, 0.8]]], np.float32)
    assert np.allclose(filled(left, 4), [[[1.0, -0.5], [0.4, 0.8], [0.2, 0.4], [0.2, 0.4]]])
    assert np.allclose(filled(left, 1), [[[1.0, -0.5]]])
