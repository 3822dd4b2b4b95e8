"""Training objectives: prediction in latent space, and what keeps the latents from collapsing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_KNOTS = 17
_LAST_KNOT = 3.0


def sigreg(latents: Tensor, directions: int, generator: torch.Generator) -> Tensor:
    """Sketched isotropic Gaussian regularisation (LeJEPA, arXiv 2511.08544, Epps-Pulley statistic): zero when the latents are N(0, I).

    Projects ``latents (B, D)`` on random unit directions u and compares the empirical characteristic function of each projection with that of a
    standard normal, ``exp(-t^2 / 2)``, at 17 knots t on [0, 3] with trapezoid weights:
    ``T(u) = B * sum_j w_j [(mean_b cos(t_j u.z_b) - phi(t_j))^2 + (mean_b sin(t_j u.z_b))^2]``, averaged over u.
    """
    batch, dim = latents.shape
    sketch = torch.randn(dim, directions, generator=generator, device=latents.device)
    sketch = sketch / sketch.norm(dim=0, keepdim=True)
    knots = torch.linspace(0.0, _LAST_KNOT, _KNOTS, device=latents.device)
    phi = torch.exp(-(knots**2) / 2)
    weights = torch.full_like(knots, 2.0 * _LAST_KNOT / (_KNOTS - 1))  # doubled: the integrand is even
    weights[0] = weights[-1] = _LAST_KNOT / (_KNOTS - 1)
    angles = (latents @ sketch)[:, :, None] * knots
    gap = (angles.cos().mean(0) - phi) ** 2 + angles.sin().mean(0) ** 2
    statistic: Tensor = batch * (gap * (weights * phi)).sum(-1).mean()
    return statistic


def effective_rank(latents: Tensor) -> float:
    """Exponential of the entropy of the shares of singular values, ``latents (B, D)`` centred: from 1, collapse, to D (Roy and Vetterli 2007)."""
    values = torch.linalg.svdvals(latents - latents.mean(0))
    share = values / values.sum().clamp(min=1e-12)
    return math.exp(float(-(share * share.clamp(min=1e-12).log()).sum()))


def expectile(error: Tensor, tau: float) -> Tensor:
    """Asymmetric squared loss ``|tau - 1(error < 0)| * error^2``, mean: tau below 0.5 leans towards the short paths (Newey and Powell 1987)."""
    loss: Tensor = (torch.where(error > 0, tau, 1.0 - tau) * error**2).mean()
    return loss
