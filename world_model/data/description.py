"""``dataset.json``: what a data set is. docs/data.md lists its keys."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 always has a tool step and a ``state``, and says nothing of lengths."""
SAME_KIND = ("tool_step", "env", "action_space", "frame")
"""What data sets must share to be trained on together: the meaning of an action, and the picture."""


class DatasetError(ValueError):
    """A data set that is missing, incomplete or of another kind than asked for."""


def write_description(directory: Path, description: dict[str, Any]) -> None:
    """Write ``dataset.json`` with the schema version, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f".dataset.json.{os.getpid()}"
    partial.write_text(json.dumps({"schema_version": SCHEMA_VERSION, **description}, indent=2) + "\n")
    partial.replace(directory / "dataset.json")


def read_description(directory: Path) -> dict[str, Any]:
    """Read ``dataset.json``.

    Raises:
        DatasetError: there is none, or it is of another version or damaged.
    """
    file = directory / "dataset.json"
    if not file.is_file():
        raise DatasetError(f"{directory} holds no dataset.json; `latent-mpc collect` writes one")
    try:
        description: dict[str, Any] = dict(json.loads(file.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise DatasetError(f"{file} is not a JSON object: {error}") from error
    version = description.get("schema_version")
    if version not in READABLE_VERSIONS:
        raise DatasetError(f"{file}: schema version {version}, this software reads {' and '.join(map(str, READABLE_VERSIONS))}")
    if not description.get("tool_step") and not description.get("action_space"):
        raise DatasetError(f"{file} does not say what an action means: it needs a tool_step or an action_space")
    return description


def action_components(description: dict[str, Any]) -> int:
    """Number of action components, A: the driven axes of a ``tool_step``, or ``dim`` of an ``action_space``.

    Raises:
        DatasetError: the description says neither.
    """
    try:
        if description.get("action_space"):
            return int(description["action_space"]["dim"])
        step = description["tool_step"]
        return sum(low < high for low, high in zip(step["lower"], step["upper"], strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"the description of the data does not say how many components an action has: {error!r}") from error


def check_same_kind(name: str, description: dict[str, Any], other_name: str, other: dict[str, Any]) -> None:
    """Refuse two data sets whose actions or pictures mean different things.

    Raises:
        DatasetError: they differ; the message names the key.
    """
    for key in SAME_KIND:
        if description.get(key) != other.get(key):
            raise DatasetError(f"{name} and {other_name} differ in {key}: they cannot be trained on together")
    # Simulated tasks do not say whose joints they are: all have the same arm.
    if description.get("joints") and other.get("joints") and description["joints"] != other["joints"]:
        raise DatasetError(f"{name} and {other_name} differ in joints: they cannot be trained on together")
