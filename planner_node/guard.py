"""What the guardrail does in each cycle: arm, hold, track, brake, stop. No ROS, no clock: time comes in as arguments."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from planner_node.grid import stamp_of_slot
from planner_node.measured import NOTHING_TO_ARM_AT, RECENT_S, STANDING_RAD, STILL_MOVES, MeasuredJoints, Taken
from planner_node.plan_gate import PlanGate, Proposal
from planner_node.shield import Braking, Motion, Shield, ShieldError
from planner_node.staleness import Staleness, StalenessConfig


class GuardError(ValueError):
    """A request that the guard refuses in its state, with the reason in one line."""


class State(Enum):
    """What the guard is doing; the value is what ``/guardrail/status`` says."""

    DISARMED = "DISARMED"
    HOLDING = "HOLDING"
    TRACKING = "TRACKING"
    BRAKING = "BRAKING"
    STOPPED = "STOPPED"


class Unheard(Enum):
    """What a controller does that hears nothing more: follow the stop that it was sent, go on at the last velocity, stand at the last position."""

    BRAKES = "trajectory"
    GOES_ON = "velocity"
    STANDS = "position"


@dataclass(frozen=True)
class GuardConfig:
    """How much the guard puts up with.

    - ``joint_timeout_s``: silence of the joint states after which it brakes.
    - ``tracking_tolerance_rad``, ``tracking_cycles``: measured joints that far from their command, for that many cycles in a row, mean a stop;
      cycles that were missed count.
    - ``jump_rad``: what two joint states may differ by, besides what commands and twice the velocity limits explain, before the arm counts as put
      elsewhere: a stop.
    - ``arm_velocity``: rad/s below which an arm counts as standing, so that the guard may arm.
    - ``arm_timeout_s``: how long an arm request waits for a joint state.
    - ``missed_after_s``: time between two cycles above which the later one counts as missed.
    - ``auto_arm``: arm without being asked.
    - ``unheard``: where the arm is after cycles that were missed.
    """

    joint_timeout_s: float = 0.038
    tracking_tolerance_rad: float = 0.15
    tracking_cycles: int = 10
    jump_rad: float = 0.05
    arm_velocity: float = 0.05
    missed_after_s: float = 0.02
    arm_timeout_s: float = 0.5
    auto_arm: bool = False
    unheard: Unheard = Unheard.BRAKES


@dataclass(frozen=True)
class Command:
    """What to send in one cycle: ``braking`` sampled from slot ``slot + 1`` on, reached from ``start``, where the arm is at ``slot``.

    ``new_plan_stamp_ns`` is the stamp of a plan that takes effect with this command, None when the plan is not new or there is none.
    """

    slot: int
    start: Motion
    braking: Braking
    new_plan_stamp_ns: int | None = None


@dataclass
class Counts:
    """What happened since the start, for the status.

    ``interventions``: cycles that followed the promised stop instead of the plan; ``filtered``: cycles in which the barrier filter was asked,
    ``unanswered``: those in which it had no answer.
    """

    cycles: int = 0
    interventions: int = 0
    filtered: int = 0
    unanswered: int = 0
    missed_cycles: int = 0
    stops: int = 0
    brakings: int = 0


class Guard:
    """The state machine between plans and joints.

    The arm is where the last published braking trajectory says, because a controller that hears nothing follows it: a cycle in slot ``n`` starts
    from the sample of that trajectory for slot ``n``, however late it comes, and publishes its successor from slot ``n + 1`` on.
    A controller that was sent no trajectory does something else meanwhile, see :class:`Unheard`; then the cycle starts from where that leads.
    """

    def __init__(self, config: GuardConfig, shield: Shield, gate: PlanGate, streams: Staleness | None = None) -> None:
        self.config = config
        self.streams = streams or Staleness(StalenessConfig())
        self.counts = Counts()
        self.state = State.DISARMED
        self.reason = "not armed"
        self._shield = shield
        self._gate = gate
        self._published: Braking | None = None
        self._slot: int | None = None
        self._ending: State | None = None
        self._arm_deadline_s: float | None = None
        self._asked_ns = 0
        self.obstacle = ""
        self.planner_gone = ""
        self.joints = MeasuredJoints()
        self._start: Motion | None = None
        self._set_point_then: NDArray[np.float64] | None = None
        self._cycle_s: float | None = None
        self._far_cycles = 0
        self._plan_in_effect: Proposal | None = None

    @property
    def arming(self) -> bool:
        """Whether an arm request waits for the next joint state."""
        return self._arm_deadline_s is not None

    def arm(self, steady_s: float, ros_ns: int = 0) -> None:
        """Ask to arm at ``ros_ns`` ROS time: done by the next joint state, so that what was measured before a reset of the arm is never used.

        Raises:
            GuardError: the guard is not DISARMED, or something forbids motion.
        """
        if self.state is not State.DISARMED:
            raise GuardError(f"cannot arm while {self.state.value}")
        if self.obstacle:
            raise GuardError(f"cannot arm: {self.obstacle}")
        self._arm_deadline_s, self._asked_ns = steady_s + self.config.arm_timeout_s, ros_ns

    def stop(self, reason: str) -> None:
        """Brake to rest and latch. While disarmed there is nothing to brake, but it latches all the same."""
        self._latch(State.STOPPED, reason)

    def reset(self) -> None:
        """Release the latch of a stopped guard; it is then DISARMED.

        Raises:
            GuardError: the arm still brakes, or is in operation.
        """
        if self.state is State.DISARMED:
            return
        if self.state is not State.STOPPED:
            raise GuardError(f"cannot reset while {self.state.value}")
        self.state = State.DISARMED
        self.reason = "not armed"

    def finish(self, reason: str) -> None:
        """Brake to rest and be DISARMED then, without a latch: the process is about to end, or to be deactivated."""
        self._latch(State.DISARMED, reason)

    @property
    def set_point(self) -> NDArray[np.float64] | None:
        """Where the joints were last told to be ``(J,) rad``; None while nothing is sent."""
        return None if self._published is None else self._published.positions[0]

    @property
    def cycles_to_rest(self) -> int:
        """How many samples the promised stop still has; 0 while nothing is sent."""
        return 0 if self._published is None else len(self._published.positions)

    @property
    def silent(self) -> bool:
        """Whether nothing would be sent: disarmed or stopped, and at rest."""
        return self._published is None

    def disarm(self, reason: str) -> None:
        """Fall silent at once: nothing that is computed would be sent. The arm follows the braking trajectory that it has."""
        if self._stopping:
            self.state = State.STOPPED
        else:
            self.state = State.DISARMED
            self.reason = reason
        self._published = self._slot = self._ending = self._arm_deadline_s = None
        self._gate.clear()

    def forbid(self, reason: str) -> None:
        """Hold, after braking, for as long as ``reason`` is not empty."""
        self.obstacle = reason

    def clock_jumped(self, slots: int) -> None:
        """ROS time was set by ``slots`` slots: what was planned in the old time is void. Brake, then disarm."""
        if self._slot is not None:
            self._slot += slots
        self._gate.clear()
        self.streams.forget_stamps()
        self.joints.forget_stamps()
        self._latch(State.DISARMED, "ROS time jumped")

    def lose_planner(self, reason: str) -> None:
        """Whoever plans is gone: brake at once, and follow nothing of what it planned, for as long as ``reason`` is not empty and no plan comes."""
        self.planner_gone = reason
        if reason:
            self._gate.drop()

    def propose(self, plan: Proposal, ros_ns: int, steady_s: float) -> None:
        """Offer ``plan``, received at ``ros_ns`` ROS time and ``steady_s`` on the steady clock, to the gate.

        Raises:
            PlanRejectedError: the gate refuses it, or a stream that plans are made from has fallen silent: then the plan in force is held. Counted.
        """
        self.planner_gone = ""
        held = self.streams.held(steady_s)
        if held:
            raise self._gate.reject(held)
        self._gate.offer(plan, ros_ns, steady_s)

    def measured(self, position: NDArray[np.float64], velocity: NDArray[np.float64] | None, stamp_ns: int, steady_s: float) -> None:
        """Take in joints ``position (J,) rad`` and ``velocity (J,) rad/s`` measured at ``stamp_ns``, received at ``steady_s``.

        Which of them count is for :class:`MeasuredJoints` to say. Without ``velocity`` an arm that is to be armed stands when two joint states in a
        row say so.
        """
        taken = self.joints.take(position, stamp_ns, steady_s)
        if taken is None:
            return
        if taken.new_time and self._published is not None:
            self._latch(State.DISARMED, "joint states are stamped in another time than before")
        led = self._led()
        self._set_point_then = self.set_point
        jump = self._jump(taken, led)
        if jump and self._published is not None:
            self.stop(jump)
        # One joint state that lies elsewhere than the one before may be a wrong one: the next tells, whatever velocity the driver sends.
        if self.arming and not jump and (velocity is None or float(np.abs(taken.change).max()) <= STANDING_RAD):
            if velocity is None and 0.0 < taken.seconds <= RECENT_S:
                velocity = taken.change / taken.seconds
            if velocity is not None:
                self._arm_at(position, velocity, stamp_ns)

    def cycle(self, slot: int, steady_s: float) -> Command | None:
        """The command of one cycle in ``slot`` of the grid, or None when there is nothing to send."""
        self._count_missed(steady_s)
        if self._arm_deadline_s is not None and steady_s > self._arm_deadline_s:
            self._arm_deadline_s = None
            self.reason = f"{NOTHING_TO_ARM_AT}: {self.joints.heard(steady_s)}"
        if self.config.auto_arm and self.state is State.DISARMED and not self.arming and not self.obstacle:
            self.arm(steady_s, stamp_of_slot(slot))
        published, first = self._published, self._slot is None
        elapsed = 1 if self._slot is None else slot - self._slot
        if published is None or elapsed < 1:
            return None
        missed = elapsed - 1
        if missed and self.config.unheard is not Unheard.BRAKES:
            published, elapsed = self._meanwhile(published, missed), 1
        start = published.motion(elapsed - 1)
        self._check_tracking(start, steady_s, missed)
        obstacle = self._why_not_to_move(steady_s)
        if obstacle:
            # What was planned before the arm was made to stop must not move it afterwards.
            self._gate.drop()
        # The first command after arming repeats the measured joints, whatever a plan says.
        target = None if obstacle or first else self._gate.target(stamp_of_slot(slot + 1), steady_s)
        new_plan_stamp_ns = None
        if target is not None:
            braking = self._follow(published, elapsed, target)
            new_plan_stamp_ns = self._new_plan_stamp_ns()
            self.reason = self.reason or self.streams.held(steady_s)
        else:
            braking = self._brake(published, elapsed, obstacle)
        self._slot, self._published, self._start = slot, braking, start
        self.counts.cycles += 1
        if self.state is self._ending:
            self._published = self._slot = self._ending = None
        return Command(slot, start, braking, new_plan_stamp_ns)

    def _meanwhile(self, published: Braking, missed: int) -> Braking:
        """Where the last command led a controller that has no stop, ``missed`` cycles after the next was due, and the stop from there."""
        last = published.motion(0)
        if self.config.unheard is Unheard.STANDS or self._start is None:
            return self._shield.standing(last.position)
        step = last.position - self._start.position
        return self._shield.stop_from(last.position + missed * step, step / self._shield.config.cycle_s)

    def _follow(self, published: Braking, elapsed: int, target: Motion) -> Braking:
        step = self._shield.follow(published, elapsed, target)
        self.state = State.TRACKING
        self.reason = step.reason
        self.counts.interventions += step.intervened
        self.counts.filtered += step.filtered
        self.counts.unanswered += step.unanswered
        return step.braking

    def _brake(self, published: Braking, elapsed: int, obstacle: str) -> Braking:
        braking = self._shield.brake(published, elapsed)
        reason = obstacle or self._gate.expired
        if braking.at_rest and published.after(elapsed - 1).at_rest:
            # At rest at both ends of the cycle, so that a velocity controller has heard a zero before the guard falls silent.
            self.state = self._ending or State.HOLDING
        elif self.state is not State.BRAKING:
            self.counts.brakings += 1
            self.state = State.BRAKING
        self.reason = reason
        return braking

    def _new_plan_stamp_ns(self) -> int | None:
        plan = self._gate.plan
        if plan is None or plan is self._plan_in_effect:
            return None
        self._plan_in_effect = plan
        return plan.stamp_ns

    @property
    def _stopping(self) -> bool:
        return State.STOPPED in (self._ending, self.state)

    def _latch(self, ending: State, reason: str) -> None:
        """Brake to rest, then stay in ``ending``. The first reason for a stop is the one that is kept."""
        self._arm_deadline_s = None
        if self._stopping:
            return
        self.reason = reason
        self.counts.stops += ending is State.STOPPED
        if self._published is None:
            self.state = ending
        else:
            self._ending = ending

    def _arm_at(self, position: NDArray[np.float64], velocity: NDArray[np.float64], stamp_ns: int) -> None:
        self._arm_deadline_s = None
        if float(np.abs(velocity).max()) > self.config.arm_velocity:
            self.reason = f"{STILL_MOVES} at {float(np.abs(velocity).max()):.3f} rad/s"
            return
        try:
            self._published = self._shield.hold(position)
        except ShieldError as error:
            self.reason = f"cannot arm: {error}"
            return
        self._slot = self._ending = None
        # A plan made from a frame that shows the arm before it was armed, perhaps elsewhere, must not move it. Some drivers do not stamp.
        self._gate.clear(since_ns=max(stamp_ns, self._asked_ns))
        # One stamp from the far future would otherwise make a stream silent for ever.
        self.streams.forget_stamps()
        self._far_cycles = 0
        self.state = State.HOLDING
        self.reason = ""

    def _why_not_to_move(self, steady_s: float) -> str:
        if self._ending is not None:
            return self.reason
        if steady_s - self.joints.heard_s > self.config.joint_timeout_s:
            return f"no joint states for {1e3 * self.config.joint_timeout_s:.0f} ms"
        return self.obstacle or self.planner_gone or self.streams.stopped(steady_s)

    def _check_tracking(self, commanded: Motion, steady_s: float, missed: int) -> None:
        if self.joints.position is None or self._ending is not None or steady_s - self.joints.heard_s > self.config.joint_timeout_s:
            return
        error = np.abs(self.joints.position - commanded.position)
        if error.max() <= self.config.tracking_tolerance_rad:
            self._far_cycles = 0
            return
        # In the time of cycles that were missed the arm was far too, unless it has only become so.
        self._far_cycles += 1 + (missed if self._far_cycles else 0)
        if self._far_cycles >= self.config.tracking_cycles:
            joint = int(np.argmax(error))
            self._far_cycles = 0
            self.stop(f"joint '{self._shield.limits.names[joint]}' is {error[joint]:.3f} rad away from its command")

    def _led(self) -> NDArray[np.float64]:
        """How far commands can have led the joints since the last joint state, ``(J,) rad``: what was sent since, and the stop behind it."""
        if self._published is None or self._set_point_then is None:
            return np.zeros(len(self._shield.limits.names))
        points = self._published.positions
        led: NDArray[np.float64] = np.abs(points[0] - self._set_point_then) + np.abs(points[-1] - points[0])
        return led

    def _jump(self, taken: Taken, led: NDArray[np.float64]) -> str:
        """No arm gets that far in that time: somebody set up the scene anew, or the driver lies. What was planned there means nothing here.

        While commands are sent more time excuses no more than the time-out does, after which the arm is braked.
        """
        change = taken.change
        most = taken.seconds if self._published is None else min(taken.seconds, self.config.joint_timeout_s)
        allowed = self.config.jump_rad + 2.0 * self._shield.limits.velocity * most + led
        joint = int(np.argmax(np.abs(change) - allowed))
        if abs(change[joint]) <= allowed[joint]:
            return ""
        return f"joint '{self._shield.limits.names[joint]}' jumped by {change[joint]:.3f} rad from one joint state to the next"

    def _count_missed(self, steady_s: float) -> None:
        if self._cycle_s is not None and self._published is not None and steady_s - self._cycle_s > self.config.missed_after_s:
            self.counts.missed_cycles += 1
        self._cycle_s = steady_s
