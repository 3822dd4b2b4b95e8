"""The edges of zones, for candidates that meet one: where a step is let through, along what it slides, and which way leads round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner_node.action import ActionMeaning
from planner_node.guardrails.guardrail import sampled
from planner_node.guardrails.zone import ZoneGuardrail
from world_model.protocol import F32

_PROJECTIONS = 3
_BEYOND_M = 1e-3
# How long a detour follows an edge, in steps, and how fast.
_SHORTEST, _LONGEST = 2, 12
_SLOWEST = 0.7


@dataclass(frozen=True)
class Edges:
    """Zones that the tool point must not enter, and what an action means."""

    zones: Sequence[ZoneGuardrail]
    meaning: ActionMeaning

    def blocked(self, points: NDArray[np.float64], actions: F32) -> NDArray[np.bool_]:
        """Which of ``actions (N, A)`` from ``points (N, 3)`` would enter a zone, ``(N,)``."""
        blocked = np.zeros(len(points), dtype=np.bool_)
        for zone in self.zones:
            blocked |= ~self._safe(zone, points, actions)
        return blocked

    def kept_out(self, points: NDArray[np.float64], actions: F32) -> F32:
        """Actions bent along the zones: as they are where the step is safe, else slid along the edge, else none."""
        for zone in self.zones:
            safe = self._safe(zone, points, actions)
            if bool(safe.all()):
                continue
            slid = self._slid(zone, points, actions)
            normal = zone.zone.normal(points)
            inward = np.minimum((actions[:, :2] * normal).sum(-1, keepdims=True), 0.0)
            tangent = actions.copy()
            tangent[:, :2] -= inward * normal
            use_slid = self._safe(zone, points, slid)
            use_tangent = self._safe(zone, points, tangent)
            bent = np.where(use_slid[:, None], slid, np.where(use_tangent[:, None], tangent, np.zeros_like(actions)))
            actions = np.where(safe[:, None], actions, bent).astype(np.float32)
        return actions

    def round(self, points: NDArray[np.float64], turns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit directions ``(N, 2)`` along the edge of the zone nearest to each of ``points (N, 3)``.

        ``turns (N,)`` is 1 for counter-clockwise as seen from above, with the zone on the left hand, and -1 for the other way. There must be a zone.
        """
        distances = np.stack([zone.margins(points) for zone in self.zones])
        normals = np.stack([zone.zone.normal(points) for zone in self.zones])
        normal = normals[distances.argmin(0), np.arange(len(points))]
        way: NDArray[np.float64] = np.stack([-normal[:, 1], normal[:, 0]], axis=1) * turns[:, None]
        return way

    def _slid(self, zone: ZoneGuardrail, points: NDArray[np.float64], actions: F32) -> F32:
        """Actions towards the nearest safe point of where they lead."""
        ends = self.meaning.advance(points, actions)
        for _ in range(_PROJECTIONS):
            lacking = -zone.margins(ends)
            ends[:, :2] += np.where(lacking > 0, lacking + _BEYOND_M, 0.0)[:, None] * zone.zone.normal(ends)
        slid = actions.copy()
        slid[:, :2] = self.meaning.between(points, ends)[:, :2]
        return slid

    def _safe(self, zone: ZoneGuardrail, points: NDArray[np.float64], actions: F32) -> NDArray[np.bool_]:
        ends = self.meaning.advance(points, actions)
        path = sampled(np.stack([points, ends], axis=1))
        here = np.minimum(zone.margins(points), 0.0)
        return np.asarray((zone.margins(path) >= here[:, None] - 1e-9).all(1), dtype=np.bool_)


@dataclass(frozen=True)
class Detours:
    """Candidates that go round a zone once they meet it: one way or the other by ``turns (N,)``, for ``steps (N,)``, at a ``speed (N,)`` up to 1.

    ``met (N,)`` counts the steps since each did, and is counted up by ``turn``.
    """

    turns: NDArray[np.float64]
    steps: NDArray[np.intp]
    speed: NDArray[np.float64]
    met: NDArray[np.intp]

    @staticmethod
    def drawn(count: int, rng: np.random.Generator) -> Detours:
        """``count`` detours, as many to either side, from short to long."""
        order = np.arange(count)
        steps = _SHORTEST + order // 2 * (_LONGEST - _SHORTEST) // max(1, (count - 1) // 2)
        return Detours(np.where(order % 2, 1.0, -1.0), steps, rng.uniform(_SLOWEST, 1.0, count), np.zeros(count, dtype=np.intp))

    @property
    def count(self) -> int:
        """Number of candidates, N."""
        return len(self.turns)

    def turn(self, edges: Edges, points: NDArray[np.float64], actions: F32) -> None:
        """Replace, in place, the first two components of ``actions (N, A)`` of those that met an edge and have not followed it for long enough."""
        if not self.count:
            return
        self.met[...] += (self.met > 0) | edges.blocked(points, actions)
        turning = (self.met > 0) & (self.met <= self.steps)
        along = edges.round(points, self.turns) * self.speed[:, None]
        actions[:, :2] = np.where(turning[:, None], along, actions[:, :2])
