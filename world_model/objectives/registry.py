"""The objectives against collapse by name: the one place to add another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from world_model.objectives.barlow_twins import BarlowTwins
from world_model.objectives.distillation import Distillation
from world_model.objectives.info_nce import InfoNce
from world_model.objectives.none import Nothing
from world_model.objectives.objective import AntiCollapse
from world_model.objectives.sigreg import SigReg
from world_model.objectives.vicreg import VicReg


class ObjectiveError(ValueError):
    """An objective that does not exist or cannot have these numbers."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """Which objective against collapse, and its numbers; each belongs to the kind that it is named after.

    ``weight``: of the penalty beside the squared prediction error, by default that of the kind (`DEFAULT_WEIGHTS`, found by the short runs in
    docs/objectives.md); ``distillation`` and ``none`` have no penalty. ``directions``: SIGReg's sketch. ``variance_weight``, ``covariance_weight``:
    mu and nu of VICReg. ``off_diagonal``: lambda of Barlow Twins. ``temperature``, ``both_directions`` and ``contrastive_prediction_weight``, that of
    the squared error beside it: InfoNCE. ``momentum``: of the teacher of ``distillation`` at the start.
    """

    kind: str = "sigreg"
    weight: float | None = None
    directions: int = 512
    variance_weight: float = 1.0
    covariance_weight: float = 1.0
    off_diagonal: float = 0.05
    temperature: float = 0.1
    both_directions: bool = True
    contrastive_prediction_weight: float = 1.0
    momentum: float = 0.99

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ObjectiveError(f"unknown objective '{self.kind}'; choose {', '.join(KINDS)}")
        least_zero = ("weight", "variance_weight", "covariance_weight", "off_diagonal", "contrastive_prediction_weight")
        for name in least_zero:
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < math.inf:
                raise ObjectiveError(f"{name} is {value}, must be finite and at least 0")
        if self.directions < 1:
            raise ObjectiveError(f"directions is {self.directions}, must be at least 1")
        if not 0.0 < self.temperature < math.inf:
            raise ObjectiveError(f"temperature is {self.temperature}, must be positive and finite")
        if not 0.0 <= self.momentum < 1.0:
            raise ObjectiveError(f"momentum is {self.momentum}, must lie in [0, 1)")

    @property
    def effective_weight(self) -> float:
        """``weight``, or the kind's default where none is given."""
        return DEFAULT_WEIGHTS[self.kind] if self.weight is None else self.weight


DEFAULT_WEIGHTS = {"sigreg": 0.1, "vicreg": 0.1, "barlow_twins": 0.1, "info_nce": 0.3, "distillation": 0.0, "none": 0.0}

_BUILDERS: dict[str, Callable[[ObjectiveConfig], AntiCollapse]] = {
    "sigreg": lambda c: SigReg(c.effective_weight, c.directions),
    "vicreg": lambda c: VicReg(c.effective_weight, c.variance_weight, c.covariance_weight),
    "barlow_twins": lambda c: BarlowTwins(c.effective_weight, c.off_diagonal),
    "info_nce": lambda c: InfoNce(c.effective_weight, c.temperature, c.both_directions, c.contrastive_prediction_weight),
    "distillation": lambda c: Distillation(c.momentum),
    "none": lambda c: Nothing(),
}

KINDS = tuple(_BUILDERS)


def build_objective(config: ObjectiveConfig) -> AntiCollapse:
    """The objective that ``config`` names."""
    return _BUILDERS[config.kind](config)
