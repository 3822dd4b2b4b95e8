"""What a family of pretrained vision transformers must say of itself, so that all the rest is written once (`patch_encoder`, `pretrained`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class PatchTokens(NamedTuple):
    """``patches (B, P, C)`` row by row from the top left; ``summary (B, C)``, the token that stands for the whole picture, where there is one."""

    patches: Tensor
    summary: Tensor | None


class BackboneFamily(ABC):
    """One family of models in transformers. Pictures are RGB, ``(x / 255 - mean) / std``, unless the weights' folder says otherwise."""

    title: ClassVar[str]
    model_type: ClassVar[str]
    """What ``config.json`` calls it."""
    summary: ClassVar[bool]
    """Whether there is a class token."""
    mean: ClassVar[tuple[float, float, float]] = _IMAGENET_MEAN
    std: ClassVar[tuple[float, float, float]] = _IMAGENET_STD

    @abstractmethod
    def model_class(self) -> Any:
        """The class of transformers that loads it."""

    def fitted(self, config: Any, size: int) -> Any:
        """The model's ``config`` with what must change for pictures of ``size`` pixels; no weight may depend on that."""
        return config

    def encoder(self, model: Any) -> nn.Module:
        """The part of the model that makes tokens of pictures."""
        part: nn.Module = model
        return part

    @abstractmethod
    def tokens(self, encoder: nn.Module, pictures: Tensor) -> PatchTokens:
        """Tokens of normalised ``pictures (B, 3, S, S) float32``."""
