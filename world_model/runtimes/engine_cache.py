"""Where built engines and measured timings are kept. An engine serves one set of graphs on one kind of device with one version of everything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from world_model.bundle import Manifest
from world_model.runtimes.device import Device, cache_home


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on. ``graphs``: one hash over the hashes of all ONNX files of the bundle."""

    bundle: str
    graphs: str
    device: str
    tensorrt: str
    onnxruntime: str
    precision: str

    def folder(self, root: str = "") -> Path:
        """The folder of the engines with this key, below ``root`` or the user's cache. It need not exist."""
        software = f"tensorrt{self.tensorrt}-onnxruntime{self.onnxruntime}-{self.precision}"
        return (Path(root).expanduser() if root else cache_home()) / f"{self.bundle}-{self.graphs[:16]}" / self.device / software


def graphs_sha256(manifest: Manifest) -> str:
    """A hash that changes when any graph of the bundle does, but not when what was measured of it is written into the bundle."""
    lines = "".join(f"{name} {manifest.sha256[name]}\n" for name in sorted(manifest.sha256) if name.endswith(".onnx"))
    return hashlib.sha256(lines.encode()).hexdigest()


def engine_key(manifest: Manifest, device: Device, tensorrt: str, onnxruntime: str, precision: str) -> EngineKey:
    """The key of the engines of a bundle on ``device``."""
    return EngineKey(manifest.name, graphs_sha256(manifest), device.label, tensorrt, onnxruntime, precision)
