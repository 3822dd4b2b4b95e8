"""A bundle's networks in torch, built again from its weights and its manifest."""

from __future__ import annotations

from pathlib import Path

from world_model.bundle import Manifest
from world_model.checkpoint import load_checkpoint
from world_model.recipe import config_of
from world_model.training.learned import Learned, build


def load_networks(folder: Path, manifest: Manifest) -> Learned:
    """Encoder, predictor, critic and actor of the bundle in ``folder``, in evaluation mode.

    Raises:
        BundleError: the manifest does not say how the networks were built.
        CheckpointError: the weights do not fit them.
    """
    config = config_of(manifest)
    backbone = manifest.provenance.get("model", {}).get("backbone")
    learned = build(config, manifest.frame, manifest.action_dim, manifest.proprioception, backbone)
    load_checkpoint(folder / "weights.safetensors", learned.modules(), None)
    for module in learned.modules().values():
        module.eval()
    return learned
