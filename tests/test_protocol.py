"""The data that crosses the seam between model and planner: contexts and mixtures of actions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from world_model.protocol import ActionMixture, Context


def mixture(rows: int = 4, components: int = 3, dim: int = 2, seed: int = 0) -> ActionMixture:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((rows, components)) * 2
    mean, std = rng.uniform(-1, 1, (rows, components, dim)), rng.uniform(0.2, 0.6, (rows, components, dim))
    return ActionMixture(logits.astype(np.float32), mean.astype(np.float32), std.astype(np.float32))


def test_a_context_forgets_its_oldest_when_it_is_extended():
    context = Context(np.arange(12, dtype=np.float32).reshape(1, 3, 4), np.arange(4, dtype=np.float32).reshape(1, 2, 2))
    later = context.extended(np.full((1, 2), 9, np.float32), np.full((1, 4), 7, np.float32))
    assert np.array_equal(later.latents[0, :2], context.latents[0, 1:]) and np.all(later.latents[0, 2] == 7)
    assert np.array_equal(later.actions[0, 0], context.actions[0, 1]) and np.all(later.actions[0, 1] == 9)
    assert context.latents[0, 0, 0] == 0, "the old context is as it was"


def test_a_repeated_context_is_the_same_in_every_row():
    context = Context(np.random.default_rng(0).standard_normal((1, 3, 4)).astype(np.float32), np.zeros((1, 2, 2), np.float32))
    many = context.repeated(5)
    assert many.latents.shape == (5, 3, 4) and many.actions.shape == (5, 2, 2)
    assert np.array_equal(many.latents[4], context.latents[0])


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_the_likelihood_is_that_of_a_mixture_of_gaussians(seed, components, dim):
    given_mixture = mixture(3, components, dim, seed)
    actions = np.random.default_rng(seed).uniform(-1, 1, (3, dim)).astype(np.float32)
    weights = np.exp(given_mixture.logits.astype(np.float64))
    weights /= weights.sum(-1, keepdims=True)
    mean, std = given_mixture.mean.astype(np.float64), given_mixture.std.astype(np.float64)
    densities = np.prod(np.exp(-((actions[:, None] - mean) ** 2) / (2 * std**2)) / (std * np.sqrt(2 * np.pi)), axis=-1)
    expected = -np.log((weights * densities).sum(-1)) - dim / 2 * np.log(2 * np.pi)
    assert np.allclose(given_mixture.negative_log_likelihood(actions), expected, atol=1e-4)


def test_the_density_integrates_to_one():
    places = np.linspace(-6, 6, 4001, dtype=np.float32)[:, None]
    density = np.exp(-mixture(1, 3, 1).repeated(len(places)).negative_log_likelihood(places)) / np.sqrt(2 * np.pi)
    assert np.trapezoid(density, places[:, 0]) == pytest.approx(1.0, abs=1e-3)


def test_samples_are_bounded_seeded_and_distributed_as_the_mixture_says():
    rows = 20_000
    narrow = ActionMixture(
        np.tile(np.log([[0.7, 0.3]]), (rows, 1)).astype(np.float32),
        np.tile([[[0.5], [-0.5]]], (rows, 1, 1)).astype(np.float32),
        np.full((rows, 2, 1), 0.1, np.float32),
    )
    drawn = narrow.sample(np.random.default_rng(0))
    assert drawn.shape == (rows, 1) and drawn.dtype == np.float32
    assert np.mean(drawn > 0) == pytest.approx(0.7, abs=0.02)
    assert drawn[drawn > 0].mean() == pytest.approx(0.5, abs=0.01) and drawn[drawn > 0].std() == pytest.approx(0.1, abs=0.01)
    assert np.array_equal(drawn, narrow.sample(np.random.default_rng(0)))
    wide = mixture()
    bounded = ActionMixture(wide.logits, wide.mean * 9, wide.std)
    assert np.abs(bounded.sample(np.random.default_rng(1))).max() <= 1.0 and np.abs(bounded.mode()).max() <= 1.0


def test_the_mode_is_the_component_with_the_highest_peak():
    """A broad component may weigh more and still be lower than a sharp one."""
    two = ActionMixture(np.log([[0.6, 0.4]]).astype(np.float32), np.array([[[-0.5], [0.5]]], np.float32), np.array([[[0.6], [0.2]]], np.float32))
    assert np.array_equal(two.mode(), [[0.5]])
    for seed in range(20):
        one = mixture(1, 3, 2, seed)
        at_means = one.repeated(3).negative_log_likelihood(one.mean[0])
        # Where components hardly overlap, the chosen mean is the most likely of all means.
        if np.ptp(at_means) > 2.0:
            assert np.allclose(one.mode()[0], np.clip(one.mean[0, at_means.argmin()], -1, 1))


def test_extreme_logits_stay_finite():
    sure = ActionMixture(np.array([[500.0, -500.0]], np.float32), np.zeros((1, 2, 2), np.float32), np.full((1, 2, 2), 0.2, np.float32))
    assert np.isfinite(sure.negative_log_likelihood(np.ones((1, 2), np.float32))).all()
    assert np.isfinite(sure.sample(np.random.default_rng(0))).all()
