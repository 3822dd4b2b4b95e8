"""No objective against collapse: the null that shows why one is needed."""

from __future__ import annotations

import torch
from torch import Tensor

from world_model.objectives.objective import AntiCollapse, Window


class Nothing(AntiCollapse):
    """Prediction error alone: the encoder is rewarded for forgetting whatever is hard to predict (Jing et al., arXiv 2110.09348)."""

    def penalty(self, window: Window, generator: torch.Generator) -> Tensor:
        """Zero."""
        return window.latents.new_zeros(())
