"""Joint limits as the checker reads them: from the URDF, by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray


class CheckError(ValueError):
    """A bag or a URDF that cannot be checked, with the reason in one line."""


@dataclass(frozen=True)
class UrdfLimits:
    """Limits of J joints from a URDF: arrays ``(J,) float64`` in rad, rad/s, rad/s^2, rad/s^3."""

    joints: tuple[str, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    velocity: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    jerk: NDArray[np.float64]

    def of(self, kind: str) -> NDArray[np.float64]:
        """Limit ``(J,)`` of a derivative, by its kind."""
        return {"velocity": self.velocity, "acceleration": self.acceleration, "jerk": self.jerk}[kind]


def read_urdf_limits(urdf: Path, joints: Sequence[str] = ()) -> UrdfLimits:
    """Limits of ``joints``, or of every movable joint of the URDF in its order.

    Raises:
        CheckError: the file cannot be parsed, or a joint or one of its limits is missing.
    """
    try:
        root = ElementTree.parse(urdf).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise CheckError(f"cannot read URDF {urdf}: {error}") from error
    tags = {str(tag.get("name")): tag for tag in root.findall("joint") if tag.get("type") in ("revolute", "continuous", "prismatic")}
    names = tuple(joints) or tuple(tags)
    rows = []
    for name in names:
        if name not in tags:
            raise CheckError(f"{urdf} has no movable joint '{name}'")
        limit = tags[name].find("limit")
        attributes: Mapping[str, str] = {} if limit is None else limit.attrib
        bounds = {"lower": "-inf", "upper": "inf"} if tags[name].get("type") == "continuous" else {}
        try:
            rows.append([float({**bounds, **attributes}[key]) for key in ("lower", "upper", "velocity", "acceleration", "jerk")])
        except KeyError as error:
            raise CheckError(f"{urdf}: joint '{name}' has no {error.args[0]} limit") from error
        except ValueError as error:
            raise CheckError(f"{urdf}: joint '{name}' has a limit that is not a number") from error
    if not rows or np.isnan(rows).any():
        raise CheckError(f"{urdf} has no movable joint, or a limit that is not a number")
    return UrdfLimits(names, *np.array(rows, dtype=np.float64).T.copy())
