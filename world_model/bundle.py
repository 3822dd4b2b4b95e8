"""A model bundle: a folder of ONNX graphs and weights with a manifest that says what they are. No pickle, anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
GRAPHS = ("encoder.onnx", "rollout.onnx", "heads.onnx", "actor.onnx")
_TUPLES = ("tasks", "frame", "actor_steps", "joints", "further")
FILES = (*GRAPHS, "weights.safetensors")
WITNESS = "witness.onnx"
"""The encoder as it was before it was taught to overlook how a scene looks; only bundles whose training had that stage hold one."""

PARITY = "parity.json"
"""What was measured of every graph beside torch in fp32; bundles that hold more than the four graphs in fp32 have it."""
FP32 = "fp32"
_PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


class BundleError(ValueError):
    """A bundle that is missing, damaged or of another kind, with the reason in one line."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle's files are.

    ``tool_step`` is the meaning of an action (``arm_model.ToolStep`` as a dictionary), empty where no arm moves: then ``action_space`` is (see
    docs/data.md), and ``tasks`` names Gymnasium environments. ``frame`` is the picture ``(h, w, 3)`` that the encoder takes,
    ``actor_steps`` the range [least, most] of steps left that the actor was trained on, ``sha256`` the hash of each file, ``surprise`` what
    ``latent-mpc surprise --record`` found, empty before. A latent of ``latent_dim`` numbers is made of ``tokens`` of equal length.
    ``proprioception`` is the number of joint positions, in the order of ``joints``, that enter the encoder beside the picture, 0 for none;
    ``horizon`` the most steps that one run of the rollout imagines, 0 for any number. ``witness``: whether there is a second
    encoder, ``witness.onnx``, into the same latent space, that sees how a scene looks.

    ``further`` names graphs beside these, in fp32: ``score``, the rollout with cost and margins by the settings in ``score``, and graphs of fixed
    shape such as ``rollout.300x5``. ``precisions`` are, by precision, the graphs that there are in it: ``{"int8": ["encoder", "rollout"]}`` says that
    there are ``encoder.int8.onnx`` and ``rollout.int8.onnx``. ``parity``: whether ``parity.json`` is there.
    """

    name: str
    tasks: tuple[str, ...]
    tool_step: dict[str, Any]
    frame: tuple[int, int, int]
    latent_dim: int
    action_dim: int
    history: int
    actor_steps: tuple[int, int]
    joints: tuple[str, ...]
    encoder: str
    normalisation: str
    provenance: dict[str, Any] = field(default_factory=dict)
    evaluation: list[dict[str, Any]] = field(default_factory=list)
    surprise: dict[str, Any] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    action_space: dict[str, Any] = field(default_factory=dict)
    tokens: int = 1
    proprioception: int = 0
    horizon: int = 0
    witness: bool = False
    further: tuple[str, ...] = ()
    precisions: dict[str, list[str]] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    parity: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the bundle holds beside its manifest."""
        more = [f"{name}.onnx" for name in self.further]
        converted = [f"{name}.{precision}.onnx" for precision, names in self.precisions.items() for name in names]
        return (*FILES, *([WITNESS] if self.witness else []), *more, *converted, *([PARITY] if self.parity else []))

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of all graphs, such as ``encoder``; each is there in fp32."""
        return tuple(name.removesuffix(".onnx") for name in (*GRAPHS, *([WITNESS] if self.witness else []), *(f"{n}.onnx" for n in self.further)))

    def graph(self, name: str, precision: str = FP32) -> str:
        """The file of the graph ``name`` in ``precision``; that in fp32 where the bundle has no other of it.

        Raises:
            BundleError: there is no such graph, or the bundle holds nothing in this precision.
        """
        if name not in self.graphs:
            raise BundleError(f"bundle '{self.name}' has no graph '{name}'; it has {', '.join(self.graphs)}")
        if precision != FP32 and precision not in self.precisions:
            known = ", ".join((FP32, *self.precisions))
            raise BundleError(f"bundle '{self.name}' holds nothing in {precision}, only {known}; `latent-mpc export` can add it")
        return f"{name}.onnx" if name not in self.precisions.get(precision, ()) else f"{name}.{precision}.onnx"


def file_sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_manifest(directory: Path, manifest: Manifest) -> Manifest:
    """Hash the bundle's files into the manifest and write it, whole or not at all."""
    content = asdict(manifest)
    content["sha256"] = {name: file_sha256(directory / name) for name in manifest.files}
    partial = directory / f".manifest.json.{os.getpid()}"
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(directory / "manifest.json")
    return read_manifest(directory)


def read_manifest(directory: str | Path) -> Manifest:
    """Read and check a bundle's manifest and the hash of every file.

    Raises:
        BundleError: the folder, the manifest or a file is missing, of another schema version, or its hash is off.
    """
    folder = Path(directory)
    file = folder / "manifest.json"
    if not file.is_file():
        raise BundleError(f"{folder} is not a model bundle: it holds no manifest.json")
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise BundleError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise BundleError(f"{file}: this software reads schema version {SCHEMA_VERSION}")
    try:
        values: dict[str, Any] = {key: tuple(value) if key in _TUPLES else value for key, value in content.items()}
        manifest = Manifest(**values)
    except TypeError as error:
        raise BundleError(f"{file}: {error}") from error
    if not isinstance(manifest.sha256, dict) or not isinstance(manifest.tool_step, dict) or not isinstance(manifest.action_space, dict):
        raise BundleError(f"{file}: sha256, tool_step and action_space must be objects")
    if manifest.tokens < 1 or manifest.latent_dim % manifest.tokens:
        raise BundleError(f"{file}: a latent of {manifest.latent_dim} numbers cannot be made of {manifest.tokens} tokens")
    if not isinstance(manifest.witness, bool):
        raise BundleError(f"{file}: witness must be true or false")
    if manifest.proprioception not in (0, len(manifest.joints)):
        raise BundleError(f"{file}: the model is told {manifest.proprioception} joints, of which {len(manifest.joints)} are named")
    _check_names(file, manifest)
    for name in manifest.files:
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: {name} is missing; copy the bundle again")
        if file_sha256(folder / name) != manifest.sha256.get(name):
            raise BundleError(f"{folder}: the SHA-256 of {name} is not the one in its manifest; copy the bundle again or export it anew")
    return manifest


def _check_names(file: Path, manifest: Manifest) -> None:
    """Names become files: they must be plain, and each precision's graphs must be there in fp32."""
    precisions = manifest.precisions
    if not isinstance(precisions, dict) or not all(isinstance(names, list) for names in precisions.values()):
        raise BundleError(f"{file}: precisions must be an object of lists of graph names")
    if not all(isinstance(name, str) for name in manifest.further) or not isinstance(manifest.score, dict) or not isinstance(manifest.parity, bool):
        raise BundleError(f"{file}: further must be a list of graph names, score an object, parity true or false")
    for name in (*manifest.further, *precisions):
        if not _PLAIN.fullmatch(name):
            raise BundleError(f"{file}: '{name}' is no name of a graph or a precision")
    for precision, names in precisions.items():
        lacking = [name for name in names if name not in manifest.graphs]
        if lacking or precision == FP32:
            raise BundleError(f"{file}: precision '{precision}' names a graph that there is not in fp32: {', '.join(map(str, lacking)) or FP32}")


def record_evaluation(directory: str | Path, result: dict[str, Any]) -> None:
    """Put a row of ``result``, as ``latent-mpc evaluate`` makes it, into the bundle's manifest, in the place of an earlier one for the same task.

    Raises:
        BundleError: the bundle is damaged.
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    kept = ("task", "episodes", "seeds", "per_seed")
    rows = {name: {key: row[key] for key in ("success_rate", "ci95", "final_distance_m") if key in row} for name, row in result["policies"].items()}
    entry = {**{key: result[key] for key in kept}, "manifest": result["manifest"]["fingerprint"], "policies": rows}
    others = [row for row in manifest.evaluation if row["task"] != result["task"]]
    write_manifest(folder, replace(manifest, evaluation=[*others, entry]))


def record_surprise(directory: str | Path, calibration: dict[str, Any], table: list[dict[str, Any]]) -> None:
    """Put a calibration of surprise and its evaluation into the bundle's manifest, tied to the graphs that they were made with.

    Raises:
        BundleError: the bundle is damaged.
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    graphs = {name: manifest.sha256[name] for name in (WITNESS if manifest.witness else "encoder.onnx", "rollout.onnx")}
    write_manifest(folder, replace(manifest, surprise={"calibration": calibration, "graphs": graphs, "evaluation": table}))


def bundle_sha256(manifest: Manifest, precision: str = FP32) -> str:
    """One hash for what plans with the bundle in ``precision``: that of its files' hashes in name order.

    A witness, further graphs and other precisions are left out: with and without them, plans are the same.
    """
    plain = {file: manifest.graph(file.removesuffix(".onnx"), precision) for file in GRAPHS}
    used = {file: manifest.sha256[plain.get(file, file)] for file in FILES}
    return hashlib.sha256("".join(used[name] for name in sorted(used)).encode()).hexdigest()


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A staging folder that takes the place of the bundle ``out`` when the block ends well, and is gone otherwise; the old bundle leaves last.

    Raises:
        BundleError: ``out`` is a folder of something else.
    """
    if out.exists() and not (out / "manifest.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out} is not a model bundle and would be overwritten; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield staging
        staging.chmod(0o755)
        old = staging.with_name(f"{staging.name}.old")
        if out.exists():
            out.rename(old)
        try:
            staging.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
