"""What was seen and done in a run of a simulated scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Run:
    """``frames (T, h, w, 3) uint8``, ``per_step`` to a model step, and ``actions (T - per_step, A)``, each from its frame to one a step later.

    ``struck`` is the first frame that shows the event.
    ``joints (T, J)``: measured, rad, for models with proprioception. ``contact (T,)``: whether the block moved in the step before. Ground truth, to
    choose negatives by; no statistic sees it.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    joints: NDArray[np.float32]
    contact: NDArray[np.bool_]
    struck: int | None = None
    per_step: int = 1
