"""What an objective against collapse is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from world_model.jepa import Jepa


@dataclass(frozen=True)
class Window:
    """What an objective looks at: B windows of T frames, each frame K tokens of width d.

    ``latents (B, T, K, d)`` of the encoder that learns; ``targets (B, T, K, d)``, what predictions are compared with: the same tensor, or one of a
    teacher, detached; ``predicted (B, T-1, K, d)``, one step ahead from true history.
    """

    latents: Tensor
    targets: Tensor
    predicted: Tensor


class AntiCollapse(nn.Module):
    """Keeps a joint embedding from collapsing: the constant is the best encoder of all for a squared prediction error alone.

    Training minimises ``prediction_weight * (squared error of one step + squared error of the rollout) + objective(window)``. Under torch.distributed
    every rank returns the penalty of the union of all batches, such that averaged gradients are those of one process on the union.
    """

    prediction_weight: float = 1.0

    def prepare(self, jepa: Jepa) -> None:
        """Called once, before training and before any state is loaded."""

    def targets(self, frames: Tensor, latents: Tensor, joints: Tensor | None = None) -> Tensor:
        """What predictions are compared with, ``(B, T, K, d)``, for ``frames (B, T, h, w, 3) uint8`` with ``latents (B, T, K, d)``.

        ``joints (B, T, J)`` rad where the model has proprioception.
        """
        return latents

    def forward(self, window: Window, generator: torch.Generator) -> Tensor:
        """The weighted penalty, a scalar; in float32 also where training runs in half precision, which is too coarse for batch statistics."""
        tensors = (window.latents, window.targets, window.predicted)
        precise = Window(*(t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors))
        with torch.autocast(window.latents.device.type, enabled=False):
            return self.penalty(precise, generator)

    @abstractmethod
    def penalty(self, window: Window, generator: torch.Generator) -> Tensor:
        """The weighted penalty of a window in full precision."""

    def after_step(self, jepa: Jepa, step: int, steps: int) -> None:
        """Called after optimiser step ``step``, from 0, of ``steps``."""


def rows(latents: Tensor) -> Tensor:
    """Every token of every frame as a sample: ``(B * T * K, d)`` of ``(B, T, K, d)``."""
    return latents.flatten(0, -2)
