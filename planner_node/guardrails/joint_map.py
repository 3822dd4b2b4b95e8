"""Which joints a tool point takes, and what they mean: solved once over the workspace, looked up in a search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from arm_model import CollisionModel, Kinematics, UnreachableError
from planner_node.guardrails.lattice import Lattice

F64 = NDArray[np.float64]

# Neighbouring nodes whose joints differ by more have another posture, or a singularity between them: what lies there is no way for the tool.
_JUMP_RAD = 0.6
_NO_POSTURE = -1.0
_ROUNDING_M = 1e-6
# m; what is farther is far enough, and how far exactly would only add doubt.
_FAR_M = 0.06
_DRAWN = 600
# The middle of a cell is where interpolation is worst if the field is smooth; it has kinks.
_WORSE_THAN_MEASURED = 1.5
_KINKS_ARE_RARE = 2.0
# Edges of obstacles make kinks that neither finds. With this taken off too, none of 15,000 fresh points was promised too much (docs/guardrails.md).
_KINK_M = 0.002
# A short way of the tool, as between two sampled points.
_WAY_M = 0.004


@dataclass(frozen=True)
class JointMap:
    """Joints over the workspace: ``nodes (A, B, C, J) rad`` of a lattice and ``centres`` of its cells; ``closed`` cells hold a point without joints.

    Between the nodes joints are interpolated; ``slope_doubt (J,) rad/m`` is how wrong that makes the way that joints go for a way of the tool.
    """

    lattice: Lattice
    nodes: F64
    centres: F64
    closed: NDArray[np.bool_]
    slope_doubt: F64

    def at(self, path: F64) -> F64:
        """Joints ``(..., J) rad`` for tool points ``(..., 3) m``; those of the nearest point of the workspace for what lies outside."""
        joints = self.lattice.interpolate(self._table, *self.lattice.locate(path))
        return np.where(np.isfinite(path).all(-1, keepdims=True), joints, np.nan)

    @cached_property
    def _table(self) -> F64:
        return self.lattice.table(self.nodes)


@dataclass(frozen=True)
class MarginField:
    """A number over the workspace that must not be overestimated: ``values (A, B, C)`` at the nodes, the doubt about them taken off.

    Doubt is half as much again as interpolation overestimated in the middle of the cells around a node, and what is missed at points drawn in the
    whole workspace. It is measured, not proven: what leaves the planner is checked again without interpolation.
    """

    map: JointMap
    values: F64

    def at(self, path: F64) -> F64:
        """Lower estimates ``(...)`` at points ``(..., 3) m``. Where the arm has no posture, outside, and for no number they are negative."""
        lattice = self.map.lattice
        cell, inside = lattice.locate(path)
        found = lattice.interpolate(self._table, cell, inside)[..., 0]
        beyond = lattice.beyond(path)
        found = np.where(beyond > _ROUNDING_M, np.minimum(found, -beyond), found)
        found = np.where(self.map.closed[cell[..., 0], cell[..., 1], cell[..., 2]], _NO_POSTURE, found)
        return np.where(np.isfinite(beyond), found, -np.inf)

    def lowered(self, by: float) -> MarginField:
        """The same with more doubt."""
        return replace(self, values=self.values - by)

    @cached_property
    def _table(self) -> F64:
        return self.map.lattice.table(self.values[..., None])


def solve_map(kinematics: Kinematics, lattice: Lattice) -> JointMap:
    """Solve inverse kinematics at every node and in every cell, each from a neighbour's joints, so that one posture covers the workspace."""
    points = lattice.nodes()
    nodes = np.full((*points.shape[:3], len(kinematics.arm.joints)), np.nan)
    for index in np.ndindex(*points.shape[:3]):
        nodes[index] = _solved(kinematics, points[index], [nodes[before] for before in _before(index)])
    corners = lattice.corners(nodes)
    closed = ~np.isfinite(corners).all((0, -1)) | (np.ptp(corners, axis=0).max(-1) > _JUMP_RAD)
    points = lattice.centres()
    centres = np.full((*points.shape[:3], nodes.shape[-1]), np.nan)
    for index in np.ndindex(*points.shape[:3]):
        if not closed[index]:
            centres[index] = _solved(kinematics, points[index], [corners[(0, *index)]])
    closed |= ~np.isfinite(centres).all(-1)
    mapped = JointMap(lattice, np.nan_to_num(nodes), centres, closed, np.zeros(nodes.shape[-1]))
    return replace(mapped, slope_doubt=_WORSE_THAN_MEASURED * _slope_error(mapped, kinematics))


def margin_field(mapped: JointMap, kinematics: Kinematics, measure: Callable[[F64], float]) -> MarginField:
    """``measure`` of the joints ``(J,) rad``, over the workspace."""
    values = np.array([measure(q) for q in mapped.nodes.reshape(-1, mapped.nodes.shape[-1])]).reshape(mapped.nodes.shape[:3])
    over = np.zeros(mapped.closed.shape)
    middle = mapped.lattice.corners(values[..., None]).mean(0)[..., 0]
    for index in np.ndindex(*over.shape):
        if not mapped.closed[index]:
            over[index] = max(middle[index] - measure(mapped.centres[index]), 0.0)
    field = MarginField(mapped, values - _WORSE_THAN_MEASURED * mapped.lattice.worst_around(over))
    points = _drawn(mapped, _DRAWN)
    solved = [_solved(kinematics, point, [q]) for point, q in zip(points, mapped.at(points), strict=True)]
    excess = [value - measure(q) for value, q in zip(field.at(points), solved, strict=True) if np.isfinite(q).all()]
    return field.lowered(_KINKS_ARE_RARE * max(0.0, *excess))


def least_distance(mapped: JointMap, kinematics: Kinematics, model: CollisionModel) -> MarginField:
    """Least distance in m between any two shapes that ``model`` checks, for every tool point; 6 cm where it is more."""
    field = margin_field(mapped, kinematics, lambda q: float(model.distances(q).min(initial=_FAR_M)))
    return field.lowered(_KINK_M)


def least_room(mapped: JointMap, kinematics: Kinematics, lower: F64, upper: F64) -> MarginField:
    """Least angle in rad that a joint has left between ``lower`` and ``upper (J,) rad``, for every tool point."""
    return margin_field(mapped, kinematics, lambda q: float(np.minimum(q - lower, upper - q).min()))


def least_singular_value(mapped: JointMap, kinematics: Kinematics) -> MarginField:
    """Smallest singular value of the tool's Jacobian (m/rad and rad/rad) over the joints that inverse kinematics moves, for every tool point."""
    free = [joint for joint in range(len(kinematics.arm.joints)) if joint != kinematics.arm.held_joint]
    return margin_field(mapped, kinematics, lambda q: float(np.linalg.svd(kinematics.jacobian(q)[:, free], compute_uv=False)[-1]))


def _drawn(mapped: JointMap, count: int) -> F64:
    """At most ``count`` points ``(N, 3)`` in open cells of the workspace, the same whenever it is the same."""
    lattice = mapped.lattice
    points = np.random.default_rng(0).uniform(lattice.lower, lattice.upper, (count, 3))
    cell, _ = lattice.locate(points)
    return points[~mapped.closed[cell[:, 0], cell[:, 1], cell[:, 2]]]


def _slope_error(mapped: JointMap, kinematics: Kinematics) -> F64:
    """Largest difference ``(J,) rad/m`` between how solved and interpolated joints change along short ways in the workspace."""
    points = _drawn(mapped, _DRAWN // 2)
    aims = points[::-1]
    ends = points + _WAY_M * (aims - points) / np.maximum(np.linalg.norm(aims - points, axis=1, keepdims=True), 1e-9)
    found, found_after = mapped.at(points), mapped.at(ends)
    error = np.zeros(found.shape[-1])
    for index in range(len(points)):
        before, after = (_solved(kinematics, point[index], [found[index]]) for point in (points, ends))
        difference = np.abs((after - before) - (found_after[index] - found[index])) / _WAY_M
        if np.isfinite(difference).all() and np.abs(after - before).max() < _JUMP_RAD:
            error = np.maximum(error, difference)
    return error


def _before(index: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Neighbours of a node that were solved before it."""
    return [tuple(place - (axis == other) for axis, place in enumerate(index)) for other in (2, 1, 0) if index[other] > 0]


def _solved(kinematics: Kinematics, point: F64, seeds: list[F64]) -> F64:
    """Joints at ``point`` from the first seed that leads there, or from home; not a number where none does."""
    for seed in [*(seed for seed in seeds if np.isfinite(seed).all()), kinematics.arm.home]:
        try:
            return kinematics.solve(point, seed)
        except UnreachableError:
            continue
    return np.full(len(kinematics.arm.joints), np.nan)
