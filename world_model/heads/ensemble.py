"""An ensemble of small networks on the frozen latent: what a head is when only few frames are labelled."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEAST_SCALE = 1e-6


class Ensemble(nn.Module):
    """M networks of two hidden layers, evaluated at once, on standardised latents; the head is their mean.

    ``mean (D,)`` and ``scale (D,)`` are those of many *unlabelled* latents, so that 20 labelled frames need not say where the data lie.
    ``offset (K,)`` and ``gain (K,)`` bring outputs to the unit of the labels.
    """

    mean: Tensor
    scale: Tensor
    offset: Tensor
    gain: Tensor

    def __init__(self, latents: Tensor, outputs: int, width: int, members: int, generator: torch.Generator) -> None:
        super().__init__()
        dim = latents.shape[-1]
        flat = latents.reshape(-1, dim)
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("scale", flat.std(0).clamp(min=_LEAST_SCALE))
        self.register_buffer("offset", torch.zeros(outputs))
        self.register_buffer("gain", torch.ones(outputs))
        sizes = (dim, width, width, outputs)
        self.weights = nn.ParameterList(torch.randn(members, a, b, generator=generator) / a**0.5 for a, b in itertools.pairwise(sizes))
        # First biases spread the kinks of the units over the data.
        self.biases = nn.ParameterList(
            0.5 * torch.randn(members, 1, width, generator=generator) if layer == 0 else torch.zeros(members, 1, size)
            for layer, size in enumerate(sizes[1:])
        )

    def standardised(self, latents: Tensor) -> Tensor:
        """Latents ``(N, D)`` with unit variance."""
        return (latents - self.mean) / self.scale

    def members(self, standardised: Tensor) -> Tensor:
        """Every member's outputs ``(M, N, K)`` before offset and gain, for ``standardised (N, D)`` or ``(M, N, D)``."""
        hidden = standardised
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight + bias
            if layer + 1 < len(self.weights):
                hidden = functional.gelu(hidden)
        return hidden

    def forward(self, latents: Tensor) -> Tensor:
        """Outputs ``(N, K)`` in the unit of the labels for ``latents (N, D)``."""
        outputs: Tensor = self.members(self.standardised(latents)).mean(0) * self.gain + self.offset
        return outputs


@dataclass(frozen=True)
class EnsembleConfig:
    """``members`` networks of ``width``, trained for ``steps`` of at most ``batch`` frames.

    What keeps 200 frames from being learned by heart: a strong weight decay, ``noise`` on the standardised latents, and the mean over members.
    """

    members: int = 8
    width: int = 64
    steps: int = 400
    batch: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1.0
    noise: float = 0.1


def fit_ensemble(unlabelled: Tensor, latents: Tensor, targets: Tensor, config: EnsembleConfig, generator: torch.Generator) -> Ensemble:
    """Regress ``targets (N, K)`` on ``latents (N, D)`` by least squares; ``unlabelled (..., D)`` says where latents lie."""
    ensemble = Ensemble(unlabelled, targets.shape[1], config.width, config.members, generator)
    ensemble.offset.copy_(targets.mean(0))
    if len(targets) > 1:
        ensemble.gain.copy_(targets.std(0).clamp(min=_LEAST_SCALE))
    inputs = ensemble.standardised(latents)
    wanted = (targets - ensemble.offset) / ensemble.gain
    optimizer = torch.optim.AdamW(ensemble.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 20) * (1.0 - step / config.steps)
        # Every member sees its own draw.
        index = torch.randint(len(inputs), (config.members, min(config.batch, len(inputs))), generator=generator)
        blurred = inputs[index] + config.noise * torch.randn((*index.shape, inputs.shape[1]), generator=generator)
        loss = functional.mse_loss(ensemble.members(blurred), wanted[index])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return ensemble.eval()
