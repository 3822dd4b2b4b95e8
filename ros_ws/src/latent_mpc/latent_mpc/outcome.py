"""What a demo found out, and how it is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SUMMARY = "summary.json"


@dataclass(frozen=True)
class EpisodeOutcome:
    """One episode: distances in m at its start and end, ``seconds`` from the picture being shown to the end, ``outcome`` in words.

    ``clearance_m`` is the least distance of the true tool point from the forbidden zone, None where there is none.
    """

    seed: int
    success: bool
    start_distance_m: float
    final_distance_m: float
    steps: int
    seconds: float
    outcome: str
    clearance_m: float | None = None


@dataclass(frozen=True)
class GuardrailCounts:
    """What the guardrail did while episodes ran."""

    cycles: int = 0
    interventions: int = 0
    missed_cycles: int = 0
    stops: int = 0

    def plus(self, other: GuardrailCounts) -> GuardrailCounts:
        """Sums."""
        return GuardrailCounts(*(ours + theirs for ours, theirs in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def since(self, before: GuardrailCounts) -> GuardrailCounts:
        """Differences to an earlier reading."""
        return GuardrailCounts(*(ours - theirs for ours, theirs in zip(asdict(self).values(), asdict(before).values(), strict=True)))


@dataclass(frozen=True)
class Spread:
    """Median and 99th percentile, ms; None when nothing was measured."""

    p50: float | None = None
    p99: float | None = None

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """The spread of single measurements."""
        return Spread(*(float(np.percentile(values, percent)) for percent in (50, 99))) if len(values) else Spread()


@dataclass(frozen=True)
class Pass:
    """A row of episodes played with one setting of the planner."""

    episodes: tuple[EpisodeOutcome, ...]
    plan_rate_hz: float | None
    plan_ms: Spread
    frame_to_command_ms: Spread
    guardrail: GuardrailCounts

    @property
    def success_rate(self) -> float:
        """Share of the episodes that succeeded, 0 when there is none."""
        return sum(episode.success for episode in self.episodes) / max(1, len(self.episodes))


@dataclass(frozen=True)
class Summary:
    """All of a demo. ``limit_violations`` and ``bag`` are None when nothing was recorded; ``without_zones`` is the wall task's second pass."""

    task: str
    model: str
    result: Pass
    limit_violations: int | None = None
    bag: str | None = None
    video: str | None = None
    report: str | None = None
    without_zones: Pass | None = None

    @property
    def all_episodes(self) -> tuple[EpisodeOutcome, ...]:
        """Those of both passes, in the order in which they were played."""
        return self.result.episodes + (() if self.without_zones is None else self.without_zones.episodes)

    def to_json(self) -> dict[str, Any]:
        """The keys that scripts rely on, and some more."""
        content: dict[str, Any] = {"task": self.task, "model": self.model, **_pass_json(self.result)}
        content |= {"limit_violations": self.limit_violations, "bag": self.bag, "video": self.video, "report": self.report}
        if self.without_zones is not None:
            content["without_zones"] = _pass_json(self.without_zones)
        return content


def _pass_json(result: Pass) -> dict[str, Any]:
    return {
        "episodes": [asdict(episode) for episode in result.episodes],
        "success_rate": result.success_rate,
        "plan_rate_hz": result.plan_rate_hz,
        "plan_ms": asdict(result.plan_ms),
        "frame_to_command_ms": asdict(result.frame_to_command_ms),
        "guardrail": asdict(result.guardrail),
    }
