"""The encoders by name: the one place to add an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from world_model.encoders.backbone import BackboneFamily
from world_model.encoders.convolutional import ConvolutionalEncoder
from world_model.encoders.encoder import Encoder

KINDS = ("convolutional", "vit", "dinov2", "dinov3", "vjepa2", "ijepa")
STEMS = ("conv", "patch")
TOKENS = ("global", "pooled", "patches")


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, and how large.

    ``kind``: ``convolutional``; ``vit``, the DINOv2 architecture trained here, from random weights or from those in ``source``; ``dinov2``,
    ``dinov3``, ``vjepa2`` or ``ijepa``, pretrained, from ``source``: a folder or a hub id. All but the first are vision transformers.

    ``stem`` (``conv``, ``patch``) is for ``convolutional``. ``size``, the side to which pictures are resized, ``tokens`` (``global``, ``pooled``,
    ``patches``: see ``PatchEncoder``) and ``grid`` are for vision transformers; ``frozen`` for pretrained ones; ``patch``, ``width``, ``depth`` and
    ``heads`` for a ``vit`` without ``source``.
    """

    kind: str = "convolutional"
    stem: str = "conv"
    source: str = ""
    size: int = 64
    tokens: str = "global"
    grid: int = 2
    frozen: bool = True
    patch: int = 8
    width: int = 192
    depth: int = 4
    heads: int = 3

    def __post_init__(self) -> None:
        for name, known in (("stem", STEMS), ("tokens", TOKENS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is '{getattr(self, name)}'; choose {', '.join(known[:-1])} or {known[-1]}")
        for name in ("size", "grid", "patch", "width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")


def build_encoder(config: EncoderConfig, height: int, width: int, backbone: dict[str, Any] | None = None) -> Encoder:
    """The encoder that ``config`` names, for pictures of ``height x width``.

    With ``backbone``, the ``backbone_config`` of an encoder that was trained, it is built without ``config.source`` and with random weights: those of
    the checkpoint are to be loaded into it.

    Raises:
        ValueError: there is no such kind; the message lists those that exist.
        EncoderSourceError: pretrained weights cannot be loaded.
        EncoderShapeError: sizes do not fit together.
    """
    if config.kind not in KINDS:
        raise ValueError(f"unknown encoder kind '{config.kind}'; choose {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if config.kind == "convolutional":
        if config.tokens != "global":
            raise ValueError(f"a convolutional encoder makes one token: tokens must be global, not {config.tokens}")
        return ConvolutionalEncoder(height, width, config.stem)
    # transformers takes seconds to import and is not needed for the first.
    from world_model.encoders import dinov2, dinov3, ijepa, pretrained, vjepa2

    families: dict[str, BackboneFamily] = {
        "vit": dinov2.DinoV2(),
        "dinov2": dinov2.DinoV2(),
        "dinov3": dinov3.DinoV3(),
        "vjepa2": vjepa2.VJepa2(),
        "ijepa": ijepa.IJepa(),
    }
    family = families[config.kind]
    frozen = config.frozen and config.kind != "vit"
    shape = (config.size, config.tokens, config.grid, frozen)
    if backbone is not None:
        return pretrained.untrained(family, backbone, *shape)
    if config.kind == "vit" and not config.source:
        own = dinov2.untrained_config(config.size, config.patch, config.width, config.depth, config.heads)
        return pretrained.untrained(family, own, *shape)
    return pretrained.pretrained(family, config.source, *shape)
