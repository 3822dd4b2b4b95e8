"""Student and teacher: the backbone that is kept and the head that is thrown away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Dinov2Model

from world_model.encoders.dinov2 import DinoV2, untrained_config
from world_model.pretraining.config import ArchitectureConfig, DistillationConfig


class PrototypeHead(nn.Module):
    """Three layers, a normalised bottleneck, and a last layer whose weight vectors have norm 1 (DINO, arXiv 2104.14294, appendix C).

    A logit is so the cosine of a feature and a prototype. Pictures of a fixed camera are nearly the same, and so would be their cosines: every
    dimension of the bottleneck is first standardised over the batch, so that what all of them share does not count.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
            nn.BatchNorm1d(bottleneck, affine=False, track_running_stats=False),
        )
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(N, P)`` in [-1, 1] of ``features (N, width)``, N at least 2."""
        return functional.linear(functional.normalize(self.layers(features), dim=-1), functional.normalize(self.prototypes, dim=-1))


@dataclass(frozen=True)
class Seen:
    """What a network says of N pictures: ``features (N, width)`` and ``logits (N, P)`` of the class token, ``patches (N, K, width)``."""

    features: Tensor
    logits: Tensor
    patches: Tensor


class DinoNetwork(nn.Module):
    """A backbone of the DINOv2 architecture with a head on its tokens."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: ArchitectureConfig, distillation: DistillationConfig) -> None:
        super().__init__()
        shape = architecture
        self.backbone = Dinov2Model(untrained_config(shape.size, shape.patch, shape.width, shape.depth, shape.heads))
        self.head = PrototypeHead(architecture.width, distillation.hidden, distillation.bottleneck, distillation.prototypes)
        self.register_buffer("mean", torch.tensor(DinoV2.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(DinoV2.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor, masked: Tensor | None = None) -> Seen:
        """For ``pictures (N, 3, s, s)`` in [0, 1] of any size in whole patches; ``masked (N, K) bool`` patches are hidden from the backbone."""
        tokens = self.backbone((pictures - self.mean) / self.std, bool_masked_pos=masked).last_hidden_state
        return Seen(tokens[:, 0], self.head(tokens[:, 0]), tokens[:, 1:])
