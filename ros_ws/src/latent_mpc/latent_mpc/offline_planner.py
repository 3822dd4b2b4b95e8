"""A bag's events through the planner node's proposer, with the times at which the node took them in, as fast as the machine can.

With a journal the events, their order and every look at the clock are those of the recorded run, and a search is cut after as many iterations as it
was then: the same model with the same settings proposes the same, to the bit. Without one, an event is taken in when the recorder received it,
planning takes until its plan was received or, where none was recorded, ``plan_ms``; frames that come meanwhile wait and the newest counts, and a
search runs to its own end.

The arm of the bag did what the recorded plans said. So must what is planned next begin where they led: after each frame the plan that was recorded
for it counts as sent, where another came out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.offline_bag import Recorded, Timed, by_stamp, heard_ns, moment_of
from latent_mpc.offline_perception import Seen, Sight
from planner_node.episode import Code
from planner_node.guardrails.zones_in_force import ZoneSet
from planner_node.journal import Entry, Kind, Moment, checksum
from planner_node.outlet import Values
from planner_node.plan import Plan
from planner_node.planner_parameters import PlannerParameters
from planner_node.proposer import Equipment, Proposer
from planner_node.solvers.solver import Deadline
from ros_bridge.joints import Trajectory
from world_model.surprise import Reading

_TICK_NS = 200_000_000
_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Event:
    """Something to take in, and what a journal says of how it was dealt with.

    ``readings``: later looks at the clock. ``iterations``: after how many the search was cut, 0 for none; None where there was no search.
    """

    kind: Kind
    what: int
    at: Moment
    readings: tuple[Moment, ...] = ()
    iterations: int | None = None
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Proposed:
    """A plan as it would be received, the moment at which it was sent, and the smallest margin that the search saw, NaN for a hold."""

    trajectory: Trajectory
    sent: Moment
    margin_m: float


@dataclass
class Proposals:
    """All that came out of the planner. ``absent`` counts journaled messages that the bag lacks, by kind; ``words`` what was said, and how often."""

    plans: list[Proposed] = field(default_factory=list)
    results: list[tuple[int, str]] = field(default_factory=list)
    scores: list[tuple[float, ...]] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    searches: int = 0
    cut: int = 0
    infeasible: int = 0
    absent: dict[str, int] = field(default_factory=dict)
    words: dict[str, int] = field(default_factory=dict)


class _Time:
    """The clock of a replay: the journal's readings in their order, or the event's own time, and what planning is declared to take."""

    def __init__(self, plan_ms: float, recorded_search: bool) -> None:
        self.searched = 0
        self._plan_ns = round(plan_ms * _NS_PER_MS)
        self._recorded_search = recorded_search
        self._event = Event(Kind.TICK, 0, Moment(0, 0.0))
        self._readings: deque[Moment] = deque()
        self._now = self._event.at

    def begin(self, event: Event) -> None:
        self._event, self._readings, self._now = event, deque(event.readings), event.at

    @property
    def at(self) -> Moment:
        return self._now

    def now(self) -> Moment:
        if self._readings:
            self._now = self._readings.popleft()
        return self._now

    def deadline(self, seconds: float) -> Deadline:
        self.searched += 1
        if not self._readings:
            self._now = Moment(self._now.ros_ns + self._plan_ns, self._now.steady_s + self._plan_ns / _NS_PER_S)
        return Deadline.counted((self._event.iterations or None) if self._recorded_search else None)


class _Notes:
    """The outlet of a replay."""

    def __init__(self, time: _Time) -> None:
        self.out = Proposals()
        self.fresh: list[Proposed] = []
        self._time = time

    def plan(self, stamp_ns: int, times: Vector, positions: Vector, velocities: Vector) -> None:
        # What is received was rounded to whole nanoseconds on the way.
        self.fresh.append(Proposed(Trajectory(stamp_ns, np.rint(times * _NS_PER_S) / _NS_PER_S, positions, velocities), self._time.at, float("nan")))

    def imagined(self, plan: Plan, stamp_ns: int) -> None:
        self.out.searches += 1
        self.out.cut += plan.cut
        self.out.infeasible += not plan.feasible
        self.out.margins.append(plan.margin)
        if plan.feasible and self.fresh:
            last = self.fresh[-1]
            self.fresh[-1] = Proposed(last.trajectory, last.sent, plan.margin)

    def fenced(self, zones: ZoneSet) -> None:
        pass

    def surprise(self, reading: Reading) -> None:
        self.out.scores.append(reading.numbers())

    def result(self, code: Code, values: Values) -> None:
        self.out.results.append((int(values["goal_stamp_ns"]), code.name))

    def status(self) -> None:
        pass

    def say(self, what: str, text: str, grave: bool = False) -> None:
        self.out.words[text] = self.out.words.get(text, 0) + 1


@dataclass(frozen=True)
class PlannerReplay:
    """How to replay: ``recorded_search`` cuts searches where they were cut, ``scored`` scores surprise, ``plan_ms`` is for bags without a journal.

    ``settings`` gives the parameters for what a journal calls by a checksum.
    """

    equipment: Equipment
    parameters: PlannerParameters
    settings: Callable[[Mapping[str, Any]], PlannerParameters]
    recorded_search: bool = True
    scored: bool = True
    plan_ms: float = 20.0
    perception_ms: float = 10.0

    def run(self, recorded: Recorded, sight: Sight) -> Proposals:
        """Take in everything, and give what came out."""
        time = _Time(self.plan_ms, self.recorded_search)
        notes = _Notes(time)
        proposer = Proposer(self.equipment, self.parameters, time, notes)
        journaled = bool(recorded.planner_journal)
        events = _journaled(recorded.planner_journal) if journaled else self._received(recorded, *sight.all(), time)
        if journaled and recorded.planner_journal[0].kind is not Kind.ACTIVATE:
            proposer.activate(recorded.planner_journal[0].at)  # the recorder came later than that
        joints = by_stamp(recorded.joints)
        zones = {checksum(entry.value): entry.value for entry in recorded.zones}
        then = {stamp: deque(plans) for stamp, plans in by_stamp(recorded.plans).items()}
        for event in events:
            time.begin(event)
            kind, what, at = event.kind, event.what, event.at
            if kind is Kind.JOINTS and event.values:
                proposer.measured(np.array(event.values[: len(self.equipment.arm.joints)]), what, at)
            elif kind is Kind.JOINTS and what in joints:
                proposer.measured(joints[what][0].value.position, what, at)
            elif kind is Kind.FRAME and (frame := sight.frame(what) or sight.stand_in(recorded, what)) is not None:
                proposer.frame(frame.latent, what, at)
            elif kind is Kind.WITNESS and (not self.scored or (frame := sight.frame(what) or sight.stand_in(recorded, what)) is not None):
                if self.scored and frame is not None:
                    proposer.witness(frame.witness, what, at)
            elif kind is Kind.GOAL and (goal := sight.goal(what)) is not None:
                proposer.goal(goal.latent, what, at)
            elif kind is Kind.ZONES and what in zones:
                proposer.zones(zones[what], at)
            elif kind is Kind.SETTINGS and what in recorded.planner_settings:
                proposer.set(self.settings(recorded.planner_settings[what]), at, zones_named=bool(event.values))
            elif kind is Kind.CANCEL:
                proposer.cancel(at)
            elif kind is Kind.TICK:
                proposer.tick(at)
            elif kind is Kind.ACTIVATE:
                proposer.activate(at)
            elif kind is Kind.DEACTIVATE:
                proposer.deactivate(at)
            elif what >= recorded.start_ns or kind in (Kind.ZONES, Kind.SETTINGS):
                notes.out.absent[kind.name] = notes.out.absent.get(kind.name, 0) + 1
            if kind is Kind.FRAME or notes.fresh:
                self._anchor(proposer, then, notes.fresh, what if kind is Kind.FRAME else 0)
                notes.out.plans += notes.fresh
                notes.fresh.clear()
        return notes.out

    @staticmethod
    def _anchor(proposer: Proposer, then: Mapping[int, deque[Timed]], fresh: Sequence[Proposed], frame: int) -> None:
        """What was sent then is what the arm follows."""
        own = {plan.trajectory.stamp_ns: plan.trajectory for plan in fresh}
        for stamp in {*own, frame}:
            if stamp in then and then[stamp] and proposer.motion.commanded is not None:
                sent = then[stamp].popleft().value
                if stamp not in own or not same_trajectory(own[stamp], sent):
                    proposer.motion.adopt(stamp, sent.times, sent.positions, sent.velocities)

    def _received(self, recorded: Recorded, frames: Sequence[Seen], goals: Sequence[Seen], time: _Time) -> Iterator[Event]:
        """Events of a bag without a journal, at the times at which the recorder received them."""
        start = recorded.start_ns
        latent_ns = {entry.stamp_ns: entry.time_ns for entry in recorded.latents}
        goal_ns = {entry.stamp_ns: entry.time_ns for entry in recorded.goal_latents}
        later, timeout_ns = round(self.perception_ms * _NS_PER_MS), round(self.parameters.frame_timeout_s * _NS_PER_S)
        waiting = [(heard_ns(entry), Kind.JOINTS, entry.stamp_ns) for entry in recorded.joints]
        waiting += [(latent_ns.get(frame.stamp_ns, frame.time_ns + later), Kind.FRAME, frame.stamp_ns) for frame in frames]
        waiting += [(latent_ns.get(frame.stamp_ns, frame.time_ns + later) + 1, Kind.WITNESS, frame.stamp_ns) for frame in frames]
        for goal in goals:
            heard = goal_ns.get(goal.stamp_ns, goal.time_ns + later)
            first = min((plan.stamp_ns for plan in recorded.plans if plan.stamp_ns > goal.stamp_ns), default=heard)
            waiting.append((min(heard, first), Kind.GOAL, goal.stamp_ns))
        waiting += [(entry.time_ns, Kind.ZONES, checksum(entry.value)) for entry in recorded.zones]
        waiting += [(ns, Kind.TICK, 0) for ns in range(start, recorded.end_ns, _TICK_NS)]
        yield Event(Kind.ACTIVATE, 0, moment_of(start, start))
        arrivals = sorted(waiting)
        free_ns, searched = start, time.searched
        sent_ns = {entry.stamp_ns: entry.time_ns for entry in reversed(recorded.plans)}
        frame_times = [ns for ns, kind, _ in arrivals if kind is Kind.FRAME]
        following = 0
        for ns, kind, what in arrivals:
            begins, readings = max(ns, free_ns), tuple[Moment, ...]()
            if kind is Kind.FRAME:
                following += 1
                if what in sent_ns:
                    # A plan that was recorded says that its frame was young enough, when planning began at the latest, and when it ended.
                    begins = min(begins, sent_ns[what], what + timeout_ns)
                    readings = (moment_of(begins, start), moment_of(sent_ns[what], start))
                elif following < len(frame_times) and frame_times[following] <= free_ns:
                    continue  # a newer one came while the planner was busy, and only the newest counts
            yield Event(kind, what, moment_of(begins, start), readings)
            if time.searched > searched:
                searched, free_ns = time.searched, time.at.ros_ns


def same_trajectory(one: Trajectory, other: Trajectory) -> bool:
    """Whether two trajectories are the same to the bit."""
    pairs = ((one.times, other.times), (one.positions, other.positions), (one.velocities, other.velocities))
    return one.stamp_ns == other.stamp_ns and all(np.array_equal(a, b) for a, b in pairs)


def _journaled(entries: Sequence[Entry]) -> Iterator[Event]:
    """Events with the looks at the clock that follow them."""
    event: Entry | None = None
    readings: list[Moment] = []
    iterations: int | None = None
    for entry in entries:
        if entry.kind is Kind.READING:
            readings.append(entry.at)
        elif entry.kind is Kind.SEARCH:
            iterations = entry.what
        else:
            if event is not None:
                yield Event(event.kind, event.what, event.at, tuple(readings), iterations, event.values)
            event, readings, iterations = entry, [], None
    if event is not None:
        yield Event(event.kind, event.what, event.at, tuple(readings), iterations, event.values)
