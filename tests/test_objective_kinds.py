"""Each objective against collapse: its formula evaluated another way, its gradient, what minimises it, what collapse costs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from objective_windows import check_gradient, generator, window

from world_model.config import ConfigError, build_config
from world_model.objectives import KINDS, ObjectiveConfig, Window, build_objective, collapse_warning, sigreg
from world_model.objectives.barlow_twins import barlow_twins
from world_model.objectives.info_nce import info_nce
from world_model.objectives.registry import ObjectiveError
from world_model.objectives.vicreg import covariance_penalty, variance_hinge

SIZES = [(40, 3), (12, 5)]


def samples(count: int, width: int, seed: int = 0) -> torch.Tensor:
    draws = generator(seed)
    mixing = torch.randn(width, width, generator=draws, dtype=torch.float64)
    return torch.randn(count, width, generator=draws, dtype=torch.float64) @ mixing + 0.4


def white(count: int, width: int) -> torch.Tensor:
    """Exactly zero mean and unit covariance."""
    centred = samples(count, width) - samples(count, width).mean(0)
    return torch.linalg.qr(centred).Q * math.sqrt(count - 1)


# SIGReg: the statistic as an integral over the whole line, by the trapezoid rule on a grid a hundred times as fine.


def test_sigreg_approximates_the_epps_pulley_integral():
    """``B int |phi_B(t) - exp(-t^2/2)|^2 exp(-t^2/2) dt``: beyond 3 the weight leaves less than one per cent."""
    latents = samples(60, 2)
    sketch = torch.randn(2, 16, generator=generator(1)).double().numpy()
    sketch /= np.linalg.norm(sketch, axis=0)
    knots = np.linspace(-8, 8, 6401)
    values = []
    for projection in (latents.numpy() @ sketch).T:
        gap = np.abs(np.exp(1j * np.outer(knots, projection)).mean(1) - np.exp(-(knots**2) / 2)) ** 2
        values.append(60 * np.trapezoid(gap * np.exp(-(knots**2) / 2), knots))
    assert float(sigreg(latents, 16, generator(1))) == pytest.approx(np.mean(values), rel=0.03)


def test_the_gradient_of_sigreg():
    check_gradient(lambda z: sigreg(z, 16, generator(1)), samples(20, 3))


# VICReg.


@pytest.mark.parametrize(("count", "width"), SIZES)
def test_vicreg_is_its_formula(count, width):
    latents = samples(count, width)
    table = latents.numpy()
    covariance = np.zeros((width, width))
    for i in range(width):
        for j in range(width):
            covariance[i, j] = sum((table[n, i] - table[:, i].mean()) * (table[n, j] - table[:, j].mean()) for n in range(count)) / (count - 1)
    hinge = np.mean([max(0.0, 1.0 - math.sqrt(covariance[i, i] + 1e-4)) for i in range(width)])
    penalty = sum(covariance[i, j] ** 2 for i in range(width) for j in range(width) if i != j) / width
    assert float(variance_hinge(latents)) == pytest.approx(hinge)
    assert float(covariance_penalty(latents)) == pytest.approx(penalty)
    whole = build_objective(ObjectiveConfig("vicreg", weight=3.0, variance_weight=2.0, covariance_weight=0.5))
    seen = Window(latents[:, None, None], latents[:, None, None], latents[:, None, None])
    assert float(whole(seen, generator())) == pytest.approx(3.0 * (2.0 * hinge + 0.5 * penalty))


def test_the_gradient_of_vicreg():
    check_gradient(lambda z: variance_hinge(z) + covariance_penalty(z), 0.3 * samples(20, 3))


def test_vicreg_is_least_for_white_latents_and_charges_for_both_kinds_of_collapse():
    latents = white(50, 4)
    assert float(variance_hinge(latents)) == pytest.approx(0.0, abs=1e-9)
    assert float(covariance_penalty(latents)) == pytest.approx(0.0, abs=1e-9)
    assert float(variance_hinge(torch.ones(50, 4))) == pytest.approx(1.0 - 1e-2)  # one point: sqrt(1e-4) is left of gamma
    line = latents[:, :1].expand(-1, 4)
    assert float(covariance_penalty(line)) == pytest.approx(3.0)  # all twelve off-diagonal covariances are 1


# Barlow Twins.


@pytest.mark.parametrize(("count", "width"), SIZES)
def test_barlow_twins_is_its_formula(count, width):
    first, second = samples(count, width), samples(count, width, 1) + samples(count, width)
    a, b = first.numpy(), second.numpy()
    loss = 0.0
    for i in range(width):
        for j in range(width):
            x, y = a[:, i] - a[:, i].mean(), b[:, j] - b[:, j].mean()
            correlation = (x * y).sum() / (math.sqrt((x**2).sum()) * math.sqrt((y**2).sum()))
            loss += (1 - correlation) ** 2 if i == j else 0.05 * correlation**2
    assert float(barlow_twins(first, second, 0.05)) == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("side", [0, 1])
def test_the_gradient_of_barlow_twins(side):
    fixed = samples(20, 3, 5)
    check_gradient(lambda z: barlow_twins(*((z, fixed) if side == 0 else (fixed, z)), 0.05), samples(20, 3) + fixed)


def test_barlow_twins_is_least_for_equal_white_pairs_and_charges_for_both_kinds_of_collapse():
    latents = white(50, 4)
    assert float(barlow_twins(latents, latents, 0.1)) == pytest.approx(0.0, abs=1e-6)
    assert float(barlow_twins(torch.ones(50, 4), torch.ones(50, 4), 0.1)) == pytest.approx(4.0)  # nothing correlates: (1 - 0)^2 for each
    line = latents[:, :1].expand(-1, 4)
    assert float(barlow_twins(line, line, 0.1)) == pytest.approx(1.2, rel=1e-4)  # twelve correlations of 1 at 0.1 each


# InfoNCE.


@pytest.mark.parametrize("both", [False, True])
def test_info_nce_is_its_formula(both):
    predicted, targets = samples(9, 4), samples(9, 4, 3)
    p, y = predicted.numpy(), targets.numpy()
    scores = np.array([[-np.sum((p[i] - y[j]) ** 2) / (2 * 0.2 * 4) for j in range(9)] for i in range(9)])

    def one_way(table: np.ndarray) -> float:
        return -float(np.mean([math.log(math.exp(table[i, i]) / sum(math.exp(v) for v in table[i])) for i in range(9)]))

    expected = 0.5 * (one_way(scores) + one_way(scores.T)) if both else one_way(scores)
    assert float(info_nce(predicted, targets, 0.2, both)) == pytest.approx(expected)


def test_the_gradient_of_info_nce():
    fixed = samples(10, 3, 2)
    check_gradient(lambda z: info_nce(z, fixed, 0.5, True), samples(10, 3))
    check_gradient(lambda z: info_nce(fixed, z, 0.5, False), samples(10, 3))


def test_info_nce_is_least_for_right_predictions_of_scattered_targets_and_collapse_costs_the_logarithm_of_the_batch():
    scattered = 50.0 * white(16, 4)
    assert float(info_nce(scattered, scattered, 0.1, True)) == pytest.approx(0.0, abs=1e-6)
    assert float(info_nce(scattered.roll(1, 0), scattered, 0.1, True)) > 10.0
    assert float(info_nce(torch.ones(16, 4), torch.ones(16, 4), 0.1, True)) == pytest.approx(math.log(16))


def test_info_nce_may_replace_the_squared_error():
    assert build_objective(ObjectiveConfig("info_nce", contrastive_prediction_weight=0.0)).prediction_weight == 0.0


def test_info_nce_alone_lets_predictions_run_away():
    """With every prediction pushed out from the origin by half the loss is smaller, though each is farther from its target."""
    targets = white(16, 4)
    near, far = (float(info_nce(scale * targets, targets, 0.1, False)) for scale in (1.0, 1.5))
    assert far < near


def test_info_nce_compares_frames_not_tokens():
    """The background token is the same everywhere: token by token it could not be told apart."""
    seen = window(tokens=3)
    predicted, targets = seen.latents[:, 1:].clone() * 30, seen.latents.clone() * 30
    predicted[:, :, 1:], targets[:, :, 1:] = 0.5, 0.5
    assert float(build_objective(ObjectiveConfig("info_nce", weight=1.0))(Window(targets, targets, predicted), generator())) < 0.01


# The seam.


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_returns_a_finite_scalar_for_token_latents(kind):
    objective = build_objective(ObjectiveConfig(kind, directions=16))
    seen = window()
    if kind != "distillation":
        assert objective.targets(torch.zeros(6, 4, 8, 8, 3, dtype=torch.uint8), seen.latents) is seen.latents
    value = objective(seen, generator())
    assert value.shape == () and torch.isfinite(value)
    assert (float(value) > 0) == (kind not in ("none", "distillation"))
    assert objective.prediction_weight == 1.0
    assert not list(objective.parameters())


@pytest.mark.parametrize("kind", ["sigreg", "vicreg", "barlow_twins", "info_nce"])
def test_the_weight_scales_the_penalty(kind):
    single, double = (build_objective(ObjectiveConfig(kind, weight=w, directions=16))(window(), generator()) for w in (0.7, 1.4))
    assert float(double) == pytest.approx(2 * float(single))


@pytest.mark.parametrize("kind", ["sigreg", "vicreg", "barlow_twins"])
def test_tokens_are_samples(kind):
    """K tokens of width d count as K times as many samples of width d."""
    objective = build_objective(ObjectiveConfig(kind, directions=16))
    seen = window(tokens=4)

    def spread(latents: torch.Tensor) -> torch.Tensor:
        return latents.transpose(1, 2).flatten(0, 1)[:, :, None]

    assert float(objective(seen, generator())) == pytest.approx(
        float(objective(Window(spread(seen.latents), spread(seen.targets), spread(seen.predicted)), generator()))
    )


@pytest.mark.parametrize("kind", ["sigreg", "vicreg", "barlow_twins", "info_nce"])
def test_the_gradient_of_the_whole_objective_through_every_input(kind):
    objective = build_objective(ObjectiveConfig(kind, weight=0.3, directions=16))
    seen = window()

    def through(latents: torch.Tensor) -> torch.Tensor:
        return objective(Window(latents, latents, 0.8 * latents[:, 1:] + 0.2 * latents[:, :-1]), generator())

    check_gradient(through, seen.latents)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_batches_are_judged_in_full_precision(kind):
    objective = build_objective(ObjectiveConfig(kind, directions=16))
    seen = window()
    rough = Window(seen.latents.bfloat16(), seen.targets.bfloat16(), seen.predicted.bfloat16())
    exact = Window(rough.latents.double(), rough.targets.double(), rough.predicted.double())
    with torch.autocast("cpu", torch.bfloat16):
        value = objective(rough, generator())
    assert value.dtype == (torch.float32 if kind not in ("none", "distillation") else value.dtype)
    assert float(value) == pytest.approx(float(objective(exact, generator())), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "sigred"}, "unknown objective 'sigred'; choose sigreg, vicreg, barlow_twins, info_nce, distillation, none"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"weight": math.inf}, "weight is inf"),
        ({"directions": 0}, "directions is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"off_diagonal": math.nan}, "off_diagonal is nan"),
    ],
)
def test_a_wrong_objective_is_named_in_one_line(change, reason):
    with pytest.raises(ObjectiveError, match=reason) as caught:
        replace(ObjectiveConfig(), **change)
    assert "\n" not in str(caught.value)


def test_the_weight_in_a_file_may_be_left_to_the_kind():
    assert build_config(ObjectiveConfig, {"kind": "vicreg", "weight": None}, "x") == build_config(ObjectiveConfig, {"kind": "vicreg"}, "x")
    assert build_config(ObjectiveConfig, {"weight": 1}, "x").weight == 1.0
    with pytest.raises(ConfigError, match="'much' is not of type float"):
        build_config(ObjectiveConfig, {"weight": "much"}, "x")


COLLAPSED, ALIVE = [(1.2, 48), (4.7, 48), (1.9, 8)], [(4.9, 48), (20.0, 48), (2.1, 8), (1.0, 2)]


@pytest.mark.parametrize(("rank", "dim", "warned"), [(*c, True) for c in COLLAPSED] + [(*c, False) for c in ALIVE])
def test_collapse_is_a_rank_far_below_the_width(rank, dim, warned):
    line = collapse_warning(rank, dim)
    assert (line is not None) == warned
    assert line is None or (f"{rank:.1f} of {dim}" in line and "\n" not in line)


def test_a_rank_that_is_no_number_is_collapse():
    assert collapse_warning(math.nan, 48) is not None
