"""Temporal distances by name: the one place to add one. All learn from the order of frames alone, without labels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from world_model.config import DistanceConfig
from world_model.heads.fit_contrastive import fit_contrastive
from world_model.heads.fit_expectile import fit_expectile
from world_model.heads.fit_qrl import fit_qrl
from world_model.heads.quasimetric import QuasimetricHead
from world_model.heads.report import Report
from world_model.heads.temporal_distance import TemporalDistanceHead

DISTANCES = ("expectile", "qrl", "contrastive")


class Distance(Protocol):
    """How many steps lie between two latents."""

    def __call__(self, latents: Tensor, goals: Tensor) -> Tensor:
        """Steps ``(...)`` from ``latents (..., D)`` to ``goals (..., D)``."""
        ...


def build_distance(config: DistanceConfig, latent_dim: int) -> nn.Module:
    """An untrained ``Distance`` of the configured kind; its weights come from torch's global generator."""
    kind = TemporalDistanceHead if config.kind == "expectile" else QuasimetricHead
    return kind(latent_dim, config.width, config.embedding_dim)


def fit_distance(config: DistanceConfig, head: nn.Module, latents: Tensor, generator: torch.Generator, report: Report) -> None:
    """Train ``head``, made by :func:`build_distance`, on episodes ``latents (E, T+1, D)``, in place."""
    if isinstance(head, QuasimetricHead):
        (fit_qrl if config.kind == "qrl" else fit_contrastive)(config, head, latents, generator, report)
    elif isinstance(head, TemporalDistanceHead):
        fit_expectile(config, head, latents, generator, report)
    else:
        raise TypeError(f"{type(head).__name__} is no temporal distance")
    head.eval()
