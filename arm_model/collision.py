"""How far an arm is from itself and from what stands around it, and which joint motion makes it farther."""

from __future__ import annotations

from dataclasses import dataclass

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from arm_model.description import ArmDescription, ArmError
from arm_model.scene import EMPTY, Box, Capsule, Obstacle, Scene, Sphere
from arm_model.urdf import collision_shapes, full_model, locked_joints

# Coal's own 1e-6 m leaves nearest points of separate shapes a few degrees off on flat faces; this costs no more. How deep shapes overlap is another
# algorithm's (EPA) to say, which fails at finer tolerances than its own.
_TOLERANCE_M = 1e-8
# What an overlap counts whose depth could not be found: the algorithm says minus infinity then.
_UNKNOWN_DEPTH_M = -1.0
_DEEPEST_M = -100.0


@dataclass(frozen=True)
class Nearby:
    """Pairs that are close: ``indices (M,) int`` into ``CollisionModel.pairs``, ``distances (M,) m``, ``gradients (M, J) m/rad`` of the distances."""

    indices: NDArray[np.intp]
    distances: NDArray[np.float64]
    gradients: NDArray[np.float64]


class CollisionModel:
    """Signed distances between the links of an arm, and from its links to a scene.

    Shapes are those under ``<collision>`` in the URDF: meshes as their convex hulls, primitive shapes as they are. ``pairs`` names the K checked
    pairs of shapes, link and link or link and obstacle; a link made of several shapes appears several times. Not checked: shapes that cannot move
    against each other, links on either side of a joint, the description's ``allowed_collisions``, and an obstacle's ``allowed`` links.

    Not to be shared between threads: a call works in buffers of its own.

    Raises:
        ArmError: the URDF cannot be read or has no collision shape that moves, an allowed pair names a link that it has not, or an obstacle is called
            like a link.
    """

    pairs: tuple[tuple[str, str], ...]

    def __init__(self, arm: ArmDescription, scene: Scene = EMPTY) -> None:
        self.arm = arm
        full = full_model(arm)
        self._model, (self._shapes,) = pin.buildReducedModel(full, [collision_shapes(arm, full)], locked_joints(arm, full), pin.neutral(full))
        for shape in self._shapes.geometryObjects:
            if isinstance(shape.geometry, coal.BVHModelBase):
                shape.geometry.buildConvexHull(True, "Qt")
                shape.geometry = shape.geometry.convex
        arm_shapes = len(self._shapes.geometryObjects)
        if not any(shape.parentJoint for shape in self._shapes.geometryObjects):
            raise ArmError(f"{arm.urdf} has no collision shapes on its moving links; add <collision> to them")
        base = self._model.frames[self._model.getFrameId(arm.base_frame)].placement
        for obstacle in scene.obstacles:
            self._shapes.addGeometryObject(_solid(obstacle, base))
        self._links = [self._model.frames[shape.parentFrame].name for shape in self._shapes.geometryObjects[:arm_shapes]]
        self._links += [obstacle.name for obstacle in scene.obstacles]
        self.pairs = self._add_pairs(arm_shapes, scene)
        self._data = self._model.createData()
        self._found = self._shapes.createData()
        # Kept once: they stay the same objects, and taking them out of the binding's vector costs more than the measurement.
        self._results = list(self._found.distanceResults)
        for request in self._found.distanceRequests:
            request.gjk_tolerance = _TOLERANCE_M
        joints = np.array([shape.parentJoint for shape in self._shapes.geometryObjects])
        ends = np.array([(pair.first, pair.second) for pair in self._shapes.collisionPairs], dtype=np.intp).reshape(-1, 2)
        moved = np.zeros((self._model.njoints, self._model.nv))  # which joints move what hangs on a joint
        for joint in range(1, self._model.njoints):
            moved[joint, [self._model.joints[above].idx_v for above in list(self._model.supports[joint]) if above]] = 1.0
        self._moves = moved[joints[ends[:, 1]]] - moved[joints[ends[:, 0]]]

    def distances(self, q: NDArray[np.float64], among: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Signed distances ``(K,) float64, m`` of ``pairs`` at joints ``q (J,) rad``; negative is how deep they penetrate.

        With ``among (M,)`` those of these pairs only, ``(M,)``, in a time that goes with their number.
        """
        pin.updateGeometryPlacements(self._model, self._data, self._shapes, self._found, q)
        if among is None:
            pin.computeDistances(self._shapes, self._found)
            distances = [result.min_distance for result in self._results]
        else:
            compute, shapes, found = pin.computeDistance, self._shapes, self._found
            distances = [compute(shapes, found, index).min_distance for index in among.tolist()]
        return np.array([distance if distance > _DEEPEST_M else _UNKNOWN_DEPTH_M for distance in distances], dtype=np.float64)

    def near(self, q: NDArray[np.float64], within_m: float) -> Nearby:
        """The pairs closer than ``within_m`` at joints ``q (J,) rad``."""
        distances = self.distances(q)
        indices: NDArray[np.intp] = np.flatnonzero(distances < within_m)
        return Nearby(indices, distances[indices], self.gradients(q, indices))

    def gradients(self, q: NDArray[np.float64], indices: NDArray[np.intp]) -> NDArray[np.float64]:
        """Gradients ``(M, J) m/rad`` of the distances of pairs ``indices (M,)``, which were measured last at the same ``q (J,) rad``.

        The gradient of a distance is the velocity of the two nearest points along the line between them: d' = n . (J2 - J1), with n from the first
        to the second (Kanehiro et al. 2008, "A Local Collision Avoidance Method for Non-strictly Convex Polyhedra", eq. 4). Both points lie on that
        line, so that a joint which carries either turns it with the same moment p x n about the origin, and one that carries both does nothing.
        """
        wrenches = []
        for index in indices.tolist():
            result = self._results[index]
            nx, ny, nz = result.normal.tolist()
            px, py, pz = result.getNearestPoint1().tolist()
            wrenches.append((nx, ny, nz, py * nz - pz * ny, pz * nx - px * nz, px * ny - py * nx))
        # Columns of the spatial Jacobian in the world frame: the velocity v of the point at the origin and the rotation w; a point p has v + w x p.
        jacobian = pin.computeJointJacobians(self._model, self._data, q)
        gradients: NDArray[np.float64] = self._moves.take(indices, axis=0) * np.array(wrenches).reshape(-1, 6).dot(jacobian)
        return gradients

    def _add_pairs(self, arm_shapes: int, scene: Scene) -> tuple[tuple[str, str], ...]:
        """Register every pair that is to be checked, and return their names."""
        allowed = {frozenset(pair) for pair in self.arm.allowed_collisions}
        allowed |= {frozenset((obstacle.name, link)) for obstacle in scene.obstacles for link in obstacle.allowed}
        frames, obstacles = {frame.name for frame in self._model.frames}, {obstacle.name for obstacle in scene.obstacles}
        # Who knows pairs by name alone would take the obstacle for the link, and believe that it moves along.
        for name in sorted(frames & obstacles):
            raise ArmError(f"obstacle '{name}' is called like a part of arm '{self.arm.name}'; give it another name")
        known = frames | obstacles
        for name in sorted({name for pair in allowed for name in pair} - known):
            raise ArmError(f"arm '{self.arm.name}' has no link '{name}', which an allowed collision names")
        joints = [shape.parentJoint for shape in self._shapes.geometryObjects]
        found = []
        for first in range(arm_shapes):
            for second in range(first + 1, len(joints)):
                names = (self._links[first], self._links[second])
                if second < arm_shapes:
                    a, b = joints[first], joints[second]
                    neighbours = a == b or self._model.parents[a] == b or self._model.parents[b] == a
                else:
                    neighbours = joints[first] == 0  # what does not move need not be watched
                if not neighbours and frozenset(names) not in allowed:
                    self._shapes.addCollisionPair(pin.CollisionPair(first, second))
                    found.append(names)
        return tuple(found)


def _solid(obstacle: Obstacle, base: pin.SE3) -> pin.GeometryObject:
    shape = obstacle.shape
    placement = base * pin.SE3(pin.rpy.rpyToMatrix(*obstacle.rpy), np.array(obstacle.xyz))
    if isinstance(shape, Box):
        solid = coal.Box(*shape.size)
    elif isinstance(shape, Sphere):
        solid = coal.Sphere(shape.radius)
    elif isinstance(shape, Capsule):
        solid = coal.Capsule(shape.radius, shape.length)
    else:
        solid = coal.Halfspace(np.array(shape.normal), shape.offset)
    return pin.GeometryObject(f"obstacle {obstacle.name}", 0, placement, solid)
