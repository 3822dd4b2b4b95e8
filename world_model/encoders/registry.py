"""The encoders by name: the one place to add an encoder."""

from __future__ import annotations

from dataclasses import dataclass

from world_model.encoders.convolutional import ConvolutionalEncoder
from world_model.encoders.encoder import Encoder


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, and how large.

    ``kind``: ``convolutional``, ``vit`` (DINOv2 architecture trained here) or ``dinov2`` (pretrained, from ``source``: a folder or a hub id).
    ``size``, ``grid``, ``frozen`` are for the transformers; ``patch``, ``width``, ``depth``, ``heads`` for ``vit`` alone.
    """

    kind: str = "convolutional"
    source: str = ""
    size: int = 64
    grid: int = 2
    frozen: bool = True
    patch: int = 8
    width: int = 192
    depth: int = 4
    heads: int = 3


def build_encoder(config: EncoderConfig, height: int, width: int) -> Encoder:
    """The encoder that ``config`` names, for pictures of ``height x width``.

    Raises:
        ValueError: there is no such kind; the message lists those that exist.
        EncoderSourceError: pretrained weights cannot be loaded.
        EncoderShapeError: the sizes of a transformer do not fit together.
    """
    if config.kind == "convolutional":
        return ConvolutionalEncoder(height, width)
    if config.kind in ("vit", "dinov2"):
        # transformers takes seconds to import and is not needed for the others
        from world_model.encoders.dinov2 import pretrained_dinov2, scratch_dinov2

        if config.kind == "dinov2":
            return pretrained_dinov2(config.source, config.size, config.grid, config.frozen)
        return scratch_dinov2(config.size, config.patch, config.width, config.depth, config.heads, config.grid)
    raise ValueError(f"unknown encoder kind '{config.kind}'; choose convolutional, vit or dinov2")
