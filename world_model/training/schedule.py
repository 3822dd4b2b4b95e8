"""Learning rates over a run."""

from __future__ import annotations

import math

import torch


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Warm-up, constant to half time, then linearly down to 2 %."""
    left = (steps - step) / steps
    return peak * min(1.0, (step + 1) / warmup) * min(1.0, max(0.02, 2.0 * left))


def cosine_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Warm-up, and half a cosine down to 1 %."""
    return peak * min(1.0, (step + 1) / warmup) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate`` from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
