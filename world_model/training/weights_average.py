"""An exponential moving average of the weights, which is often a better model than the last weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from world_model.jepa import Jepa


def averaged(jepa: Jepa, decay: float) -> AveragedModel:
    """An average that begins with ``jepa`` and takes ``(1 - decay)`` of it with each ``update_parameters``; buffers are copied."""
    return AveragedModel(jepa, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


@torch.no_grad()
def estimate_batch_norm(jepa: Jepa, batches: Iterable[tuple[Tensor, Tensor | None]]) -> None:
    """Statistics of batch normalisation for weights that never saw a batch: those of the last weights belong to another network.

    The cumulative mean over ``batches`` of frames ``(B, h, w, 3) uint8`` and, where there are any, joints ``(B, J)``.
    """
    norms = [module for module in jepa.modules() if isinstance(module, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    jepa.train()
    for frames, joints in batches:
        jepa.encode(frames, joints)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
