"""Barlow Twins: each dimension of a prediction agrees with its own dimension of the target, and with no other."""

from __future__ import annotations

import torch
from torch import Tensor

from world_model.objectives.all_ranks import mean_over_rows
from world_model.objectives.objective import AntiCollapse, Window, rows

_EPSILON = 1e-5


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """``C_ij (d, d)``, the correlation of dimension i of ``first (N, d)`` with dimension j of ``second (N, d)`` over the samples of all ranks."""
    standard = [_standardised(values) for values in (first, second)]
    return mean_over_rows((standard[0].T @ standard[1] / len(first))[None])


def _standardised(values: Tensor) -> Tensor:
    centred = values - mean_over_rows(values)
    return centred / (mean_over_rows(centred.square()) + _EPSILON).sqrt()


def barlow_twins(first: Tensor, second: Tensor, off_diagonal: float) -> Tensor:
    """``sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2`` (Barlow Twins, arXiv 2103.03230, equation 1); lambda is ``off_diagonal``."""
    squared = (cross_correlation(first, second) - torch.eye(first.shape[1], device=first.device, dtype=first.dtype)).square()
    loss: Tensor = squared.diagonal().sum() * (1.0 - off_diagonal) + squared.sum() * off_diagonal
    return loss


class BarlowTwins(AntiCollapse):
    """``weight * barlow_twins`` between one-step predictions and the latents that they predict, beside the squared error."""

    def __init__(self, weight: float, off_diagonal: float) -> None:
        super().__init__()
        self.weight = weight
        self.off_diagonal = off_diagonal

    def penalty(self, window: Window, generator: torch.Generator) -> Tensor:
        """The weighted distance of the cross-correlation from the identity."""
        return self.weight * barlow_twins(rows(window.predicted), rows(window.targets[:, 1:]), self.off_diagonal)
