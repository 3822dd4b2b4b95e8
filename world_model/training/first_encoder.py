"""The encoder before it was taught to overlook how a scene looks: kept beside the run, for whoever must notice just that."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from world_model.checkpoint import CheckpointError, load_checkpoint, read_meta, save_checkpoint
from world_model.jepa import Jepa

_FILE = "witness.safetensors"


def save_first(jepa: Jepa, out: Path) -> bool:
    """Keep encoder and predictor as they are now, before the stage of invariance; returns that they were kept."""
    save_checkpoint(out / _FILE, {"jepa": jepa}, None, {}, {})
    return True


def keep_first(run: Path, jepa: Jepa, out: Path, taught: bool) -> bool:
    """The same for a run that takes its world model from ``run``: the first encoder is that run's first one, if it had one.

    ``taught``: whether this run will teach its encoder; if neither does, there is nothing to keep. Returns whether something was.
    """
    first = load_first(run, jepa, read_meta(run / "learned.safetensors"))
    if first is None and not taught:
        return False
    return save_first(jepa if first is None else first, out)


def load_first(run: Path, jepa: Jepa, meta: dict[str, Any]) -> Jepa | None:
    """The first world model of a finished run with ``meta``, of the shape of ``jepa``; None if its encoder was never taught invariance.

    Runs of before this file was written have it as the end of their first stage.

    Raises:
        CheckpointError: it cannot be read or was not kept.
    """
    if not meta.get("witness", "looks_mse" in meta.get("probes", {})):
        return None
    first = copy.deepcopy(jepa)
    if (run / _FILE).is_file():
        load_checkpoint(run / _FILE, {"jepa": first}, None)
    elif (run / "jepa.safetensors").is_file() and not meta["config"]["jepa"].get("average", 0.0):
        load_checkpoint(run / "jepa.safetensors", {"jepa": first}, None)
    else:
        raise CheckpointError(f"{run} lacks its first encoder ({_FILE}); run `latent-mpc train` again with the same arguments, which ends in minutes")
    return first.eval()
