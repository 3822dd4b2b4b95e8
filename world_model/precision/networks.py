"""A bundle's networks in torch, from its own weights: the reference of every graph."""

from __future__ import annotations

from pathlib import Path

from world_model.bundle import BundleError, read_manifest
from world_model.checkpoint import load_checkpoint
from world_model.config import ConfigError, parse_config
from world_model.training import Learned, build


def load_networks(bundle: Path) -> Learned:
    """Encoder, predictor, critic and actor of a bundle, ready to be run.

    Raises:
        BundleError: the manifest does not say how the networks were built.
        CheckpointError: the weights do not fit them.
    """
    manifest = read_manifest(bundle)
    try:
        config = parse_config(manifest.provenance.get("config"), f"the configuration in the manifest of {bundle}")
    except ConfigError as error:
        raise BundleError(f"the networks of {bundle} cannot be built again, so there is nothing to compare with: {error}") from error
    backbone = manifest.provenance.get("model", {}).get("backbone")
    learned = build(config, manifest.frame, manifest.action_dim, manifest.proprioception, backbone)
    load_checkpoint(bundle / "weights.safetensors", learned.modules(), None)
    for module in learned.modules().values():
        module.eval()
    return learned
