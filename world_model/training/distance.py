"""The critic: a temporal distance on the frozen latents, of the kind that the configuration names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from world_model.config import TrainConfig
from world_model.heads.distance import fit_distance
from world_model.training.log import Report


def train_distance(config: TrainConfig, head: nn.Module, latents: Tensor, report: Report) -> None:
    """Fit ``head`` on episodes ``latents (E, T+1, D)``, where head and latents lie."""
    fit_distance(config.distance, head, latents, torch.Generator().manual_seed(config.seed + 1), report)
