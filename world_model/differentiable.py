"""A bundle that gradients run through. Everything else stays with ONNX Runtime; torch is imported when gradients are first asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from world_model.bundle import BundleError, Manifest
from world_model.protocol import F32, Context
from world_model.runtimes.onnx_model import OnnxModel

if TYPE_CHECKING:
    from world_model.torch_gradients import TorchGradients


class BundleGradients:
    """Derivatives of a bundle's rollout and temporal distance, from its weights."""

    directory: Path
    manifest: Manifest
    _gradients: TorchGradients | None = None

    def prepare(self) -> None:
        """Load the weights into torch; a second call does nothing.

        Raises:
            BundleError: torch is not installed, or the bundle's weights are missing or are not those of its graphs.
        """
        if self._gradients is not None:
            return
        try:
            from world_model.torch_gradients import load_gradients
        except ImportError as error:
            raise BundleError(f"gradients need torch ({error}): install requirements-train.txt, or choose a solver that samples") from error
        self._gradients = load_gradients(self.directory, self.manifest)

    def pullback(self, context: Context, actions: F32) -> tuple[F32, Callable[[F32], F32]]:
        """Imagined latents ``(N, H, D)`` and the map from a slope by these to the slope ``(N, H, A)`` by the actions."""
        return self._ready().pullback(context, actions)

    def distance_gradient(self, latents: F32, goal: F32) -> F32:
        """Derivative ``(N, D)`` of the temporal distance, in steps, by ``latents (N, D)``."""
        return self._ready().distance_gradient(latents, goal)

    def _ready(self) -> TorchGradients:
        self.prepare()
        assert self._gradients is not None
        return self._gradients


class DifferentiableModel(BundleGradients, OnnxModel):
    """An ``OnnxModel`` whose rollout and temporal distance have derivatives."""
