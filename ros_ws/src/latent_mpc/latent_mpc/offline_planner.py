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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.offline_bag import Recorded, Timed, by_stamp, heard_ns, moment_of
from latent_mpc.offline_events import Event, Stretch, halves, journaled
from latent_mpc.offline_perception import Seen, Sight
from latent_mpc.side_by_side import side_by_side
from planner_node.episode import Code
from planner_node.guardrails.zones_in_force import ZoneSet
from planner_node.journal import Kind, Moment, checksum
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
class Proposed:
    """A plan as it would be received, the moment at which it was sent, and the smallest margin that the search saw, NaN for a hold."""

    trajectory: Trajectory
    sent: Moment
    margin_m: float


@dataclass
class Proposals:
    """All that came out of the planner. ``absent`` counts journaled messages that the bag lacks, by kind, ``stood_in`` latents
    that were taken for a missing picture's; ``words`` what was said, and how often.
    """

    plans: list[Proposed] = field(default_factory=list)
    results: list[tuple[int, str]] = field(default_factory=list)
    scores: list[tuple[float, ...]] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    searches: int = 0
    cut: int = 0
    infeasible: int = 0
    stood_in: int = 0
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

    ``settings`` gives the parameters for what a journal calls by a checksum. ``forked``: two processes share the work, as runtimes on a CPU allow;
    what comes out is the same.
    """

    equipment: Equipment
    parameters: PlannerParameters
    settings: Callable[[Mapping[str, Any]], PlannerParameters]
    recorded_search: bool = True
    scored: bool = True
    plan_ms: float = 20.0
    perception_ms: float = 10.0
    forked: bool = False

    def run(self, recorded: Recorded, sight: Sight) -> Proposals:
        """Take in everything, and give what came out. A journal is cut at the goal in its middle."""
        if not recorded.planner_journal:
            time = _Time(self.plan_ms, self.recorded_search)
            return self._play(Stretch(()), self._received(recorded, *sight.all(), time), time, recorded, sight)
        events = [*journaled(recorded.planner_journal)]
        if not events or events[0].kind is not Kind.ACTIVATE:
            events.insert(0, Event(Kind.ACTIVATE, 0, recorded.planner_journal[0].at))  # the recorder came later than that
        stamps = {entry.stamp_ns for entry in recorded.joints}

        def known(event: Event) -> bool:
            return sight.goal(event.what) is not None if event.kind is Kind.GOAL else bool(event.values) or event.what in stamps

        def played(stretch: Stretch) -> Proposals:
            return self._play(stretch, stretch.events, _Time(self.plan_ms, self.recorded_search), recorded, sight)

        calls = [partial(played, stretch) for stretch in halves(events, known)]
        if not self.forked or len(calls) == 1:
            return joined([call() for call in calls])
        sight.all()  # whoever forks while its thread still encodes would take a lock along that nobody opens
        return joined(side_by_side(calls))

    def _play(self, stretch: Stretch, events: Iterable[Event], time: _Time, recorded: Recorded, sight: Sight) -> Proposals:
        notes, stood_in = _Notes(time), sight.stood_in
        proposer = Proposer(self.equipment, self.parameters, time, notes)
        self._take_in(stretch.before, proposer, notes, time, recorded, sight)
        proposer.remember(stretch.took_s)
        notes.out, notes.fresh = Proposals(), []
        self._take_in(events, proposer, notes, time, recorded, sight)
        if stretch.until is not None:
            words, absent = dict(notes.out.words), dict(notes.out.absent)
            self._take_in([stretch.until], proposer, notes, time, recorded, sight)
            notes.out.words, notes.out.absent = words, absent  # it ends a goal here; the rest of what it does is for the next stretch to say
        notes.out.stood_in = sight.stood_in - stood_in
        return notes.out

    def _take_in(self, events: Iterable[Event], proposer: Proposer, notes: _Notes, time: _Time, recorded: Recorded, sight: Sight) -> None:
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


def joined(parts: Sequence[Proposals]) -> Proposals:
    """What came out of one stretch after another."""
    whole = parts[0]
    for part in parts[1:]:
        for name in ("plans", "results", "scores", "margins"):
            getattr(whole, name).extend(getattr(part, name))
        for name in ("searches", "cut", "infeasible", "stood_in"):
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
        for ours, theirs in ((whole.absent, part.absent), (whole.words, part.words)):
            for what, count in theirs.items():
                ours[what] = ours.get(what, 0) + count
    return whole


def same_trajectory(one: Trajectory, other: Trajectory) -> bool:
    """Whether two trajectories are the same to the bit."""
    pairs = ((one.times, other.times), (one.positions, other.positions), (one.velocities, other.velocities))
    return one.stamp_ns == other.stamp_ns and all(np.array_equal(a, b) for a, b in pairs)
