"""One goal, from the moment it is shown to its end, and what a program may read of it. No ROS, no clock: times come in as arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np


class Code(IntEnum):
    """What has become of a goal: the word and number on ``/planner/status`` and ``/planner/result``. Above zero it was pursued to its end."""

    IDLE = 0
    PLANNING = 1
    REACHED_HORIZON = 2
    REACHED_GOAL = 3
    CANCELED = -1
    REPLACED = -2
    INTERRUPTED = -3
    UNREACHABLE = -4
    BLOCKED = -5


@dataclass(frozen=True)
class ProgressConfig:
    """When a goal counts as near, out of reach, or blocked; distances are the critic's, in steps.

    ``near_steps``: at most that far for ``settle_s`` is near. Further than ``far_steps`` and not a step nearer for ``patience_s`` is stalled: the
    picture shows what no action leads to. No feasible plan for ``blocked_s`` is blocked.
    """

    near_steps: float = 3.0
    settle_s: float = 0.4
    far_steps: float = 6.0
    patience_s: float = 2.0
    blocked_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.near_steps < self.far_steps:
            raise ValueError(f"near_steps is {self.near_steps}, far_steps {self.far_steps}: they must be positive, the second the larger one")
        if min(self.settle_s, self.patience_s, self.blocked_s) <= 0:
            raise ValueError("settle_s, patience_s and blocked_s must be positive")


@dataclass
class Progress:
    """How the distance to the goal has developed since the first frame."""

    config: ProgressConfig = field(default_factory=ProgressConfig)
    distance: float = float("nan")
    _best: float = np.inf
    _nearer_s: float = 0.0
    _near_since_s: float | None = None
    _feasible_s: float | None = None
    _newest_s: float = 0.0

    def see(self, stamp_s: float, distance: float) -> None:
        """A frame at ``stamp_s`` is ``distance`` steps from the goal."""
        self._newest_s, self.distance = stamp_s, distance
        if distance < self._best - 1.0:
            self._best, self._nearer_s = distance, stamp_s
        if not distance <= self.config.near_steps:
            self._near_since_s = None
        elif self._near_since_s is None:
            self._near_since_s = stamp_s
        if self._feasible_s is None:
            self._feasible_s = stamp_s

    def planned(self, stamp_s: float, sent: bool) -> None:
        """The plan from the frame at ``stamp_s`` was feasible and sent, or not."""
        if sent:
            self._feasible_s = stamp_s

    @property
    def near(self) -> bool:
        """Whether the goal counts as reached."""
        return self._near_since_s is not None and self._newest_s - self._near_since_s >= self.config.settle_s

    @property
    def stalled(self) -> bool:
        """Whether the goal is far and does not come nearer."""
        return self._best > self.config.far_steps and self._newest_s - self._nearer_s >= self.config.patience_s and self._best < np.inf

    @property
    def blocked(self) -> bool:
        """Whether there has been no plan that may be carried out for too long."""
        return self._feasible_s is not None and self._newest_s - self._feasible_s >= self.config.blocked_s

    @property
    def verdict(self) -> Code:
        """What a planner that does not wait for the horizon makes of it."""
        if self.near:
            return Code.REACHED_GOAL
        if self.blocked:
            return Code.BLOCKED
        return Code.UNREACHABLE if self.stalled else Code.PLANNING
