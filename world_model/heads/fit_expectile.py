"""Regression of the steps between two frames with an expectile below one half: the shortest way that was seen counts most."""

from __future__ import annotations

import torch
from torch import Tensor

from world_model.config import DistanceConfig
from world_model.heads.distance_schedule import draw_pairs, set_rate
from world_model.heads.report import Report
from world_model.heads.temporal_distance import TemporalDistanceHead
from world_model.objectives import expectile


def fit_expectile(config: DistanceConfig, head: TemporalDistanceHead, latents: Tensor, generator: torch.Generator, report: Report) -> None:
    """Regress ``|i - j|`` on pairs of frames of one episode, ``latents (E, T+1, D)``, where head and latents lie."""
    optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate)
    for step in range(config.steps):
        set_rate(optimizer, step, config.steps, config.learning_rate)
        first, second, steps = draw_pairs(latents, config.batch, generator)
        loss = expectile(steps.abs() - head(first, second), config.expectile)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if (step + 1) % 500 == 0 or step + 1 == config.steps:
            report("distance head", step + 1, config.steps, {"loss": float(loss.detach())})
