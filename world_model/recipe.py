"""How a bundle was made, in today's words: configurations of before are read, too."""

from __future__ import annotations

import copy
from typing import Any

from world_model.bundle import BundleError, Manifest
from world_model.config import ConfigError, TrainConfig, parse_config

# Keys that have moved since the first bundles were shipped: section, key, and where they are now.
_MOVED = (
    ("model", "width", ("predictor", "width")),
    ("model", "depth", ("predictor", "depth")),
    ("jepa", "sigreg_weight", ("objective", "weight")),
    ("jepa", "sigreg_directions", ("objective", "directions")),
)


def config_of(manifest: Manifest) -> TrainConfig:
    """The configuration that a bundle was trained with.

    Raises:
        BundleError: its manifest does not say so, or in words that nobody knows.
    """
    content = copy.deepcopy(manifest.provenance.get("config"))
    try:
        return parse_config(_today(content), f"the configuration in the manifest of {manifest.name}")
    except ConfigError as error:
        raise BundleError(f"{manifest.name} cannot be built again: {error}") from error


def _today(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    for section, key, (inner, name) in _MOVED:
        part = content.get(section)
        if isinstance(part, dict) and key in part:
            part.setdefault(inner, {})[name] = part.pop(key)
    return content
