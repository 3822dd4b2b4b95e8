"""``head.json``: what a fitted head is, and which model's latents it reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from world_model.bundle import file_sha256

SCHEMA_VERSION = 1
GRAPH, CARD = "head.onnx", "head.json"


class HeadError(ValueError):
    """A head that is missing, damaged, of another kind or of another model, with the reason in one line."""


@dataclass(frozen=True)
class HeadCard:
    """What a head is.

    ``kind``: guardrail, probe, goal-cost or depth; ``label``: the rule, or the name of the label file; ``model_sha256``: the bundle or the run whose
    latents it reads; ``unit`` and ``columns`` of its outputs; ``samples`` labelled frames. For a guardrail, ``threshold``: the lowest output that
    counts as safe, ``miss_rate`` that it was calibrated to over ``calibration_trajectories``, and ``auroc`` on trajectories that it never saw.
    ``figures``: everything else that was measured.
    """

    name: str
    kind: str
    label: str
    model_sha256: str
    latent_dim: int
    unit: str
    columns: tuple[str, ...]
    samples: int
    threshold: float | None = None
    miss_rate: float | None = None
    calibration_trajectories: int | None = None
    auroc: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    graph_sha256: str = ""
    schema_version: int = SCHEMA_VERSION


def write_card(folder: Path, card: HeadCard) -> None:
    """Write the card of the graph in ``folder``, with the graph's hash. The folder is expected to be one that is renamed into place."""
    content = {**asdict(card), "graph_sha256": file_sha256(folder / GRAPH)}
    (folder / CARD).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_card(folder: Path) -> HeadCard:
    """Read and check ``head.json`` and the hash of the graph.

    Raises:
        HeadError: a file is missing or damaged.
    """
    file = folder / CARD
    if not file.is_file() or not (folder / GRAPH).is_file():
        raise HeadError(f"{folder} is not a head: it holds no {CARD if not file.is_file() else GRAPH}; `latent-mpc head fit` writes both")
    try:
        content = dict(json.loads(file.read_text()))
        card = HeadCard(**{**content, "columns": tuple(content["columns"])})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise HeadError(f"{file} does not describe a head: {error}") from error
    if card.schema_version != SCHEMA_VERSION:
        raise HeadError(f"{file}: schema version {card.schema_version}, this software reads {SCHEMA_VERSION}")
    if file_sha256(folder / GRAPH) != card.graph_sha256:
        raise HeadError(f"{folder}: the SHA-256 of {GRAPH} is not the one in {CARD}; copy the head again or fit it anew")
    return card
