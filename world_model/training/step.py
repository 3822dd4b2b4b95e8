"""One step of training the world model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from world_model.config import TrainConfig
from world_model.jepa import Jepa
from world_model.objectives import build_objective
from world_model.training.augmentation import Augmentation
from world_model.training.batch_norm import share_batch_norm
from world_model.training.draws import generator_for, seed_dropout
from world_model.training.episodes import WindowBatch
from world_model.training.loss import Loss
from world_model.training.schedule import learning_rate, set_rate
from world_model.training.weights_average import averaged

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Stepped:
    """What a step found: ``loss`` and its ``terms``, the ``latents (b, T, D)`` of its windows, and the norm of the ``gradient`` before clipping."""

    loss: Tensor
    terms: dict[str, Tensor]
    latents: Tensor
    gradient: Tensor


class TrainingStep:
    """Model, objective, optimiser and average of the weights, moved to where Fabric computes; call it with the windows of each step in turn."""

    def __init__(self, fabric: Fabric, config: TrainConfig, jepa: Jepa) -> None:
        settings = config.jepa
        if fabric.world_size > 1:
            share_batch_norm(jepa)
        self.fabric, self.config, self.jepa = fabric, config, jepa.to(fabric.device)
        self.objective = build_objective(settings.objective).to(fabric.device)
        self.objective.prepare(jepa)
        loss = Loss(jepa, self.objective)
        parameters = [p for p in loss.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
        self.average = averaged(jepa, settings.average) if settings.average > 0 else None
        self.augment = Augmentation(settings.augmentation, config.seed, fabric.device)
        self._loss, self._stepping = fabric.setup(loss, self.optimizer)
        self._loss.train()

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by name."""
        return {"jepa": self.jepa, "objective": self.objective} | ({} if self.average is None else {"average": self.average})

    def __call__(self, batch: WindowBatch) -> Stepped:
        """Take a step on this process' windows; all processes meet in it."""
        settings, step = self.config.jepa, batch.step
        set_rate(self.optimizer, learning_rate(step, settings.steps, settings.learning_rate, settings.warmup))
        seed_dropout(self.config.seed, step, self.fabric.global_rank)
        frames = self.augment(batch.frames, step, batch.first, settings.batch)
        loss, terms, latents = self._loss(frames, batch.actions, generator_for(self.config.seed, step, "objective"), batch.joints)
        self._stepping.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        gradient = self.fabric.clip_gradients(self._loss, self._stepping, max_norm=settings.clip, error_if_nonfinite=False)
        assert gradient is not None  # a norm was asked for
        self._stepping.step()
        self.objective.after_step(self.jepa, step, settings.steps)
        if self.average is not None:
            self.average.update_parameters(self.jepa)
        return Stepped(loss.detach(), {name: term.detach() for name, term in terms.items()}, latents.detach(), gradient)
