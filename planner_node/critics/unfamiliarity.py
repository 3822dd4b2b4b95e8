"""An intrinsic cost: imagined scenes that lie farther out than any that were seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.critics.critic import Slope, level
from planner_node.plan import Candidates, Problem


@dataclass(frozen=True)
class UnfamiliarityCritic:
    """Mean over steps of ``max(0, |z|^2 / D - 1 - room)``: how much less likely than usual scenes are by the density that latents are trained to.

    SIGReg (LeJEPA, arXiv 2511.08544) makes the latents of the data a standard normal in D dimensions, so that ``|z|^2 / D`` is 1 on average, and what
    lies beyond is twice the excess of the negative log-density per dimension. A search that exploits the predictor's errors tends to leave that ball.
    Only the bundle's own training objective is used, no further network. For a bundle trained without SIGReg its weight should be 0.
    """

    weight: float = 1.0
    room: float = 0.5
    name: str = "unfamiliarity"

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)``, without a unit."""
        excess: NDArray[np.floating] = np.maximum(self._beyond(candidates), 0.0).mean(1)
        return excess

    def slope(self, problem: Problem, candidates: Candidates) -> Slope:
        """Outwards, at the steps that lie beyond."""
        beyond = self._beyond(candidates) > 0
        horizon, dim = candidates.latents.shape[1:]
        return Slope(np.where(beyond[..., None], 2.0 / (horizon * dim) * candidates.latents, 0.0).astype(np.float32), level(candidates).actions)

    def _beyond(self, candidates: Candidates) -> NDArray[np.floating]:
        return np.asarray((candidates.latents**2).mean(-1) - 1.0 - self.room)
