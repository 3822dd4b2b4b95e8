"""Which pairs of links need no check, found by trying: what always touches is how the arm is built, what cannot touch costs time for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arm_model.collision import CollisionModel

_ALWAYS = 0.95
_NEVER_M = 0.005
_STARTS = 4
_STEPS = 40
_STEP_M = 0.01


@dataclass(frozen=True)
class PairReport:
    """What became of a pair of links: the ``share`` of configurations in which they touch, and the least distance ``least_m`` that was found."""

    pair: tuple[str, str]
    share: float
    least_m: float

    @property
    def always(self) -> bool:
        """They touch nearly everywhere: their shapes overlap by design."""
        return self.share >= _ALWAYS

    @property
    def never(self) -> bool:
        """They did not touch, even where their distance was pushed down."""
        return self.least_m >= _NEVER_M


def examine_pairs(model: CollisionModel, samples: int, rng: np.random.Generator) -> tuple[PairReport, ...]:
    """Try ``samples`` random configurations, then walk down the distance of every pair that did not touch from where it was least.

    Random configurations alone, as setup assistants use them, miss contacts in narrow corners of the joint space.
    """
    limits = model.arm.limits
    qs = rng.uniform(limits.lower, limits.upper, (samples, len(limits.names)))
    distances = np.array([model.distances(q) for q in qs])
    reports = []
    for pair in dict.fromkeys(model.pairs):
        columns = np.array([index for index, other in enumerate(model.pairs) if other == pair])
        found = distances[:, columns].min(1)
        least = float(found.min())
        if least > 0:
            least = min(_descend(model, columns, qs[start]) for start in np.argsort(found)[:_STARTS])
        reports.append(PairReport(pair, float((found < 0).mean()), least))
    return tuple(reports)


def _descend(model: CollisionModel, columns: NDArray[np.intp], q: NDArray[np.float64]) -> float:
    """Least distance on a walk downhill inside the joint limits."""
    limits, least, reach = model.arm.limits, np.inf, _STEP_M
    for _ in range(_STEPS):
        near = model.near(q, np.inf)
        index = columns[int(near.distances[columns].argmin())]
        distance, slope = float(near.distances[index]), near.gradients[index]
        reach = reach if distance < least else reach / 2
        least = min(least, distance)
        steep = float(slope @ slope)
        if least < 0 or steep < 1e-12:
            break
        q = np.clip(q - slope * min(reach, distance + 1e-3) / steep, limits.lower, limits.upper)
    return least
