"""What a critic is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planner_node.plan import Candidates, Problem


class Critic(Protocol):
    """Judges imagined futures; it sees what was imagined, never the model that imagined it."""

    name: str
    weight: float

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """A cost for each candidate, ``(N,)``, before the weight."""
        ...
