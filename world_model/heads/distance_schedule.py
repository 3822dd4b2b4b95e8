"""What the fits of all temporal distances share: the learning rate, and the pairs of frames."""

from __future__ import annotations

import torch
from torch import Tensor

_WARM_UP = 100


def set_rate(optimizer: torch.optim.Optimizer, step: int, steps: int, peak: float) -> None:
    """Warm-up, constant to half time, then linearly down to 2 %."""
    rate = peak * min(1.0, (step + 1) / _WARM_UP) * min(1.0, max(0.02, 2.0 * (steps - step) / steps))
    for group in optimizer.param_groups:
        group["lr"] = rate


def draw_pairs(latents: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Two random frames of one episode each: ``first, second (count, D)`` and the steps ``(count,)`` from one to the other, negative if back in time.

    ``latents (E, T+1, D)``.
    """
    episodes_held, length = latents.shape[:2]
    episodes = torch.randint(episodes_held, (count,), generator=generator).to(latents.device)
    first, second = torch.randint(length, (2, count), generator=generator).to(latents.device)
    return latents[episodes, first], latents[episodes, second], (second - first).float()


def steps_per_unit(distances: Tensor, steps: Tensor) -> Tensor:
    """The factor that brings ``distances (N,)`` nearest to ``steps (N,)`` in the sense of least squares."""
    factor: Tensor = (distances * steps).sum() / (distances**2).sum().clamp(min=1e-12)
    return factor
