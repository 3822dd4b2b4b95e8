"""What a guardrail in the search is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from world_model.protocol import F32

# Points checked on each straight step, equally far apart in time: 4 cm steps are checked every 5 mm.
SAMPLES_PER_STEP = 8


class Guardrail(Protocol):
    """A margin on the commanded tool path: metres, or what else its class says. At least 0 is safe."""

    @property
    def name(self) -> str:
        """How it is called in messages."""
        ...

    def margins(self, path: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margin ``(..., S)`` at points ``(..., S, 3)`` in m in the base frame; ``sampled`` makes ``SAMPLES_PER_STEP`` of them for each step."""
        ...


def is_timed(guardrail: Guardrail) -> bool:
    """Whether its margins depend on when points are passed, so that only a path from ``sampled`` means anything to it."""
    return bool(getattr(guardrail, "timed", False))


class LatentGuardrail(Protocol):
    """A margin on imagined scenes, for what a tool path does not say: where the block goes, for example."""

    @property
    def name(self) -> str:
        """How it is called in messages."""
        ...

    def margins(self, latents: F32) -> NDArray[np.float64]:
        """Margin ``(...)`` of ``latents (..., D)``, in the guardrail's own unit."""
        ...


def sampled(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points ``(..., H * 8, 3)`` on the straight segments between ``points (..., H+1, 3)``, the first point left out."""
    shares = (np.arange(SAMPLES_PER_STEP) + 1.0)[:, None] / SAMPLES_PER_STEP
    start, end = points[..., :-1, None, :], points[..., 1:, None, :]
    path = start + (end - start) * shares
    return path.reshape(*points.shape[:-2], -1, points.shape[-1])
