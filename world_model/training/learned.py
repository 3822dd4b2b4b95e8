"""What is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from world_model.actor import GoalActor
from world_model.config import TrainConfig
from world_model.data import DatasetError
from world_model.encoders.proprioception import Proprioception
from world_model.encoders.registry import build_encoder
from world_model.heads.distance import build_distance
from world_model.jepa import Jepa
from world_model.predictors.registry import build_predictor


@dataclass(frozen=True)
class Learned:
    """The three networks of a bundle."""

    jepa: Jepa
    distance: nn.Module
    actor: GoalActor

    def modules(self) -> dict[str, nn.Module]:
        """By name, as in a checkpoint."""
        return {"jepa": self.jepa, "distance": self.distance, "actor": self.actor}


def build(config: TrainConfig, frame: tuple[int, int, int], action_dim: int, joints: int = 0, backbone: dict[str, Any] | None = None) -> Learned:
    """Untrained networks of the configured shape, seeded by the configuration, for pictures ``frame`` = ``(h, w, 3)`` and actions ``(A,)``.

    ``joints`` is how many the data have, and ``backbone`` what ``Jepa.shape`` said of a model that was trained: without it a pretrained one comes
    from its source.

    Raises:
        DatasetError: the model is to have proprioception, but there are no ``joints``.
        ValueError: there is no such encoder or predictor, or it cannot be loaded.
    """
    if config.model.proprioception and not joints:
        raise DatasetError("model.proprioception is true, but the data hold no joint positions; collect them anew or set it to false")
    torch.manual_seed(config.seed)
    model = config.model
    encoder = build_encoder(model.encoder, frame[0], frame[1], backbone)
    predictor = build_predictor(model.predictor, model.history, encoder.tokens, model.latent_dim, action_dim)
    proprioception = Proprioception(joints, model.latent_dim) if model.proprioception else None
    jepa = Jepa(encoder, predictor, model.latent_dim, proprioception)
    return Learned(
        jepa=jepa,
        distance=build_distance(config.distance, jepa.latent_dim),
        actor=GoalActor(
            jepa.latent_dim,
            action_dim,
            config.actor.width,
            config.actor.depth,
            config.actor.components,
            config.actor.most_steps,
            config.actor.dropout,
        ),
    )
