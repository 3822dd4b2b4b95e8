"""Backbones from a local folder or a hub id, or from a configuration that travelled with trained weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.utils import cached_file

from world_model.encoders.backbone import BackboneFamily
from world_model.encoders.encoder import EncoderSourceError
from world_model.encoders.patch_encoder import PatchEncoder


def pretrained(family: BackboneFamily, source: str, size: int, keep: str, grid: int, frozen: bool) -> PatchEncoder:
    """An encoder with the weights in ``source``, a folder as transformers writes it or a hub id, and with the normalisation that is told beside them.

    Raises:
        EncoderSourceError: there is nothing to load, it is another kind of model, it is pickled, or it lacks weights.
        EncoderShapeError: size, patches and grid do not fit together.
    """
    try:
        config = AutoConfig.from_pretrained(source)
        _require_type(family, config.model_type)
        config = family.fitted(config, size)
        model, loading = family.model_class().from_pretrained(
            source, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        if loading["missing_keys"]:
            # transformers would go on with random ones.
            raise ValueError(f"it lacks the weights {min(loading['missing_keys'])} and {len(loading['missing_keys']) - 1} others")
        mean, std = _normalisation(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EncoderSourceError(f"cannot load {family.title} from '{source}': {str(error).splitlines()[0]}") from error
    return PatchEncoder(family, model, size, keep, grid, frozen, mean, std)


def untrained(family: BackboneFamily, config: Any, size: int, keep: str, grid: int, frozen: bool) -> PatchEncoder:
    """An encoder with random weights of the shape that ``config`` says: of transformers, or the plain data of ``PatchEncoder.backbone_config``.

    Raises:
        EncoderSourceError: the configuration is that of another kind of model.
        EncoderShapeError: size, patches and grid do not fit together.
    """
    model_class = family.model_class()
    if isinstance(config, dict):
        try:
            _require_type(family, str(config.get("model_type")))
            config = model_class.config_class.from_dict(config)
        except (TypeError, ValueError) as error:
            raise EncoderSourceError(f"cannot build {family.title} from its configuration: {str(error).splitlines()[0]}") from error
    return PatchEncoder(family, model_class(config), size, keep, grid, frozen)


def _require_type(family: BackboneFamily, found: str) -> None:
    if found != family.model_type:
        raise ValueError(f"it holds a model of type '{found}', not '{family.model_type}'")


def _normalisation(source: str) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """``image_mean`` and ``image_std`` beside the weights, or None twice: then the family's hold. Image processors would need torchvision."""
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        file = cached_file(source, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False)
        if file is None:
            continue
        content = json.loads(Path(file).read_text())
        mean, std = content.get("image_mean"), content.get("image_std")
        if mean is None or std is None:
            continue
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"{name} has image_mean {mean} and image_std {std}")
        return tuple(map(float, mean)), tuple(map(float, std))
    return None, None
