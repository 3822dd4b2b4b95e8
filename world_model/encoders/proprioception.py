"""Where the arm is, beside what the camera sees: joint positions as something that is added to the tokens of a picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_DROPPED = 0.5
_WIDTH = 64
_LEAST_STD = 1e-2
"""rad: a joint that hardly moves in the data must not have its noise magnified."""


class Proprioception(nn.Module):
    """Joint positions ``(B, J)`` rad to ``(B, d)``. A row with NaN is unknown, such as that of a goal picture, and has a learned embedding.

    In training every other row, at random, is taken as unknown: a latent must mean the same with joints and without.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, joints: int, token_dim: int) -> None:
        super().__init__()
        self.joints = joints
        self.register_buffer("mean", torch.zeros(joints))
        self.register_buffer("std", torch.ones(joints))
        self.network = nn.Sequential(nn.Linear(joints, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, token_dim))
        self.unknown = nn.Parameter(torch.zeros(token_dim))

    @torch.no_grad()
    def measure(self, joints: Tensor) -> None:
        """Take mean and deviation from the training data, ``joints (..., J)`` rad; rows with NaN do not count.

        Raises:
            ValueError: no row is known, or the number of joints is another.
        """
        rows = joints.reshape(-1, joints.shape[-1])
        rows = rows[rows.isfinite().all(1)]
        if rows.shape[1] != self.joints or len(rows) == 0:
            raise ValueError(f"the data hold {len(rows)} known positions of {rows.shape[1]} joints, the model has {self.joints} joints")
        self.mean.copy_(rows.mean(0))
        self.std.copy_(rows.std(0, correction=0).clamp(min=_LEAST_STD))

    def forward(self, joints: Tensor) -> Tensor:
        """What to add to each token of the pictures, ``(B, d)``, for ``joints (B, J)``."""
        unknown = torch.isnan(joints).any(1, keepdim=True)
        if self.training:
            unknown = unknown | (torch.rand_like(joints[:, :1]) < _DROPPED)
        # The network must not see NaN: its gradient would be NaN even where it is not chosen.
        known = torch.where(unknown, torch.zeros_like(joints), (joints - self.mean) / self.std)
        return torch.where(unknown, self.unknown, self.network(known))
