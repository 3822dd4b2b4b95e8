"""Where the tool point may be at all: a box and half-spaces, from YAML."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import yaml
from numpy.typing import NDArray

_KEYS = ("min", "max", "half_spaces")
_AXES = "xyz"


class WorkspaceError(ValueError):
    """A workspace that cannot be understood, with the reason in one line."""


@dataclass(frozen=True)
class Workspace:
    """Points ``x`` in m of the arm's base frame with ``normals @ x <= offsets``: F faces, ``normals (F, 3)`` of length 1, ``offsets (F,) m``."""

    names: tuple[str, ...]
    normals: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def margins(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metres from ``points (..., 3)`` to each face ``(..., F)``, negative outside."""
        margins: NDArray[np.float64] = self.offsets - points @ self.normals.T
        return margins


def read_workspace(text: str) -> Workspace:
    """A workspace from YAML: ``{min: [x, y, z], max: [x, y, z], half_spaces: [{normal: [x, y, z], offset: m}]}``, each part optional.

    The tool stays where ``normal . x <= offset``. Empty text is no workspace: no faces.

    Raises:
        WorkspaceError: the text is not such a mapping, a number is not finite, a normal has no length, or min is not below max.
    """
    try:
        content = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        raise WorkspaceError(f"workspace is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or content.keys() - set(_KEYS):
        raise WorkspaceError("workspace must be {min: [x, y, z], max: [x, y, z], half_spaces: [{normal, offset}]}")
    names: list[str] = []
    normals: list[NDArray[np.float64]] = []
    offsets: list[float] = []
    box = {key: _numbers(key, content[key], 3) for key in ("min", "max") if key in content}
    if len(box) == 2 and np.any(box["min"] >= box["max"]):
        axis = int(np.argmax(box["min"] >= box["max"]))
        raise WorkspaceError(f"workspace has min {box['min'][axis]} >= max {box['max'][axis]} along {_AXES[axis]}")
    for key, sign in (("min", -1.0), ("max", 1.0)):
        for axis in range(3 if key in box else 0):
            names.append(f"{key} {_AXES[axis]}")
            normals.append(sign * np.eye(3)[axis])
            offsets.append(sign * float(box[key][axis]))
    half_spaces = content.get("half_spaces", [])
    if not isinstance(half_spaces, list):
        raise WorkspaceError("half_spaces of a workspace must be a list of {normal: [x, y, z], offset: m}")
    for index, entry in enumerate(half_spaces):
        if not isinstance(entry, dict) or entry.keys() != {"normal", "offset"}:
            raise WorkspaceError(f"a half-space is {{normal: [x, y, z], offset: m}}, not {entry}")
        normal, (offset,) = _numbers("normal", entry["normal"], 3), _numbers("offset", [entry["offset"]], 1)
        length = float(np.linalg.norm(normal))
        if length < 1e-9:
            raise WorkspaceError(f"the normal of half-space {index} has no direction")
        names.append(f"half-space {index}")
        normals.append(normal / length)
        offsets.append(float(offset) / length)
    return Workspace(tuple(names), np.array(normals).reshape(-1, 3), np.array(offsets))


def _numbers(key: str, value: object, count: int) -> NDArray[np.float64]:
    if not isinstance(value, list) or len(value) != count or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise WorkspaceError(f"{key} of a workspace needs {count} number{'s' if count > 1 else ''}, not {value}")
    numbers = np.array(value, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise WorkspaceError(f"{key} of a workspace holds a number that is not finite: {value}")
    return numbers
