"""SIGReg: latents that look standard normal from every direction cannot collapse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from world_model.objectives.all_ranks import from_first, summed, world_size
from world_model.objectives.objective import AntiCollapse, Window, rows

_KNOTS = 17
_LAST_KNOT = 3.0


def sigreg(latents: Tensor, directions: int, generator: torch.Generator) -> Tensor:
    """Sketched isotropic Gaussian regularisation (LeJEPA, arXiv 2511.08544, Epps-Pulley statistic): zero when the latents are N(0, I).

    Projects ``latents (B, D)`` on random unit directions u and compares the empirical characteristic function of each projection with that of a
    standard normal, ``exp(-t^2 / 2)``, at 17 knots t on [0, 3] with trapezoid weights:
    ``T(u) = B * sum_j w_j [(mean_b cos(t_j u.z_b) - phi(t_j))^2 + (mean_b sin(t_j u.z_b))^2]``, averaged over u. Under torch.distributed
    b runs over the samples of all ranks, each of which has as many, and B counts them.
    """
    batch, dim = latents.shape
    sketch = from_first(torch.randn(dim, directions, generator=generator, device=generator.device).to(latents))
    sketch = sketch / sketch.norm(dim=0, keepdim=True)
    knots = torch.linspace(0.0, _LAST_KNOT, _KNOTS, device=latents.device, dtype=latents.dtype)
    phi = torch.exp(-(knots**2) / 2)
    weights = torch.full_like(knots, 2.0 * _LAST_KNOT / (_KNOTS - 1))  # doubled: the integrand is even
    weights[0] = weights[-1] = _LAST_KNOT / (_KNOTS - 1)
    real, imaginary = _CharacteristicFunction.apply(latents @ sketch, knots)  # type: ignore[no-untyped-call]
    gap = (summed(real) / world_size() - phi[:, None]) ** 2 + (summed(imaginary) / world_size()) ** 2
    statistic: Tensor = batch * world_size() * (gap * (weights * phi)[:, None]).sum(0).mean()
    return statistic


class _CharacteristicFunction(torch.autograd.Function):
    """Means of cosine and sine of ``t_j h_b`` over b, ``(J, M)`` each, of ``h (B, M)`` at ``t (J,)``.

    Sines and cosines are each other's derivatives: keeping both halves the time that automatic differentiation needs, which computes them again.
    """

    @staticmethod
    def forward(ctx: Any, projections: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
        angles = knots[:, None, None] * projections
        cosines, sines = angles.cos(), angles.sin_()
        ctx.save_for_backward(cosines, sines, knots)
        return cosines.mean(1), sines.mean(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        cosines, sines, knots = ctx.saved_tensors
        of_real, of_imaginary = (gradient * (knots[:, None] / cosines.shape[1]) for gradient in gradients)
        total = torch.zeros_like(cosines[0])
        for cosine, sine, real, imaginary in zip(cosines, sines, of_real, of_imaginary, strict=True):
            total.addcmul_(cosine, imaginary).addcmul_(sine, real, value=-1)
        return total, None


class SigReg(AntiCollapse):
    """``weight * sigreg(latents)``; gradients flow through the targets too (LeWorldModel, arXiv 2603.19312, where the weight is lambda)."""

    def __init__(self, weight: float, directions: int) -> None:
        super().__init__()
        self.weight = weight
        self.directions = directions

    def penalty(self, window: Window, generator: torch.Generator) -> Tensor:
        """The weighted statistic of all latents."""
        return self.weight * sigreg(rows(window.latents), self.directions, generator)
