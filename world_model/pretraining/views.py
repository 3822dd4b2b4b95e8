"""Views of a picture for self-distillation, suited to a fixed camera and small pictures: mild crops and colours, never mirrored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from world_model.pretraining.config import ViewsConfig

GLOBALS = 2
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Views:
    """RGB in [0, 1]: ``large (2 * N, 3, S, S)``, all first views before all second ones, and ``small (n * N, 3, s, s)``, likewise."""

    large: Tensor
    small: Tensor


def random_boxes(count: int, least: float, most: float, aspect: float, generator: torch.Generator) -> Tensor:
    """``count`` boxes ``(N, 4)``: centre x, y and half width, half height, in units where the picture is [-1, 1] x [-1, 1].

    The area is a share in [least, most] of the picture, the ratio of the sides at most ``aspect`` either way, and the box lies inside the picture.
    """
    area = least + (most - least) * torch.rand(count, generator=generator)
    ratio = torch.exp(math.log(aspect) * (2.0 * torch.rand(count, generator=generator) - 1.0))
    half = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1.0)
    centre = (1.0 - half) * (2.0 * torch.rand(count, 2, generator=generator) - 1.0)
    return torch.cat([centre, half], dim=1)


def crop(pictures: Tensor, boxes: Tensor, size: int) -> Tensor:
    """The content of ``boxes (N, 4)`` of ``pictures (N, 3, h, w)``, bilinear, as ``(N, 3, size, size)``."""
    transform = torch.zeros(len(boxes), 2, 3, device=pictures.device)
    transform[:, 0, 0], transform[:, 1, 1] = boxes[:, 2], boxes[:, 3]
    transform[:, :, 2] = boxes[:, :2]
    grid = functional.affine_grid(transform, [len(boxes), 3, size, size], align_corners=False)
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jitter(pictures: Tensor, config: ViewsConfig, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation of each of ``pictures (N, 3, h, w)`` in [0, 1], multiplied by random factors around 1."""

    def factors(strength: float) -> Tensor:
        drawn = 1.0 + strength * (2.0 * torch.rand(len(pictures), 1, 1, 1, generator=generator) - 1.0)
        return drawn.to(pictures.device)

    luma = torch.tensor(_LUMA, device=pictures.device).view(1, 3, 1, 1)
    out = pictures * factors(config.brightness)
    mean = (out * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    out = mean + (out - mean) * factors(config.contrast)
    grey = (out * luma).sum(1, keepdim=True)
    return (grey + (out - grey) * factors(config.saturation)).clamp(0.0, 1.0)


def multi_crop(frames: Tensor, size: int, config: ViewsConfig, generator: torch.Generator) -> Views:
    """Two global crops of ``size`` px and ``config.locals`` local ones of ``frames (N, h, w, 3) uint8`` (SwAV, arXiv 2006.09882, section 3.2)."""
    pictures = frames.permute(0, 3, 1, 2).to(torch.float32) / 255.0

    def views(count: int, least: float, most: float, side: int) -> Tensor:
        many = pictures.repeat(count, 1, 1, 1)
        boxes = random_boxes(len(many), least, most, config.aspect, generator).to(many.device)
        return jitter(crop(many, boxes, side), config, generator)

    return Views(views(GLOBALS, config.global_least, 1.0, size), views(config.locals, config.local_least, config.local_most, config.local_size))
