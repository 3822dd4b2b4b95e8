"""What the planner counts while it pursues goals: the numbers of its status."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner_node.plan import NO_PLAN, Plan

_RATE_WINDOW_S = 2.0


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

    def new_goal(self) -> None:
        """Plans and their rate are counted for each goal."""
        self.plans, self._begun, self.last_plan = 0, [], None

    def planned(self, plan: Plan, begun_s: float, elapsed_s: float, deadline_s: float) -> None:
        """A search that began at ``begun_s`` on a monotonic clock took ``elapsed_s``."""
        self.plans += 1
        self.plan_ms = 1e3 * elapsed_s
        self.overruns += elapsed_s > deadline_s
        self.last_plan = plan
        self._begun = [t for t in self._begun if t > begun_s - _RATE_WINDOW_S] + [begun_s]

    @property
    def plan_rate_hz(self) -> float:
        """Plans a second over the last two."""
        span = self._begun[-1] - self._begun[0] if len(self._begun) > 1 else 0.0
        return (len(self._begun) - 1) / span if span > 0 else 0.0

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
            **(NO_PLAN if plan is None else plan.values()),
        }
