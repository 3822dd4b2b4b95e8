"""InfoNCE, the contrastive reference: a prediction is closer to what came next than to every other frame of the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from world_model.objectives.all_ranks import rows_of_all
from world_model.objectives.objective import AntiCollapse, Window


def info_nce(predicted: Tensor, targets: Tensor, temperature: float, both_directions: bool) -> Tensor:
    """``-mean_i log [exp(s_ii) / sum_j exp(s_ij)]`` (CPC, arXiv 1807.03748, equation 4) with ``s_ij = -|p_i - y_j|^2 / (2 temperature D)``.

    ``predicted``, ``targets (N, D)``; j runs over the targets of all ranks. The energy is a squared distance (as in C-SWM, arXiv 1911.12247), not a
    cosine: it says where the prediction lies, not only in which direction, and a rollout starts from there. D makes the temperature mean the same for
    every width. With ``both_directions`` the mean of this and of the same with the roles exchanged (CLIP, arXiv 2103.00020).
    """
    predicted, targets = rows_of_all(predicted), rows_of_all(targets)
    squared = predicted.square().sum(1)[:, None] + targets.square().sum(1)[None] - 2.0 * predicted @ targets.T
    logits = -squared / (2.0 * temperature * targets.shape[1])
    truth = torch.arange(len(logits), device=logits.device)
    loss = functional.cross_entropy(logits, truth)
    return 0.5 * (loss + functional.cross_entropy(logits.T, truth)) if both_directions else loss


class InfoNce(AntiCollapse):
    """``weight * info_nce`` between one-step predictions and targets, beside ``prediction_weight`` times the squared error or instead of it, with 0.

    Alone it says which frame comes next, not where its latent lies: only differences of energies count, and predictions run away along them.
    A sample is a whole frame, its K tokens side by side: token by token, the background that every frame shares would have to differ from itself.
    """

    def __init__(self, weight: float, temperature: float, both_directions: bool, prediction_weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = temperature
        self.both_directions = both_directions
        self.prediction_weight = prediction_weight

    def penalty(self, window: Window, generator: torch.Generator) -> Tensor:
        """The weighted cross-entropy of finding the next frame."""
        predicted, targets = (tokens.flatten(2).flatten(0, 1) for tokens in (window.predicted, window.targets[:, 1:]))
        return self.weight * info_nce(predicted, targets, self.temperature, self.both_directions)
