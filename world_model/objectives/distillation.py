"""EMA distillation, the type of BYOL and I-JEPA: predictions aim at a slow copy of the encoder, through which no gradient flows."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from world_model.objectives.objective import AntiCollapse, Window

if TYPE_CHECKING:
    from world_model.jepa import Jepa


def momentum_at(step: int, steps: int, start: float) -> float:
    """``tau = 1 - (1 - start) * (cos(pi step / steps) + 1) / 2``: from ``start`` to 1 (BYOL, arXiv 2006.07733, section 3.2)."""
    return 1.0 - (1.0 - start) * (math.cos(math.pi * step / steps) + 1.0) / 2.0


class Distillation(AntiCollapse):
    """The teacher, encoder and projector, follows ``xi <- tau xi + (1 - tau) theta`` (BYOL, equation 1; I-JEPA, arXiv 2301.08243): no penalty.

    It is part of this module's state and so of a checkpoint. It normalises by the statistics of its own batch, as BYOL's target network does.
    """

    def __init__(self, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum

    def prepare(self, jepa: Jepa) -> None:
        """Copy encoder and projector; the predictor stays with the student."""
        self.teacher = copy.deepcopy(jepa)
        del self.teacher.predictor
        self.teacher.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Distillation:
        """Whatever the mode, the teacher normalises by the batch, like the student that learns, and drops nothing of what it is shown."""
        super().train(mode)
        for module in self.modules():
            if module is not self:
                module.training = isinstance(module, nn.modules.batchnorm._BatchNorm)
        return self

    @torch.no_grad()
    def targets(self, frames: Tensor, latents: Tensor, joints: Tensor | None = None) -> Tensor:
        """The teacher's latents ``(B, T, K, d)``."""
        return self.teacher.encode(frames.flatten(0, 1), None if joints is None else joints.flatten(0, 1)).view(latents.shape)

    def penalty(self, window: Window, generator: torch.Generator) -> Tensor:
        """Zero."""
        return window.latents.new_zeros(())

    @torch.no_grad()
    def after_step(self, jepa: Jepa, step: int, steps: int) -> None:
        """Move the teacher's weights towards the student's."""
        learned = dict(jepa.named_parameters())
        tau = momentum_at(step, steps, self.momentum)
        for name, slow in self.teacher.named_parameters():
            slow.lerp_(learned[name].to(slow.dtype), 1.0 - tau)
