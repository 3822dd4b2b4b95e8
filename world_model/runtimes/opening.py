"""The one door: a bundle's folder and a configuration in, a model that says what it runs on out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from world_model.bundle import Manifest
from world_model.protocol import F32, DifferentiableDistance, DifferentiableRollout, PlanningModel
from world_model.runtimes.choice import RuntimeChoice
from world_model.runtimes.config import RuntimeConfig, RuntimeRefusedError


class BundleModel(PlanningModel, DifferentiableRollout, DifferentiableDistance, Protocol):
    """A bundle that runs, whatever runs it."""

    manifest: Manifest
    choice: RuntimeChoice

    @property
    def first_run_ms(self) -> dict[str, float]:
        """What the first run of each graph took that has run, ms."""
        ...

    def witness(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """Latents ``(B, D)`` as the bundle's witness sees them; the encoder's where there is none."""
        ...


def open_model(directory: str | Path, config: RuntimeConfig | None = None) -> BundleModel:
    """The bundle in ``directory``, on what ``config`` asks for. Gradients, where somebody asks for them, come from torch in any case.

    Raises:
        BundleError: the bundle is damaged.
        RuntimeRefusedError: the runtime that ``config`` names cannot be had here; the message says why.
    """
    asked = config or RuntimeConfig()
    if asked.runtime != "torch":
        from world_model.differentiable import DifferentiableModel

        return DifferentiableModel(directory, config=asked)
    try:
        from world_model.runtimes.torch_model import TorchBundle
    except ImportError as error:
        raise RuntimeRefusedError(f"runtime 'torch' cannot be had: {error}; install requirements-train.txt, or choose 'auto'") from error
    return TorchBundle(directory, asked)
