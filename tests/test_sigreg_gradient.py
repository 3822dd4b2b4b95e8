"""SIGReg's own derivative, against finite differences and against automatic differentiation of the formula."""

from __future__ import annotations

import torch

from world_model.objectives.sigreg import _CharacteristicFunction, sigreg


def test_the_derivative_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    projections = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    knots = torch.linspace(0, 3, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda h: _CharacteristicFunction.apply(h, knots), projections)


def test_value_and_gradient_are_those_of_the_formula_differentiated_by_torch():
    latents = torch.randn(40, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).mul_(1.7).requires_grad_()
    value = sigreg(latents, 32, torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(value, latents)

    sketch = torch.randn(6, 32, generator=torch.Generator().manual_seed(2)).double()
    projections = latents @ (sketch / sketch.norm(dim=0))
    knots = torch.linspace(0, 3, 17, dtype=torch.float64)
    empirical = torch.exp(1j * projections[:, :, None] * knots).mean(0)
    gaps = (empirical - torch.exp(-(knots**2) / 2)).abs() ** 2 * torch.exp(-(knots**2) / 2)
    expected = 40 * 2 * torch.trapezoid(gaps, knots).mean()
    (wanted,) = torch.autograd.grad(expected, latents)
    assert torch.allclose(value, expected, rtol=1e-9) and torch.allclose(gradient, wanted, rtol=1e-7, atol=1e-10)
