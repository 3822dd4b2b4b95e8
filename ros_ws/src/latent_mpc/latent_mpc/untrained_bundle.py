"""The null of a closed loop: a bundle of a model's own shape that has learned nothing, for as long as it is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from latent_mpc.walls import sim_task
from sim.tasks import make_env
from world_model.bundle import read_manifest

_FRAMES = 96
_SEED = 1_000_000_000


@contextmanager
def untrained_bundle(config: Path, model: Path, task: str) -> Iterator[Path]:
    """A bundle ``untrained-<name>`` in the place of ``model``: networks as the training configuration ``config`` has them, untrained. Needs torch.

    Raises:
        ValueError: there is no such task, or configuration or bundle cannot be read.
    """
    from world_model.config import read_config
    from world_model.untrained import export_untrained  # torch only where it is asked for

    manifest, recipe = read_manifest(model), read_config(config)

    env = make_env(sim_task(task))
    frames = np.stack([env.reset(seed=_SEED + index)[0]["image"] for index in range(_FRAMES)])
    env.close()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / f"untrained-{model.name}"
        export_untrained(recipe, manifest, frames, bundle)
        yield bundle
