"""Plans through the guard of the guardrail node, cycle by cycle.

With a journal every call of the guard has the arguments that it had in the recorded run. Without one a cycle is played in every slot in which a
command was recorded, or, where there are none, from the first goal on, and the guard is armed where a row of commands begins.

The recorded joints belong to the recorded commands. Where another command leaves the guard, the arm is taken to be as far from it as it was from the
recorded one: joints are measured where they were, moved by the difference of the two commands. Where no command was recorded, the arm is taken to
follow at once.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.offline_bag import Recorded, Timed, by_stamp, heard_ns, moment_of
from latent_mpc.offline_planner import Proposed
from planner_node.grid import CYCLE_NS, stamp_of_slot
from planner_node.guard import Command, GuardError, State
from planner_node.guard_assembly import retune
from planner_node.guardrail_parameters import GuardrailParameters
from planner_node.journal import Entry, Kind, Moment
from planner_node.journaled_guard import CAMERA, PERCEPTION, JournaledGuard
from planner_node.plan_gate import PlanGate, PlanRejectedError, Proposal
from planner_node.surroundings import Surroundings
from ros_bridge.joints import JointReading, Trajectory

# Slots without a command that end a row of them; what a scheduler delays is shorter.
_PAUSE_SLOTS = 20
_LOOK_EVERY = 10
_ARM_AHEAD_NS = 200_000_000
# rad: joints that differ by no more did not move.
_STOOD_RAD = 1e-4

Vector = NDArray[np.float64]


@dataclass
class Guarded:
    """All that came out of the guard.

    ``margins`` in m, measured as often as a status did; ``states`` are slots, what the guard was from then on, and why.
    """

    commands: list[Command] = field(default_factory=list)
    states: list[tuple[int, str, str]] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    cycles: int = 0
    interventions: int = 0
    filtered: int = 0
    stops: int = 0
    brakings: int = 0
    rejected: int = 0
    last_rejection: str = ""
    absent: dict[str, int] = field(default_factory=dict)


Settings = Callable[[Mapping[str, Any]], GuardrailParameters]


def guarded(
    guard: JournaledGuard, gate: PlanGate, around: Surroundings, recorded: Recorded, plans: Sequence[Proposed], settings: Settings
) -> Guarded:
    """Play the bag's cycles with ``plans``; ``settings`` gives the parameters for what was recorded when somebody changed some."""
    return _Player(guard, gate, around, recorded, plans, settings).play()


class _Player:
    def __init__(
        self, guard: JournaledGuard, gate: PlanGate, around: Surroundings, recorded: Recorded, plans: Sequence[Proposed], settings: Settings
    ) -> None:
        self._settings = settings
        self._guard, self._gate, self._around, self._recorded, self._plans = guard, gate, around, recorded, plans
        self._joints = by_stamp(recorded.joints)
        self._then = {entry.stamp_ns: entry.value for entry in recorded.commands}
        self._count = len(recorded.joints[0].value.position)
        self._out = Guarded()
        self._shift: Vector | None = None
        self._last: Vector | None = None
        self._proposals: dict[int, deque[Trajectory]] = {}
        for plan in plans:
            self._proposals.setdefault(plan.trajectory.stamp_ns, deque()).append(plan.trajectory)

    def play(self) -> Guarded:
        journal = self._recorded.guardrail_journal
        entries: Iterator[Entry] = iter(_with_unheard(journal, self._plans)) if journal else _made_up(self._recorded, self._plans)
        for entry in entries:
            self._take(entry)
        counts, out = self._guard.counts, self._out
        out.cycles, out.interventions, out.filtered = counts.cycles, counts.interventions, counts.filtered
        out.stops, out.brakings, out.rejected, out.last_rejection = counts.stops, counts.brakings, self._gate.rejected, self._gate.last_rejection
        return out

    def _take(self, entry: Entry) -> None:
        guard, at = self._guard, entry.at
        if entry.kind is Kind.CYCLE:
            self._cycle(entry.what, at.steady_s)
        elif entry.kind is Kind.MEASURED:
            self._measure(entry)
        elif entry.kind is Kind.PLAN:
            self._propose(entry.what, at)
        elif entry.kind in (Kind.CAMERA, Kind.PERCEPTION):
            guard.streams.heard(CAMERA if entry.kind is Kind.CAMERA else PERCEPTION, entry.what, at.steady_s)
        elif entry.kind is Kind.LOOK:
            self._look()
        elif entry.kind is Kind.ARM:
            self._arm(at)
        elif entry.kind is Kind.STOP:
            guard.stop("stop requested")
        elif entry.kind is Kind.RESET:
            # It may still brake, other than then.
            if guard.state is State.STOPPED:
                guard.reset()
        elif entry.kind is Kind.FINISH:
            guard.finish("the process ends")
        elif entry.kind is Kind.DISARM:
            guard.disarm("not active")
        elif entry.kind is Kind.FORBID:
            guard.forbid("another publisher of commands" if entry.what else "")
        elif entry.kind is Kind.LOST:
            guard.lose_planner("the planner is gone" if entry.what else "")
        elif entry.kind is Kind.JUMP:
            guard.clock_jumped(entry.what)
        elif entry.kind is Kind.SETTINGS:
            said = self._recorded.guardrail_settings.get(entry.what)
            if said is None:
                self._absent(Kind.SETTINGS, self._recorded.end_ns)
            else:
                retune(self._settings(said), guard, self._gate)
        self._note_state(entry)

    def _cycle(self, slot: int, steady_s: float) -> None:
        command = self._guard.cycle(slot, steady_s)
        then = self._then.get(stamp_of_slot(slot))
        if command is not None:
            self._out.commands.append(command)
            self._last = command.braking.positions[0]
        if then is not None and self._last is not None:
            self._shift = self._last - then.positions[0]

    def _measure(self, entry: Entry) -> None:
        stamp, count = entry.what, self._count
        if entry.values:
            velocity = np.array(entry.values[count : 2 * count])
            known = len(velocity) == count and bool(np.isfinite(velocity).all())
            reading = JointReading(np.array(entry.values[:count]), velocity if known else None, stamp)
        elif stamp in self._joints:
            reading = self._joints[stamp][0].value
        else:
            self._absent(Kind.MEASURED, stamp)
            return
        moved = reading.position
        if not self._then and self._last is not None:
            moved = self._last
        elif self._shift is not None and self._shift.any():
            moved = reading.position + self._shift
        self._guard.measured(moved, reading.velocity, stamp, entry.at.steady_s)

    def _propose(self, stamp: int, at: Moment) -> None:
        waiting = self._proposals.get(stamp)
        if not waiting:
            self._absent(Kind.PLAN, stamp)
            return
        plan = waiting.popleft()
        try:
            self._guard.propose(Proposal(plan.stamp_ns, plan.times, plan.positions, plan.velocities), at.ros_ns, at.steady_s)
        except PlanRejectedError:
            return

    def _arm(self, at: Moment) -> None:
        # Where the arm is put for an episode has nothing to do with where the last one led.
        self._shift = self._last = None
        try:
            if self._guard.state is State.STOPPED:
                self._guard.reset()
            self._guard.arm(at.steady_s, at.ros_ns)
        except GuardError:
            return

    def _look(self) -> None:
        if self._guard.set_point is not None:
            self._out.margins.append(self._around.lowest(self._guard.set_point)[0])

    def _note_state(self, entry: Entry) -> None:
        state = (self._guard.state.value, self._guard.reason)
        if entry.kind is Kind.CYCLE and (not self._out.states or self._out.states[-1][1:] != state):
            self._out.states.append((entry.what, *state))

    def _absent(self, kind: Kind, stamp: int) -> None:
        if stamp < self._recorded.start_ns:
            return  # a journal reaches back further than the recorder
        self._out.absent[kind.name] = self._out.absent.get(kind.name, 0) + 1


def _with_unheard(journal: Sequence[Entry], plans: Sequence[Proposed]) -> Iterator[Entry]:
    """The journal, and plans that the guard was never offered, because nobody made them then, at the time at which they would have left."""
    offered: dict[int, int] = {}
    for entry in journal:
        if entry.kind is Kind.PLAN:
            offered[entry.what] = offered.get(entry.what, 0) + 1
    fresh: list[tuple[float, int, int]] = []
    for plan in plans:
        stamp = plan.trajectory.stamp_ns
        offered[stamp] = offered.get(stamp, 0) - 1
        if offered[stamp] < 0:
            heapq.heappush(fresh, (plan.sent.steady_s, plan.sent.ros_ns, stamp))
    for entry in journal:
        while fresh and entry.kind is Kind.CYCLE and fresh[0][0] <= entry.at.steady_s:
            steady_s, ros_ns, stamp = heapq.heappop(fresh)
            yield Entry(Kind.PLAN, stamp, Moment(ros_ns, steady_s))
        yield entry


def _made_up(recorded: Recorded, plans: Sequence[Proposed]) -> Iterator[Entry]:
    """A journal of what the recorder received, for a bag that has none."""
    start = recorded.start_ns
    received = {stamp: deque(found) for stamp, found in by_stamp(recorded.plans).items()}
    rows: list[tuple[int, int, Kind, int]] = []
    # At the same time: what is heard, then the requests, then the cycle.
    rows += [(heard_ns(entry), 0, Kind.MEASURED, entry.stamp_ns) for entry in recorded.joints]
    rows += [(heard_ns(entry), 0, Kind.CAMERA, entry.stamp_ns) for entry in recorded.infos]
    rows += [(entry.time_ns, 0, Kind.PERCEPTION, entry.stamp_ns) for entry in recorded.latents]
    for plan in plans:
        waiting = received.get(plan.trajectory.stamp_ns)
        rows.append((waiting.popleft().time_ns if waiting else plan.sent.ros_ns, 0, Kind.PLAN, plan.trajectory.stamp_ns))
    played = {entry.stamp_ns // CYCLE_NS for entry in recorded.commands}
    for first, last in _rows_of_slots(recorded, plans):
        rows.append((_arming_ns(recorded, first), 1, Kind.ARM, 0))
        rows.append((stamp_of_slot(last), 1, Kind.STOP, 0))
        # A guard that was late left slots out, and did then what the time asked for.
        cycles = [slot for slot in range(first, last + _PAUSE_SLOTS) if slot in played or slot > last or not played]
        rows += [(stamp_of_slot(slot), 2, Kind.CYCLE, slot) for slot in cycles]
        rows += [(stamp_of_slot(slot), 1, Kind.LOOK, 0) for slot in range(first, last, _LOOK_EVERY)]
    for time_ns, _, kind, what in sorted(rows):
        yield Entry(kind, what, moment_of(time_ns, start))


def _arming_ns(recorded: Recorded, first: int) -> int:
    """When the guard was asked to arm that sent its first command in slot ``first``: before the joint state that this command repeats, or nearly."""
    begins = stamp_of_slot(first)
    command = next((entry.value for entry in recorded.commands if entry.stamp_ns == begins), None)
    near = [entry for entry in recorded.joints if 0 < begins - heard_ns(entry) < _ARM_AHEAD_NS]
    if command is None or not near:
        return begins - _ARM_AHEAD_NS
    gaps = np.array([float(np.abs(entry.value.position - command.positions[0]).max()) for entry in near])
    # The last of those that are as near: an arm that was put there a moment before was still moving at the first.
    return heard_ns(near[int(np.flatnonzero(gaps <= gaps.min() + _STOOD_RAD)[-1])]) - 1


def _rows_of_slots(recorded: Recorded, plans: Sequence[Proposed]) -> list[tuple[int, int]]:
    """The first and the last slot of each row of commands, or of plans where no command was recorded."""
    stamps = [entry.stamp_ns for entry in recorded.commands] or [plan.sent.ros_ns for plan in plans]
    pause = _PAUSE_SLOTS if recorded.commands else 10 * _PAUSE_SLOTS
    slots = sorted({stamp // CYCLE_NS for stamp in stamps})
    if not slots:
        return []
    breaks = [(a, b) for a, b in pairwise(slots) if b - a > pause]
    return list(zip([slots[0], *(b for _, b in breaks)], [*(a for a, _ in breaks), slots[-1]], strict=True))


def commands_as_trajectories(commands: Sequence[Command]) -> list[Timed]:
    """Commands as a controller receives them."""
    made = []
    for command in commands:
        sent = command.braking.sent()
        times = np.arange(1, len(sent.positions) + 1) * CYCLE_NS / 1e9
        stamp = stamp_of_slot(command.slot)
        made.append(Timed(stamp, stamp, Trajectory(stamp, times, sent.positions, sent.velocities, sent.accelerations)))
    return made


def recorded_counts(statuses: Sequence[Timed]) -> Mapping[str, int]:
    """What the recorded guard counted during the bag."""
    if not statuses:
        return {}
    names = ("cycles", "interventions", "filtered", "stops", "brakings", "rejected_plans")
    first, last = statuses[0].value, statuses[-1].value
    return {name: int(last.get(name, 0)) - int(first.get(name, 0)) for name in names}
