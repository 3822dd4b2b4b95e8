"""Random draws that depend on the seed and the step alone: a resumed run and a run on more processes draw the same."""

from __future__ import annotations

import numpy as np
import torch

_PURPOSES = ("windows", "objective", "augmentation", "dropout")


def _seed(seed: int, step: int, purpose: str, process: int = 0) -> int:
    return int(np.random.SeedSequence((seed, _PURPOSES.index(purpose), step, process)).generate_state(1, np.uint64)[0] >> 1)


def generator_for(seed: int, step: int, purpose: str) -> torch.Generator:
    """A generator for what step ``step`` draws for ``purpose``, alike in all processes."""
    return torch.Generator().manual_seed(_seed(seed, step, purpose))


def seed_dropout(seed: int, step: int, process: int) -> None:
    """Seed torch's global generator, which dropout uses; each process drops other units."""
    torch.manual_seed(_seed(seed, step, "dropout", process))
