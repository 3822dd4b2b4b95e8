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
Indices = NDArray[np.intp]


class Distances(Protocol):
    """Signed distances ``(K,) m`` of K pairs of shapes at joints ``(J,) rad``; :class:`arm_model.collision.CollisionModel` is one.

    ``among (M,)``: of these pairs only, ``(M,)``. ``gradients (M, J) m/rad``: of pairs whose distances were measured last, at the same joints.
    """

    pairs: tuple[tuple[str, str], ...]

    def distances(self, q: F64, among: Indices | None = None) -> F64: ...  # noqa: D102
    def gradients(self, q: F64, indices: Indices) -> F64: ...  # noqa: D102


@dataclass(frozen=True)
class Margins:
    """Margins at joints ``q (J,)``: ``lowest (K,) m`` is exact where it was measured, else minus infinity or a lower bound.

    ``indices (M,)`` name those with ``gradients (M, J) m/rad``, all of them exact.
    """

    q: F64
    lowest: F64
    indices: Indices
    gradients: F64


class MarginSource(Protocol):
    """K margins, what they are called, and how fast joints can change them (``reach (K, J) m/rad``). ``among (M,)`` are increasing indices."""

    names: tuple[str, ...]
    reach: F64

    def margins(self, q: F64, among: Indices | None = None) -> F64:
        """All margins ``(K,) m`` at joints ``q (J,) rad``, or those ``among`` them ``(M,)``."""

    def near(self, q: F64, within_m: float, among: Indices) -> Margins:
        """Those ``among`` the margins at ``q``, with gradients where they are below ``within_m``."""


class CollisionMargins:
    """Distances of ``model`` less ``margin_m``. ``reach (K, J)`` bounds how fast they change."""

    def __init__(self, model: Distances, reach: F64, margin_m: float) -> None:
        self.names = tuple(f"{first} and {second}" for first, second in model.pairs)
        self.reach = reach
        self._model = model
        self._margin_m = margin_m
        self._unknown = np.full(len(self.names), -np.inf)

    def margins(self, q: F64, among: Indices | None = None) -> F64:
        """Distances less the margin."""
        return self._model.distances(q, among) - self._margin_m

    def near(self, q: F64, within_m: float, among: Indices) -> Margins:
        """One call of the model for distances, one for gradients."""
        lowest = self._unknown.copy()
        margins = lowest[among] = self.margins(q, among)
        indices = among[margins < within_m]
        return Margins(q, lowest, indices, self._model.gradients(q, indices) if indices.size else np.empty((0, q.size)))


class WorkspaceMargins:
    """Distances of the tool point from the faces of ``workspace``, inwards; ``reach (J,)`` is that of the tool point."""

    def __init__(self, tool: ToolFrame, reach: F64, workspace: Workspace) -> None:
        self.names = tuple(f"the tool and the workspace's {face}" for face in workspace.names)
        self.reach = np.tile(reach, (len(self.names), 1))
        self._tool = tool
        self._normals, self._offsets = workspace.normals, workspace.offsets

    def margins(self, q: F64, among: Indices | None = None) -> F64:
        """``offset - normal . point`` for every face."""
        margins: F64 = self._offsets - self._normals @ self._tool.point(q)
        return margins if among is None else margins[among]

    def near(self, q: F64, within_m: float, among: Indices) -> Margins:
        """All margins exactly, whichever are asked for; gradients where they are below ``within_m``."""
        margins = self.margins(q)
        indices: Indices = np.flatnonzero(margins < within_m)
        gradients = -self._normals[indices] @ self._tool.jacobian(q) if indices.size else np.empty((0, q.size))
        return Margins(q, margins, indices, gradients)


class AllMargins:
    """Several sources as one."""

    def __init__(self, sources: Sequence[MarginSource], joints: int) -> None:
        self.names = tuple(name for source in sources for name in source.names)
        self.reach = np.concatenate([np.empty((0, joints)), *(source.reach for source in sources)])
        self._sources = tuple(sources)
        self._first = np.cumsum([0, *(len(source.names) for source in sources)])
        self._unknown = np.full(len(self.names), -np.inf)

    def margins(self, q: F64, among: Indices | None = None) -> F64:
        """Those of every source, in order."""
        if among is None:
            return np.concatenate([np.empty(0), *(source.margins(q) for source in self._sources)])
        if len(self._sources) == 1:
            return self._sources[0].margins(q, among)
        parts = [source.margins(q, mine) for source, mine, _ in self._shared_out(among)]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0), *parts])

    def near(self, q: F64, within_m: float, among: Indices) -> Margins:
        """Those of every source, in order."""
        if len(self._sources) == 1:
            return self._sources[0].near(q, within_m, among)
        lowest = self._unknown.copy()
        parts: list[Margins] = []
        for source, mine, first in self._shared_out(among):
            found = source.near(q, within_m, mine)
            lowest[first : first + len(source.names)] = found.lowest
            parts.append(Margins(q, lowest, found.indices + first, found.gradients))
        if len(parts) == 1:
            return parts[0]
        indices = np.concatenate([np.empty(0, dtype=np.intp), *(part.indices for part in parts)])
        return Margins(q, lowest, indices, np.concatenate([np.empty((0, q.size)), *(part.gradients for part in parts)]))

    def _shared_out(self, among: Indices) -> list[tuple[MarginSource, Indices, int]]:
        """Each source that is asked for something, for what, and where its margins begin."""
        if among.size and among[-1] < self._first[1]:
            return [(self._sources[0], among, 0)]
        at = among.searchsorted(self._first)
        each = zip(self._sources, at[:-1].tolist(), at[1:].tolist(), self._first.tolist(), strict=False)
        return [(source, among[begin:end] - first, first) for source, begin, end, first in each if end > begin]
