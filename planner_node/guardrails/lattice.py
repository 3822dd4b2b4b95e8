"""Fields over the workspace: values at the nodes of a lattice, interpolated between them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Lattice:
    """Nodes over the box ``lower``..``upper`` in m, ``counts`` along each axis, ends included. An axis without room has one node."""

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    counts: tuple[int, int, int]

    @staticmethod
    def over(lower: tuple[float, float, float], upper: tuple[float, float, float], spacing_m: float) -> Lattice:
        """Nodes at most ``spacing_m`` apart."""
        a, b, c = (1 if high <= low else 1 + int(np.ceil((high - low) / spacing_m - 1e-9)) for low, high in zip(lower, upper, strict=True))
        return Lattice(lower, upper, (a, b, c))

    @property
    def cells(self) -> tuple[int, int, int]:
        """Cells along each axis; an axis without room counts as one."""
        a, b, c = (max(1, count - 1) for count in self.counts)
        return a, b, c

    def nodes(self) -> F64:
        """Points ``(A, B, C, 3)``."""
        axes = [np.linspace(low, high, count) for low, high, count in zip(self.lower, self.upper, self.counts, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    def centres(self) -> F64:
        """Middles of the cells ``(A-1, B-1, C-1, 3)``; of an axis without room, its one place."""
        nodes = self.nodes()
        for axis, count in enumerate(self.counts):
            if count > 1:
                nodes = (nodes.take(range(1, count), axis) + nodes.take(range(count - 1), axis)) / 2
        return nodes

    def corners(self, field: F64) -> F64:
        """Values of ``field (A, B, C, V)`` at the corners of each cell, ``(2^D, cells..., V)`` for D axes with room, the first running fastest."""
        views = []
        for c, b, a in itertools.product(*((0, 1) if count > 1 else (0,) for count in reversed(self.counts))):
            views.append(field[a : a + self.cells[0], b : b + self.cells[1], c : c + self.cells[2]])
        return np.stack(views)

    def worst_around(self, cells: F64) -> F64:
        """The largest of ``cells (cells...)`` around each node, ``(A, B, C)``: interpolated, it is nowhere less than the cell's own."""
        padded = np.pad(cells, [(1, 1) if count > 1 else (0, 0) for count in self.counts], mode="edge")
        offsets = itertools.product(*((0, 1) if count > 1 else (0,) for count in self.counts))
        a, b, c = self.counts
        worst: F64 = np.max([padded[i : i + a, j : j + b, k : k + c] for i, j, k in offsets], axis=0)
        return worst

    def beyond(self, points: F64) -> F64:
        """Metres ``(...)`` by which ``points (..., 3)`` lie outside the box."""
        distance: F64 = np.linalg.norm(points - np.clip(points, self.lower, self.upper), axis=-1)
        return distance

    def locate(self, points: F64) -> tuple[NDArray[np.intp], F64]:
        """Cells ``(..., 3)`` of ``points (..., 3)``, and where in them they lie, ``(..., 3)`` in [0, 1]. What lies outside counts as on the edge."""
        lower, cells = np.array(self.lower), np.array(self.cells)
        room = np.array(self.upper) - lower
        place = np.clip((np.nan_to_num(points) - lower) * (np.divide(cells, room, out=np.zeros(3), where=room > 0)), 0.0, cells * (room > 0))
        cell = np.minimum(place.astype(np.intp), cells - 1)
        return cell, place - cell

    def table(self, field: F64) -> F64:
        """``field (A, B, C, V)`` as ``interpolate`` wants it: the corners of each cell side by side, ``(cells, 2^D, V)``."""
        corners = np.moveaxis(self.corners(field), 0, -2)
        return np.ascontiguousarray(corners.reshape(-1, *corners.shape[-2:]))

    def interpolate(self, table: F64, cell: NDArray[np.intp], inside: F64) -> F64:
        """Multilinear values ``(..., V)`` of a ``table`` at what ``locate`` found."""
        index = ((cell[..., 0] * self.cells[1] + cell[..., 1]) * self.cells[2] + cell[..., 2]).ravel()
        weights: F64 = np.ones((len(index), 1))
        for axis, count in enumerate(self.counts):
            if count > 1:
                share = inside[..., axis].reshape(-1, 1)
                weights = np.concatenate([weights * (1.0 - share), weights * share], axis=1)
        values: F64 = np.einsum("pc,pcv->pv", weights, table[index]).reshape(*cell.shape[:-1], table.shape[-1])
        return values
