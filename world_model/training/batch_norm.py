"""Batch normalisation over the samples of all processes, on any device: torch's own is for GPUs only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_model.objectives.all_ranks import summed, world_size


class SharedBatchNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d` whose statistics in training are those of the union of all processes' batches, which are of equal size."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalised ``values (N, D)``."""
        if not self.training or world_size() == 1:
            return super().forward(values)
        count = len(values) * world_size()
        with torch.autocast(values.device.type, enabled=False):
            rows = values.float()
            mean = summed(rows.sum(0)) / count
            variance = summed(((rows - mean) ** 2).sum(0)) / count
            if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
                share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.detach(), share)
                self.running_var.lerp_(variance.detach() * count / (count - 1), share)
            normal = (rows - mean) * torch.rsqrt(variance + self.eps)
            if self.affine:
                normal = normal * self.weight + self.bias
        return normal.to(values.dtype)


def share_batch_norm(module: nn.Module) -> None:
    """Replace every `nn.BatchNorm1d` inside ``module`` by one over all processes, with the same state."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            shared = SharedBatchNorm1d(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            shared.load_state_dict(child.state_dict())
            setattr(module, name, shared)
        else:
            share_batch_norm(child)
