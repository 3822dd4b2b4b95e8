"""A guard, and the streams that it watches, that write into a journal what they are told from outside. They decide what they would decide without."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from planner_node.guard import Command, Guard, GuardConfig
from planner_node.journal import Journal, Kind, Moment
from planner_node.plan_gate import PlanGate, Proposal
from planner_node.shield import Shield
from planner_node.staleness import Staleness, StalenessConfig

CAMERA, PERCEPTION = "the camera", "perception"
_KINDS = {CAMERA: Kind.CAMERA, PERCEPTION: Kind.PERCEPTION}

P = ParamSpec("P")
T = TypeVar("T")


class JournaledStaleness(Staleness):
    """Streams that note what was heard of them."""

    def __init__(self, config: StalenessConfig, journal: Journal) -> None:
        super().__init__(config)
        self._journal = journal

    def heard(self, stream: str, stamp_ns: int, steady_s: float) -> None:
        """See ``Staleness``."""
        self._journal.note(_KINDS[stream], stamp_ns, Moment(0, steady_s))
        super().heard(stream, stamp_ns, steady_s)


class JournaledGuard(Guard):
    """A guard that notes each call. What it calls itself in one of them follows from that, and is not noted."""

    def __init__(self, config: GuardConfig, shield: Shield, gate: PlanGate, streams: Staleness, journal: Journal) -> None:
        super().__init__(config, shield, gate, streams)
        self.journal = journal
        self._inside = False

    def arm(self, steady_s: float, ros_ns: int = 0) -> None:
        """See ``Guard``."""
        self._noted(Kind.ARM, 0, Moment(ros_ns, steady_s), super().arm, steady_s, ros_ns)

    def stop(self, reason: str) -> None:
        """See ``Guard``."""
        self._noted(Kind.STOP, 0, Moment(0, 0.0), super().stop, reason)

    def reset(self) -> None:
        """See ``Guard``."""
        self._noted(Kind.RESET, 0, Moment(0, 0.0), super().reset)

    def finish(self, reason: str) -> None:
        """See ``Guard``."""
        self._noted(Kind.FINISH, 0, Moment(0, 0.0), super().finish, reason)

    def disarm(self, reason: str) -> None:
        """See ``Guard``."""
        self._noted(Kind.DISARM, 0, Moment(0, 0.0), super().disarm, reason)

    def forbid(self, reason: str) -> None:
        """See ``Guard``; noted only where it changes something."""
        if bool(reason) != bool(self.obstacle):
            self._noted(Kind.FORBID, int(bool(reason)), Moment(0, 0.0), super().forbid, reason)
        else:
            super().forbid(reason)

    def lose_planner(self, reason: str) -> None:
        """See ``Guard``."""
        self._noted(Kind.LOST, int(bool(reason)), Moment(0, 0.0), super().lose_planner, reason)

    def clock_jumped(self, slots: int) -> None:
        """See ``Guard``."""
        self._noted(Kind.JUMP, slots, Moment(0, 0.0), super().clock_jumped, slots)

    def propose(self, plan: Proposal, ros_ns: int, steady_s: float) -> None:
        """See ``Guard``."""
        self._noted(Kind.PLAN, plan.stamp_ns, Moment(ros_ns, steady_s), super().propose, plan, ros_ns, steady_s)

    def measured(self, position: NDArray[np.float64], velocity: NDArray[np.float64] | None, stamp_ns: int, steady_s: float) -> None:
        """See ``Guard``."""
        if not self._inside:
            self.journal.note(Kind.MEASURED, stamp_ns, Moment(0, steady_s), [*position.tolist(), *(() if velocity is None else velocity.tolist())])
        self._inside = True
        try:
            super().measured(position, velocity, stamp_ns, steady_s)
        finally:
            self._inside = False

    def cycle(self, slot: int, steady_s: float) -> Command | None:
        """See ``Guard``."""
        return self._noted(Kind.CYCLE, slot, Moment(0, steady_s), super().cycle, slot, steady_s)

    def _noted(self, kind: Kind, what: int, at: Moment, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._inside:
            return call(*args, **kwargs)
        self.journal.note(kind, what, at)
        self._inside = True
        try:
            return call(*args, **kwargs)
        finally:
            self._inside = False
