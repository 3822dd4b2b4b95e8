"""The objectives against their definitions, evaluated another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from world_model.objectives import effective_rank, expectile, sigreg

DIRECTIONS = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(batch: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, dim, generator=generator(seed))


def epps_pulley(projection: np.ndarray, knots: np.ndarray) -> float:
    """The statistic of one projection ``(B,)`` in complex numbers: B times the weighted squared gap of two characteristic functions."""
    empirical = np.exp(1j * np.outer(knots, projection)).mean(1)
    gap = np.abs(empirical - np.exp(-(knots**2) / 2)) ** 2 * np.exp(-(knots**2) / 2)
    return len(projection) * float(2 * np.trapezoid(gap, knots))


def independent_sigreg(latents: torch.Tensor, seed: int, knots: np.ndarray) -> float:
    sketch = torch.randn(latents.shape[1], DIRECTIONS, generator=generator(seed)).double().numpy()
    sketch /= np.linalg.norm(sketch, axis=0)
    return float(np.mean([epps_pulley(column, knots) for column in (latents.double().numpy() @ sketch).T]))


@pytest.mark.parametrize("latents", [normal(200, 6), normal(50, 3) * 2 + 1, torch.zeros(30, 4)])
def test_sigreg_is_its_formula(latents):
    knots = np.linspace(0, 3, 17)
    assert float(sigreg(latents, DIRECTIONS, generator(1))) == pytest.approx(independent_sigreg(latents, 1, knots), rel=1e-4)


@pytest.mark.parametrize("latents", [normal(200, 6) * 0.5, normal(200, 6) + 0.5])
def test_seventeen_knots_are_enough(latents):
    """Against the integral over [-3, 3] on a grid ten times as fine."""
    fine = np.linspace(0, 3, 161)
    assert float(sigreg(latents, DIRECTIONS, generator(1))) == pytest.approx(independent_sigreg(latents, 1, fine), rel=0.01)


def test_sigreg_of_collapsed_latents_has_a_closed_form():
    """All latents 0: the empirical characteristic function is 1, and the integral can be done by hand."""
    # B * integral of (1 - exp(-t^2/2))^2 exp(-t^2/2) over [-3, 3] = B sqrt(2 pi) [erf(3/sqrt2) - 2 erf(3)/sqrt2 + erf(3 sqrt(3/2))/sqrt3]
    by_hand = math.sqrt(2 * math.pi) * (math.erf(3 / math.sqrt(2)) - math.sqrt(2) * math.erf(3) + math.erf(3 * math.sqrt(1.5)) / math.sqrt(3))
    assert float(sigreg(torch.zeros(100, 8), DIRECTIONS, generator())) == pytest.approx(100 * by_hand, rel=0.01)


def test_sigreg_tells_a_normal_distribution_from_everything_else():
    """For B samples of N(0, I) its expectation does not grow with B; for any other distribution it does."""
    batch = 2000
    clean = float(sigreg(normal(batch, 8), 256, generator()))
    assert clean < 1.5
    signs = torch.sign(normal(batch, 1))
    others = {
        "collapsed": torch.zeros(batch, 8),
        "shifted": normal(batch, 8) + 0.5,
        "too wide": 1.5 * normal(batch, 8),
        "too narrow": 0.5 * normal(batch, 8),
        "on a line": normal(batch, 1).expand(-1, 8).contiguous(),
        "two clusters": 2.0 * signs * torch.eye(8)[0] + normal(batch, 8) * 0.1,
    }
    for name, latents in others.items():
        assert float(sigreg(latents, 256, generator())) > 10 * clean, name


def test_descending_sigreg_makes_latents_standard_normal():
    latents = (0.2 * normal(256, 4) + 1.0).requires_grad_()
    optimizer = torch.optim.Adam([latents], 0.05)
    draws = generator(5)
    for _ in range(160):
        optimizer.zero_grad()
        sigreg(latents, 32, draws).backward()
        optimizer.step()
    assert latents.detach().mean(0).abs().max() < 0.1
    assert (latents.detach().std(0) - 1).abs().max() < 0.15


def test_sigreg_is_seeded():
    latents = normal(50, 4)
    assert sigreg(latents, 8, generator(3)) == sigreg(latents, 8, generator(3)) != sigreg(latents, 8, generator(4))


@pytest.mark.parametrize("tau", [0.1, 0.3, 0.5])
def test_the_expectile_loss_is_least_at_the_expectile(tau):
    """At the minimum the weighted errors on both sides balance: that is the definition of the expectile."""
    samples = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 3.0, 2000))
    guesses = np.linspace(0, 12, 2401)
    losses = [float(expectile(samples - guess, tau)) for guess in guesses]
    best = guesses[int(np.argmin(losses))]
    above, below = (samples - best).clamp(min=0).sum(), (best - samples).clamp(min=0).sum()
    assert tau * float(above) == pytest.approx((1 - tau) * float(below), rel=0.01)
    assert (best < float(samples.mean()) - 0.1) == (tau < 0.5)


@given(st.integers(1, 6))
@settings(max_examples=6, deadline=None)
def test_the_effective_rank_counts_equal_directions(rank):
    latents = torch.zeros(400, 6)
    latents[:, :rank] = torch.linalg.qr(normal(400, rank) - normal(400, rank).mean(0)).Q * 20
    assert effective_rank(latents + 3.0) == pytest.approx(rank, rel=0.05)


def test_the_effective_rank_of_one_point_is_one():
    assert effective_rank(torch.full((10, 4), 2.5)) == pytest.approx(1.0, abs=1e-6)
