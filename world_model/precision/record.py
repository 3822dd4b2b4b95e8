"""``parity.json`` of a bundle: read, and completed by what was played."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from world_model.bundle import PARITY, BundleError, read_manifest, write_manifest


def read_parity(bundle: Path) -> dict[str, Any]:
    """What was measured of the bundle's graphs.

    Raises:
        BundleError: the bundle is damaged or has no ``parity.json``.
    """
    if not read_manifest(bundle).parity:
        raise BundleError(f"{bundle} has no {PARITY}; `latent-mpc export --model {bundle} --out DIR` writes one")
    content: dict[str, Any] = json.loads((bundle / PARITY).read_text())
    return content


def record_played(bundle: Path, played: dict[str, dict[str, Any]]) -> None:
    """Put what was played, by precision, into ``parity.json``, and its new hash into the manifest.

    Raises:
        BundleError: the bundle is damaged or has no ``parity.json``.
    """
    content = read_parity(bundle)
    content["closed_loop"] |= played
    partial = bundle / f".{PARITY}.{os.getpid()}"
    partial.write_text(json.dumps(content, indent=2) + "\n")
    manifest = read_manifest(bundle)
    partial.replace(bundle / PARITY)
    write_manifest(bundle, manifest)
