"""A dense depth head: how far away everything in the picture is, drawn from the latent. The simulator's depth is what it learns from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from world_model.data import DatasetError
from world_model.heads.report import Report

SIDE = 32
"""Pixels of a depth picture, each way."""
_WITHIN = 1.25


@dataclass(frozen=True)
class DepthData:
    """Pictures with their depth: ``frames (N, h, w, 3) uint8`` and ``depth (N, 32, 32) float32, m`` along the optical axis.

    Frames are in the order in which they were taken; ``episode (N,)`` says in which episode.
    """

    frames: NDArray[np.uint8]
    depth: NDArray[np.float32]
    episode: NDArray[np.int64]


def read_depth_data(folder: Path) -> DepthData:
    """Read what ``latent-mpc head depth-data`` wrote.

    Raises:
        DatasetError: it is missing or damaged.
    """
    try:
        description = json.loads((folder / "depth.json").read_text())
        frames, depth, episode = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("frames", "depth", "episode"))
    except (OSError, EOFError, ValueError) as error:
        raise DatasetError(f"{folder} holds no depth pictures ({error}); `latent-mpc head depth-data` writes some") from error
    same = len(frames) == len(depth) == len(episode) == description.get("frames")
    if not same or depth.shape[1:] != (SIDE, SIDE) or not np.all(np.isfinite(depth)) or depth.min() <= 0:
        raise DatasetError(f"{folder}: frames {frames.shape} and depth {depth.shape} do not belong together; collect them again")
    return DepthData(frames, depth, episode)


class DepthHead(nn.Module):
    """From a latent to ``(32, 32)`` metres: three upsampling convolutions that draw what differs from the mean picture."""

    mean: Tensor
    scale: Tensor
    usual: Tensor
    spread: Tensor

    def __init__(self, latents: Tensor, depth: Tensor, width: int = 32) -> None:
        super().__init__()
        self.register_buffer("mean", latents.mean(0))
        self.register_buffer("scale", latents.std(0).clamp(min=1e-6))
        self.register_buffer("usual", depth.mean(0))
        self.register_buffer("spread", depth.std(0).mean().clamp(min=1e-4))
        self.enter = nn.Linear(latents.shape[1], 2 * width * 16)
        self.draw = nn.Sequential(
            nn.GELU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.GELU(),
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, 1, 4, 2, 1),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Metres ``(N, 32, 32)`` for ``latents (N, D)``."""
        hidden = self.enter((latents - self.mean) / self.scale)
        drawn: Tensor = self.draw(hidden.view(latents.shape[0], -1, 4, 4))[:, 0]
        return self.usual + self.spread * drawn


def fit_depth(
    latents: Tensor, depth: Tensor, generator: torch.Generator, report: Report, steps: int = 1500, batch: int = 64, rate: float = 2e-3
) -> DepthHead:
    """Regress ``depth (N, 32, 32) m`` on ``latents (N, D)``, with a little noise on the latents."""
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        head = DepthHead(latents, depth)
    optimizer = torch.optim.AdamW(head.parameters(), rate, weight_decay=0.05)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        index = torch.randint(len(latents), (min(batch, len(latents)),), generator=generator)
        noise = 0.03 * head.scale * torch.randn((len(index), latents.shape[1]), generator=generator)
        loss = functional.mse_loss((head(latents[index] + noise) - head.usual) / head.spread, (depth[index] - head.usual) / head.spread)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            report("depth head", step + 1, steps, {"loss": float(loss.detach())})
    return head.eval()


def depth_figures(predicted: NDArray[np.floating], truth: NDArray[np.floating], usual: NDArray[np.floating]) -> dict[str, float]:
    """delta1 (share of pixels within a factor of 1.25) and RMSE in m of ``predicted (N, 32, 32)``, and of the mean picture ``usual (32, 32)``.

    ``scene_*``: over the pixels alone whose depth varies by more than 1 cm over the test pictures. The table and the ground never do.
    """
    moving = truth.std(0) > 0.01

    def delta1(values: NDArray[np.floating], where: NDArray[np.bool_]) -> float:
        ratio = np.maximum(values / truth, truth / values)[:, where]
        return float((ratio < _WITHIN).mean())

    def rmse(values: NDArray[np.floating], where: NDArray[np.bool_]) -> float:
        return float(np.sqrt(((values - truth)[:, where] ** 2).mean()))

    everywhere = np.ones_like(moving)
    measures: dict[str, Callable[[NDArray[np.floating], NDArray[np.bool_]], float]] = {"delta1": delta1, "rmse_m": rmse}
    figures = {}
    for name, measure in measures.items():
        for prefix, where in (("", everywhere), ("scene_", moving)):
            if where.any():
                figures[f"{prefix}{name}"] = measure(predicted, where)
                figures[f"mean_picture_{prefix}{name}"] = measure(np.broadcast_to(usual, truth.shape), where)
    return figures
