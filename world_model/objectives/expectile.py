"""The expectile loss of the temporal distance."""

from __future__ import annotations

import torch
from torch import Tensor


def expectile(error: Tensor, tau: float) -> Tensor:
    """Asymmetric squared loss ``|tau - 1(error < 0)| * error^2``, mean: tau below 0.5 leans towards the short paths (Newey and Powell 1987)."""
    loss: Tensor = (torch.where(error > 0, tau, 1.0 - tau) * error**2).mean()
    return loss
