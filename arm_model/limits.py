"""Joint limits of an arm, read from its URDF."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray


class LimitsError(ValueError):
    """A URDF lacks a limit that the guardrail needs, or names it wrongly."""


@dataclass(frozen=True)
class JointLimits:
    """Limits of J joints, in the order of ``names``.

    Every array is ``(J,) float64``: ``lower`` and ``upper`` in rad, ``velocity`` in rad/s, ``acceleration`` in rad/s^2, ``jerk`` in rad/s^3.
    """

    names: tuple[str, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    velocity: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    jerk: NDArray[np.float64]

    def scaled(self, velocity: float = 1.0, acceleration: float = 1.0, jerk: float = 1.0, margin: float = 0.0) -> JointLimits:
        """Tighter limits for a planner or a guardrail that wants room to spare; ``margin`` in rad is taken off both position ends."""
        for name, value in (("velocity", velocity), ("acceleration", acceleration), ("jerk", jerk)):
            if not 0.0 < value <= 1.0:
                raise LimitsError(f"{name} scale is {value}, must lie in (0, 1]")
        if not 0.0 <= margin < float(np.min(self.upper - self.lower)) / 2:
            raise LimitsError(f"position margin is {margin} rad, must be at least 0 and leave room between the limits")
        return replace(
            self,
            lower=self.lower + margin,
            upper=self.upper - margin,
            velocity=self.velocity * velocity,
            acceleration=self.acceleration * acceleration,
            jerk=self.jerk * jerk,
        )


def read_limits(urdf: Path, joints: tuple[str, ...]) -> JointLimits:
    """Read position, velocity, acceleration and jerk limits of ``joints`` from the ``<limit>`` tags of ``urdf``.

    ``acceleration`` and ``jerk`` are attributes since URDF 1.2; without them nothing can promise a stop inside the limits.

    Raises:
        LimitsError: a joint or one of its limits is missing, not finite, or empty.
    """
    try:
        root = ElementTree.parse(urdf).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise LimitsError(f"cannot read URDF {urdf}: {error}") from error
    tags = {joint.get("name"): joint.find("limit") for joint in root.findall("joint")}
    columns: dict[str, list[float]] = {key: [] for key in ("lower", "upper", "velocity", "acceleration", "jerk")}
    for name in joints:
        limit = tags.get(name)
        if limit is None:
            raise LimitsError(f"{urdf}: joint '{name}' has no <limit>")
        for key, column in columns.items():
            text = limit.get(key)
            if text is None:
                raise LimitsError(f"{urdf}: joint '{name}' has no {key} limit; add {key}=\"...\" to its <limit>")
            try:
                value = float(text)
            except ValueError as error:
                raise LimitsError(f"{urdf}: joint '{name}' has {key}='{text}', which is not a number") from error
            if not np.isfinite(value):
                raise LimitsError(f"{urdf}: joint '{name}' has a {key} limit that is not finite")
            column.append(value)
    arrays = {key: np.array(column, dtype=np.float64) for key, column in columns.items()}
    for index, name in enumerate(joints):
        if arrays["lower"][index] >= arrays["upper"][index]:
            raise LimitsError(f"{urdf}: joint '{name}' has lower >= upper")
        for key in ("velocity", "acceleration", "jerk"):
            if arrays[key][index] <= 0:
                raise LimitsError(f"{urdf}: joint '{name}' has a {key} limit that is not positive")
    return JointLimits(names=joints, **arrays)
