"""Pictures as other light, another camera and strange objects would make them, so that the encoder learns to ignore all that.

Colours change for each frame by itself, also inside a window: what cannot be predicted from one frame to the next is not worth a place in the latent.
The camera shakes once for each window.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from world_model.config import AugmentationConfig
from world_model.training.draws import generator_for

_LUMINANCE = (0.299, 0.587, 0.114)
_NOISE_BANK = 1 << 20
# What is drawn for each frame: seven numbers for the colour map, one for the curve, one for where its noise begins, and eight for the rectangle.
_JITTERS, _RECTANGLE = 9, 8


class Augmentation:
    """Jitter for the windows of a training step, seeded by the index of each in the whole batch, whichever process it belongs to."""

    def __init__(self, config: AugmentationConfig, seed: int, device: torch.device) -> None:
        self.config = config
        self.seed = seed
        bank = torch.randn(_NOISE_BANK if config.noise > 0 else 0, generator=torch.Generator().manual_seed(seed))
        self._bank = bank.to(device)

    def __call__(self, frames: Tensor, step: int, first: int, batch: int) -> Tensor:
        """Jittered ``frames (B, T, h, w, 3) uint8``, which are windows ``first`` to ``first + B`` of the ``batch`` windows of ``step``."""
        if not self.config.enabled:
            return frames
        count, length = frames.shape[:2]
        generator = generator_for(self.seed, step, "augmentation")
        draws = torch.rand(batch, length, _JITTERS + _RECTANGLE, generator=generator)[first : first + count].flatten(0, 1)
        moves = torch.rand(batch, 2, generator=generator)[first : first + count]
        flat = shift(frames, moves, self.config.shift).flatten(0, 1)
        flat = self._jitter(flat, draws[:, :_JITTERS]) if self.config.photometric else flat.clone()
        if self.config.cutout > 0:
            cut_out(flat, draws[:, _JITTERS:], self.config.cutout, self.config.cutout_size)
        return flat.view(frames.shape)

    def _jitter(self, frames: Tensor, draws: Tensor) -> Tensor:
        """New frames: a curve, a colour matrix and noise for each of ``frames (N, h, w, 3) uint8``."""
        settings = self.config
        numbers = frames[0].numel()
        matrices, offsets = colour_maps(draws[:, :7] * 2 - 1, settings)
        # A few pixels at a time through one block-diagonal matrix: three columns alone keep a matrix product waiting.
        together = next(n for n in (8, 4, 2, 1) if (numbers // 3) % n == 0)
        blocks = torch.kron(torch.eye(together), torch.ones(3, 3)) * matrices.transpose(1, 2).repeat(1, together, together)
        blocks, offsets = blocks.to(frames.device), (255 * offsets + 0.5).repeat(1, together)[:, None].to(frames.device)
        curves = ((draws[:, 7] * 2 - 1) * settings.gamma).to(frames.device)[:, None, None]
        begins = (draws[:, 8] * max(1, _NOISE_BANK - numbers)).long().tolist()
        out = torch.empty_like(frames)
        part = max(1, (1 << 17) // numbers)  # as many as stay in the cache
        for begin in range(0, len(frames), part):
            some = slice(begin, begin + part)
            pixels = frames[some].reshape(-1, numbers // (3 * together), 3 * together).to(torch.float32)
            if settings.gamma > 0:
                pixels *= (pixels * (curves[some] / -255)).add_(1 + curves[some])
            pixels = torch.baddbmm(offsets[some], pixels, blocks[some])
            if settings.noise > 0:
                for frame, start in zip(pixels, begins[some], strict=True):
                    frame.view(-1).add_(self._bank[start : start + numbers], alpha=255 * settings.noise)
            out[some].copy_(pixels.clamp_(0, 255).view(out[some].shape))
        return out


def colour_maps(draws: Tensor, settings: AugmentationConfig) -> tuple[Tensor, Tensor]:
    """Colour matrices ``(N, 3, 3)`` and offsets ``(N, 3)`` for pictures in [0, 1], from ``draws (N, 7)`` in [-1, 1].

    ``light * diag(gains) * (contrast * S H x + (1 - contrast) / 2)``: H turns hues about the grey axis (Rodrigues' formula), S mixes with luminance.
    """
    brightness, contrast, saturation, hue, *gains = draws.unbind(1)
    axis = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    angle = (hue * settings.hue * math.pi)[:, None, None]
    turn = torch.cos(angle) * (torch.eye(3) - axis) + axis + torch.sin(angle) * cross
    kept = (1 + saturation * settings.saturation)[:, None, None]
    mix = kept * torch.eye(3) + (1 - kept) * torch.tensor(_LUMINANCE).expand(3, 3)
    light = (1 + brightness * settings.brightness)[:, None] * (1 + torch.stack(gains, 1) * settings.gain)
    span = (1 + contrast * settings.contrast)[:, None]
    return (light * span)[:, :, None] * (mix @ turn), light * (1 - span) / 2


def shift(frames: Tensor, draws: Tensor, most: int) -> Tensor:
    """Windows ``(B, T, h, w, 3)`` moved by up to ``most`` pixels each way, with their edges repeated; ``draws (B, 2)`` in [0, 1)."""
    if most == 0:
        return frames
    moved = torch.empty_like(frames)
    for window, target, (down, right) in zip(frames, moved, ((2 * most + 1) * draws).long().sub(most).tolist(), strict=True):
        rows = (torch.arange(window.shape[1]) - down).clamp(0, window.shape[1] - 1)
        lowered = window.index_select(1, rows.to(window.device))
        inner = window.shape[2] - abs(right)
        target[:, :, max(0, right) : max(0, right) + inner] = lowered[:, :, max(0, -right) : max(0, -right) + inner]
        if right > 0:
            target[:, :, :right] = lowered[:, :, :1]
        elif right < 0:
            target[:, :, right:] = lowered[:, :, -1:]
    return moved


def cut_out(frames: Tensor, draws: Tensor, probability: float, size: float) -> None:
    """Put a rectangle of one colour over some of ``frames (N, h, w, 3)``, in place: sides up to ``size`` of the picture's; ``draws (N, 8)``."""
    height, width = frames.shape[1:3]
    covered = torch.nonzero(draws[:, 0] < probability).flatten()
    chosen = draws[covered]
    sides = (chosen[:, 1:3] * size * torch.tensor([height, width])).round().clamp(min=1).long()
    begins = (chosen[:, 3:5] * (torch.tensor([height, width]) - sides + 1)).long()
    colours = (256 * chosen[:, 5:]).to(torch.uint8).to(frames.device)
    for index, (tall, wide), (top, left), colour in zip(covered.tolist(), sides.tolist(), begins.tolist(), colours, strict=True):
        frames[index, top : top + tall, left : left + wide] = colour
