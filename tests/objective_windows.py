"""Windows that the tests of objectives look at, in double precision for finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from world_model.objectives import Window


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def window(batch: int = 6, frames: int = 4, tokens: int = 2, width: int = 3, seed: int = 0) -> Window:
    """Correlated latents, and predictions that are nearly right."""
    draws = generator(seed)
    mixing = torch.randn(width, width, generator=draws, dtype=torch.float64)
    latents = torch.randn(batch, frames, tokens, width, generator=draws, dtype=torch.float64) @ mixing * 0.6 + 0.2
    predicted = latents[:, 1:] + 0.3 * torch.randn(batch, frames - 1, tokens, width, generator=draws, dtype=torch.float64)
    return Window(latents, latents, predicted)


def slope_by_differences(value: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, direction: torch.Tensor, width: float = 1e-5) -> float:
    """Central difference of ``value`` at ``at`` along ``direction``."""
    return float(value(at + width * direction) - value(at - width * direction)) / (2 * width)


def check_gradient(value: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> None:
    """Autograd's gradient against finite differences along random directions."""
    point = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(point), point)
    assert torch.isfinite(gradient).all() and float(gradient.abs().max()) > 0
    for seed in range(5):
        direction = torch.randn(at.shape, generator=generator(100 + seed), dtype=at.dtype)
        expected = slope_by_differences(value, at, direction)
        assert np.isclose(float((gradient * direction).sum()), expected, rtol=1e-5, atol=1e-8)
