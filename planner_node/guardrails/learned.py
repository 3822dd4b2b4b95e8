"""A guardrail that was learned from labelled frames, evaluated on every imagined scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from world_model.protocol import F32, SafetyHead


@dataclass(frozen=True)
class LearnedGuardrail:
    """The calibrated margin of a head. Its miss rate was measured on real frames; what is imagined is less certain, the more so the farther ahead."""

    head: SafetyHead

    @property
    def name(self) -> str:
        """The head's."""
        return self.head.name

    def margins(self, latents: F32) -> NDArray[np.float64]:
        """Margin ``(...)`` of ``latents (..., D)``, in the head's unit."""
        flat = np.ascontiguousarray(latents.reshape(-1, latents.shape[-1]))
        return self.head.margins(flat).astype(np.float64).reshape(latents.shape[:-1])
