"""Everything around the arm that must keep a distance, as one vector of margins: pairs of shapes, and the faces of the tool's workspace.

A margin is in metres and >= 0 where the arm may be. Each comes with its reach: ``|dm| <= sum_j reach_j |dq_j|`` whatever the posture, so that one
measured margin says something about all postures around it. That is what makes checking a whole stop every cycle cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arm_model.tool_frame import ToolFrame
from planner_node.workspace import Workspace

F64 = NDArray[np.float64]


class NearbyPairs(Protocol):
    """Pairs that are close: ``indices (M,)`` into the pairs, ``distances (M,) m``, ``gradients (M, J) m/rad``."""

    @property
    def indices(self) -> NDArray[np.intp]: ...  # noqa: D102
    @property
    def distances(self) -> F64: ...  # noqa: D102
    @property
    def gradients(self) -> F64: ...  # noqa: D102


class Distances(Protocol):
    """Signed distances ``(K,) m`` of K pairs of shapes at joints ``(J,) rad``; :class:`arm_model.collision.CollisionModel` is one."""

    pairs: tuple[tuple[str, str], ...]

    def distances(self, q: F64) -> F64: ...  # noqa: D102
    def near(self, q: F64, within_m: float) -> NearbyPairs: ...  # noqa: D102


@dataclass(frozen=True)
class Margins:
    """Margins at joints ``q (J,)``: ``lowest (K,) m`` is exact or a lower bound; ``indices (M,)`` name those with ``gradients (M, J) m/rad``."""

    q: F64
    lowest: F64
    indices: NDArray[np.intp]
    gradients: F64


class MarginSource(Protocol):
    """K margins, what they are called, and how fast joints can change them (``reach (K, J) m/rad``)."""

    names: tuple[str, ...]
    reach: F64

    def margins(self, q: F64) -> F64:
        """All margins ``(K,) m`` at joints ``q (J,) rad``."""

    def near(self, q: F64, within_m: float) -> Margins:
        """Margins at ``q``, with gradients for those below ``within_m``; the others may be given as ``within_m``."""


class CollisionMargins:
    """Distances of ``model`` less ``margin_m``. ``reach (K, J)`` bounds how fast they change."""

    def __init__(self, model: Distances, reach: F64, margin_m: float) -> None:
        self.names = tuple(f"{first} and {second}" for first, second in model.pairs)
        self.reach = reach
        self._model = model
        self._margin_m = margin_m

    def margins(self, q: F64) -> F64:
        """Distances less the margin, ``(K,) m``."""
        return self._model.distances(q) - self._margin_m

    def near(self, q: F64, within_m: float) -> Margins:
        """One call of the model: the others are farther than that."""
        found = self._model.near(q, within_m + self._margin_m)
        lowest = np.full(len(self.names), within_m)
        lowest[found.indices] = found.distances - self._margin_m
        return Margins(q, lowest, found.indices, found.gradients)


class WorkspaceMargins:
    """Distances of the tool point from the faces of ``workspace``, inwards; ``reach (J,)`` is that of the tool point."""

    def __init__(self, tool: ToolFrame, reach: F64, workspace: Workspace) -> None:
        self.names = tuple(f"the tool and the workspace's {face}" for face in workspace.names)
        self.reach = np.tile(reach, (len(self.names), 1))
        self._tool = tool
        self._normals, self._offsets = workspace.normals, workspace.offsets

    def margins(self, q: F64) -> F64:
        """``offset - normal . point`` for every face, ``(K,) m``."""
        margins: F64 = self._offsets - self._normals @ self._tool.point(q)
        return margins

    def near(self, q: F64, within_m: float) -> Margins:
        """All margins exactly; gradients where they are below ``within_m``."""
        margins = self.margins(q)
        indices: NDArray[np.intp] = np.flatnonzero(margins < within_m)
        gradients = -self._normals[indices] @ self._tool.jacobian(q) if indices.size else np.empty((0, q.size))
        return Margins(q, margins, indices, gradients)


class AllMargins:
    """Several sources as one."""

    def __init__(self, sources: Sequence[MarginSource], joints: int) -> None:
        self.names = tuple(name for source in sources for name in source.names)
        self.reach = np.concatenate([np.empty((0, joints)), *(source.reach for source in sources)])
        self._sources = tuple(sources)
        self._first = np.cumsum([0, *(len(source.names) for source in sources)])

    def margins(self, q: F64) -> F64:
        """Those of every source, in order."""
        return np.concatenate([np.empty(0), *(source.margins(q) for source in self._sources)])

    def near(self, q: F64, within_m: float) -> Margins:
        """Those of every source, in order."""
        found = [source.near(q, within_m) for source in self._sources]
        indices = [margins.indices + first for margins, first in zip(found, self._first, strict=False)]
        return Margins(
            q,
            np.concatenate([np.empty(0), *(margins.lowest for margins in found)]),
            np.concatenate([np.empty(0, dtype=np.intp), *indices]),
            np.concatenate([np.empty((0, q.size)), *(margins.gradients for margins in found)]),
        )
