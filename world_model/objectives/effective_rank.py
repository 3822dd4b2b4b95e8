"""How many directions latents fill, and when that means collapse."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEAST_SHARE = 0.1
_LEAST = 2.0


def effective_rank(latents: Tensor) -> float:
    """Exponential of the entropy of the shares of singular values, ``latents (B, D)`` centred: from 1, collapse, to D (Roy and Vetterli 2007)."""
    values = torch.linalg.svdvals(latents - latents.mean(0))
    share = values / values.sum().clamp(min=1e-12)
    return math.exp(float(-(share * share.clamp(min=1e-12).log()).sum()))


def collapse_warning(rank: float, dim: int) -> str | None:
    """One line when latents of width ``dim`` with this effective rank are collapsing, else None.

    Batch normalisation at the end of the projector keeps every dimension's variance at 1, so that collapse is not seen there: the dimensions come to
    say the same (dimensional collapse), and the rank falls. It counts as collapse below a tenth of ``dim``, or below 2 where that is less.
    """
    least = max(_LEAST, _LEAST_SHARE * dim)
    if math.isfinite(rank) and (rank >= least or dim <= _LEAST):
        return None
    return f"the latents are collapsing: effective rank {rank:.1f} of {dim}; give jepa.objective more weight, or another kind"
