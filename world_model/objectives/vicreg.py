"""VICReg: every dimension keeps its variance, and no two say the same."""

from __future__ import annotations

import torch
from torch import Tensor

from world_model.objectives.all_ranks import mean_over_rows, world_size
from world_model.objectives.objective import AntiCollapse, Window, rows

_EPSILON = 1e-4


def variance_hinge(latents: Tensor, deviation: float = 1.0) -> Tensor:
    """``v(Z) = 1/d sum_j max(0, gamma - sqrt(Var(z_j) + 1e-4))`` (VICReg, arXiv 2105.04906, equation 1); ``latents (N, d)``, gamma ``deviation``."""
    covariance = _covariance(latents)
    hinge: Tensor = (deviation - (covariance.diagonal() + _EPSILON).sqrt()).clamp(min=0.0).mean()
    return hinge


def covariance_penalty(latents: Tensor) -> Tensor:
    """``c(Z) = 1/d sum_{i != j} C(Z)_ij^2`` with C the unbiased covariance (equations 3 and 4) of ``latents (N, d)``."""
    covariance = _covariance(latents)
    penalty: Tensor = (covariance - torch.diag(covariance.diagonal())).square().sum() / latents.shape[1]
    return penalty


def _covariance(latents: Tensor) -> Tensor:
    """Of the samples of all ranks, ``(d, d)``, unbiased."""
    count = len(latents) * world_size()
    centred = latents - mean_over_rows(latents)
    return mean_over_rows((centred.T @ centred / len(latents))[None]) * (count / max(1, count - 1))


class VicReg(AntiCollapse):
    """``weight * (variance_weight * v(Z) + covariance_weight * c(Z))``; the invariance term s is the prediction error.

    PLDM (arXiv 2502.14819) trains action-conditioned world models with it.
    """

    def __init__(self, weight: float, variance_weight: float, covariance_weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight

    def penalty(self, window: Window, generator: torch.Generator) -> Tensor:
        """The weighted hinge and covariance of all latents."""
        latents = rows(window.latents)
        return self.weight * (self.variance_weight * variance_hinge(latents) + self.covariance_weight * covariance_penalty(latents))
