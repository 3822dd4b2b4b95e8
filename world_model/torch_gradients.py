"""Derivatives of a bundle's rollout and temporal distance, by torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from world_model.bundle import BundleError, Manifest
from world_model.config import ConfigError, parse_config
from world_model.heads.distance import build_distance
from world_model.predictors.predictor import Predictor
from world_model.predictors.registry import build_predictor
from world_model.protocol import F32, Context

_WEIGHTS = "weights.safetensors"


class TorchGradients:
    """A predictor and a distance head in evaluation mode; their weights stay as they are."""

    def __init__(self, predictor: Predictor, distance: nn.Module) -> None:
        self._predictor = predictor.eval().requires_grad_(False)
        self._distance = distance.eval().requires_grad_(False)

    def pullback(self, context: Context, actions: F32) -> tuple[F32, Callable[[F32], F32]]:
        """Imagined latents ``(N, H, D)`` and the map from a slope by these to the slope ``(N, H, A)`` by the actions.

        The map may be used once: it frees what it was made of.
        """
        leaf = _tensor(actions).requires_grad_(True)
        imagined = self._predictor(_tensor(context.latents), _tensor(context.actions), leaf)

        def pull(slope: F32) -> F32:
            (gradient,) = torch.autograd.grad(imagined, leaf, _tensor(slope))
            return _array(gradient)

        return _array(imagined.detach()), pull

    def distance_gradient(self, latents: F32, goal: F32) -> F32:
        """Derivative ``(N, D)`` of the distance, in steps, by ``latents (N, D)``."""
        leaf = _tensor(latents).requires_grad_(True)
        (gradient,) = torch.autograd.grad(self._distance(leaf, _tensor(goal)[None]).sum(), leaf)
        return _array(gradient)


def load_gradients(folder: Path, manifest: Manifest) -> TorchGradients:
    """The networks of the bundle in ``folder``, without its encoder and actor.

    Raises:
        BundleError: its weights or the description of its networks are missing, or do not fit each other.
    """
    file = folder / _WEIGHTS
    if not file.is_file() or file.stat().st_size == 0:
        raise BundleError(f"{folder}: {_WEIGHTS} is missing or empty, and gradients need the weights; copy the bundle again or export it anew")
    try:
        config = parse_config(manifest.provenance.get("config"), f"the configuration in the manifest of {manifest.name}")
        model = config.model
        predictor = build_predictor(model.predictor, manifest.history, manifest.tokens, manifest.latent_dim // manifest.tokens, manifest.action_dim)
        distance = build_distance(config.distance, manifest.latent_dim)
        tensors = load_file(file)
        for prefix, network in (("jepa/predictor.", predictor), ("distance/", distance)):
            network.load_state_dict({key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)})
    except (ConfigError, SafetensorError, RuntimeError) as error:
        raise BundleError(f"{folder}: no gradients: {str(error).splitlines()[0]}") from error
    return TorchGradients(predictor, distance)


def _tensor(array: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _array(tensor: Tensor) -> F32:
    array: F32 = tensor.numpy()
    return array
