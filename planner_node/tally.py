"""What the planner counts while it pursues goals: the numbers of its status."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from planner_node.plan import NO_PLAN, Plan

_RATE_WINDOW_S = 2.0
_REMEMBERED = 1000


@dataclass
class Tally:
    """Counts since the start, but ``plans``, which are those of the goal; times in ms."""

    plans: int = 0
    refused_plans: int = 0
    resyncs: int = 0
    overruns: int = 0
    rejected_inputs: int = 0
    rejected_zones: int = 0
    plan_ms: float = 0.0
    frame_age_ms: float = 0.0
    last_plan: Plan | None = None
    _begun: list[float] = field(default_factory=list)
    _took_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def new_goal(self) -> None:
        """Plans and their rate are counted for each goal."""
        self.plans, self._begun, self.last_plan = 0, [], None

    def planned(self, plan: Plan, begun_s: float, elapsed_s: float, deadline_s: float) -> None:
        """A search that began at ``begun_s`` on a monotonic clock took ``elapsed_s``."""
        self.plans += 1
        self.plan_ms = 1e3 * elapsed_s
        self._took_ms.append(self.plan_ms)
        self.overruns += elapsed_s > deadline_s
        self.last_plan = plan
        self._begun = [t for t in self._begun if t > begun_s - _RATE_WINDOW_S] + [begun_s]

    def remember(self, took_s: Sequence[float]) -> None:
        """Searches that somebody else counted took so long."""
        self._took_ms.extend(1e3 * seconds for seconds in took_s)

    @property
    def plan_rate_hz(self) -> float:
        """Plans a second over the last two."""
        span = self._begun[-1] - self._begun[0] if len(self._begun) > 1 else 0.0
        return (len(self._begun) - 1) / span if span > 0 else 0.0

    def plan_ms_percentile(self, percent: float) -> float:
        """How long the last thousand searches took, ms; 0 before the first."""
        return float(np.percentile(self._took_ms, percent)) if self._took_ms else 0.0

    def values(self) -> dict[str, str | int | float | bool]:
        """All of it, finite."""
        plan = self.last_plan
        return {
            "plans": self.plans,
            "plan_ms": self.plan_ms,
            "plan_rate_hz": self.plan_rate_hz,
            "frame_age_ms": self.frame_age_ms,
            "refused_plans": self.refused_plans,
            "resyncs": self.resyncs,
            "overruns": self.overruns,
            "rejected_inputs": self.rejected_inputs,
            "rejected_zones": self.rejected_zones,
            "plan_ms_p50": self.plan_ms_percentile(50),
            "plan_ms_p99": self.plan_ms_percentile(99),
            **(NO_PLAN if plan is None else plan.values()),
        }
