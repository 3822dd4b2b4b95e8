"""What an interrupted run must share with the one that goes on: it never silently differs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from world_model.checkpoint import CheckpointError, load_checkpoint, read_meta
from world_model.config import TrainConfig
from world_model.data.description import check_same_kind
from world_model.jepa import Jepa
from world_model.training.episodes import Episodes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Critic and actor are trained anew anyway.
_SHAPES_THE_WORLD_MODEL = ("seed", "held_out", "model", "jepa")


def identity_of(config: TrainConfig, data: Episodes, fabric: Fabric) -> dict[str, Any]:
    """All that a world model depends on, as JSON."""
    whole = dataclasses.asdict(config)
    whole["jepa"].pop("checkpoint_every")
    machine = {
        "accelerator": fabric.device.type,
        "precision": str(fabric._precision.precision),
        "processes": fabric.world_size,
        "batch of a process": config.jepa.batch // fabric.world_size,
    }
    content = {"episodes": data.reader.episodes, "steps": data.reader.steps, "sets": list(data.descriptions)}
    same: dict[str, Any] = json.loads(json.dumps({**{key: whole[key] for key in _SHAPES_THE_WORLD_MODEL}, "compute": machine, "data": content}))
    return same


def require_same(before: Any, now: dict[str, Any], out: Path) -> None:
    """Refuse to go on with a run that differs.

    Raises:
        CheckpointError: it does; the message names the first thing in which it does.
    """
    difference = _first_difference(before, now, "")
    if difference is not None:
        name, was, wanted = difference
        what = f"{name} was {_short(was)}, not {_short(wanted)}"
        raise CheckpointError(f"{out} holds a run of another configuration or other data ({what}); choose another --out or delete it")


def take_world_model(run: Path, config: TrainConfig, data: Episodes, jepa: Jepa) -> None:
    """Load encoder and predictor of a finished run into ``jepa``.

    Raises:
        CheckpointError: there is none, or its model has another shape.
        DatasetError: its data have other pictures or actions of another meaning.
    """
    file = run / "learned.safetensors"
    meta = read_meta(file)
    wanted = json.loads(json.dumps(dataclasses.asdict(config.model)))
    difference = _first_difference(meta.get("config", {}).get("model"), wanted, "model")
    if difference is not None:
        name, was, now = difference
        raise CheckpointError(f"{file} is of another configuration: {name} was {_short(was)}, not {_short(now)}")
    for description in meta["data"][:1]:
        check_same_kind("the data", data.descriptions[0], f"the data of {run}", description)
    load_checkpoint(file, {"jepa": jepa}, None)


def _first_difference(before: Any, now: Any, name: str) -> tuple[str, Any, Any] | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            found = _first_difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
            if found is not None:
                return found
        return None
    return None if before == now else (name, before, now)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
