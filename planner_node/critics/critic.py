"""What a critic is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planner_node.plan import Candidates, Problem


class Critic(Protocol):
    """Judges imagined futures; it sees what was imagined, never the model that imagined it."""

    @property
    def name(self) -> str:
        """How its share is called in a plan's terms."""
        ...

    @property
    def weight(self) -> float:
        """By what its cost is multiplied."""
        ...

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """A cost for each candidate, ``(N,)``, before the weight."""
        ...
