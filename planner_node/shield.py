"""The last line before the joints: every state that leaves has a jerk-limited stop inside the limits.

Each cycle Ruckig (Berscheid and Kroeger 2021) proposes a jerk-limited step towards the target. Ruckig itself does not keep position limits, so the
step is taken only if the jerk-limited stop that starts where it ends stays inside them. Otherwise the arm follows the stop that was promised with
the previous state, and that stop is inside the limits by the same argument: by induction there always is one.

What leaves is not a state but the whole stop, sampled, as a :class:`Braking`: a controller that hears nothing more brakes inside every limit, and
the next cycle starts from a point of it, whenever it comes. The executed motion is therefore jerk-limited whatever the scheduler does.

With :class:`~planner_node.surroundings.Surroundings` the induction also carries collision margins, the tool's workspace and its speed: a step is
taken only if the whole stop from it keeps them. Near obstacles a barrier filter bends the motion first, so that the arm slides along them.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import ceil, isfinite

import numpy as np
from numpy.typing import NDArray
from ruckig import ControlInterface, InputParameter, Result, Ruckig, RuckigError, Synchronization, Trajectory

from arm_model import JointLimits
from planner_node.surroundings import Surroundings

Vector = NDArray[np.float64]

# Ruckig's own results scatter around a limit by about 1e-12 of it.
_ROUNDING = 1e-9
# A target must be strictly inside the velocity and acceleration limits to count as reachable.
_INSIDE = 0.999


class ShieldError(ValueError):
    """A shield that cannot be set up or started, with the reason in one line."""


# A hold of one point is over 10 ms after its stamp: a controller that reads it later refuses it as one that ends in the past, and says so each time.
LEAST_SENT = 20


@dataclass(frozen=True)
class ShieldConfig:
    """``limits`` of J joints that every emitted sample keeps, and the time ``cycle_s`` between samples."""

    limits: JointLimits
    cycle_s: float = 0.01

    def __post_init__(self) -> None:
        if not 1e-4 <= self.cycle_s <= 0.1:
            raise ShieldError(f"cycle is {self.cycle_s} s, must lie in [0.0001, 0.1]")


@dataclass(frozen=True)
class Motion:
    """Joints at one instant: ``position (J,) rad``, ``velocity (J,) rad/s``, ``acceleration (J,) rad/s^2``, all float64."""

    position: Vector
    velocity: Vector
    acceleration: Vector


@dataclass(frozen=True)
class Braking:
    """A set point and the jerk-limited stop from it: N >= 1 samples, one cycle apart, the last at rest and standing for all time after it.

    ``positions (N, J) rad``, ``velocities (N, J) rad/s``, ``accelerations (N, J) rad/s^2``.
    """

    positions: Vector
    velocities: Vector
    accelerations: Vector

    def motion(self, cycles: int) -> Motion:
        """The state ``cycles`` cycles after the first sample."""
        index = min(cycles, len(self.positions) - 1)
        return Motion(self.positions[index], self.velocities[index], self.accelerations[index])

    def after(self, cycles: int) -> Braking:
        """What remains once ``cycles`` samples have passed."""
        first = min(cycles, len(self.positions) - 1)
        return Braking(self.positions[first:], self.velocities[first:], self.accelerations[first:])

    def sent(self) -> Braking:
        """The same for a controller: at least ``LEAST_SENT`` samples, the last repeated."""
        if len(self.positions) >= LEAST_SENT:
            return self
        rows = np.minimum(np.arange(LEAST_SENT), len(self.positions) - 1)
        return Braking(self.positions[rows], self.velocities[rows], self.accelerations[rows])

    @property
    def at_rest(self) -> bool:
        """Whether the set point itself is the end of the stop."""
        return len(self.positions) == 1


@dataclass(frozen=True)
class ShieldStep:
    """What to emit, and whether the shield had to brake instead of following its target (and why).

    ``filtered``: the barrier filter was asked; ``unanswered``: it had no answer, and the promised stop was followed.
    """

    braking: Braking
    intervened: bool = False
    reason: str = ""
    filtered: bool = False
    unanswered: bool = False


class Shield:
    """Follows moving targets inside ``limits``; holds no state besides its solvers' scratch space."""

    def __init__(self, config: ShieldConfig, surroundings: Surroundings | None = None) -> None:
        self.config = config
        self.surroundings = surroundings
        self.limits = config.limits
        # Between two samples inside these bounds no motion within the acceleration limit leaves the limits.
        slack = self.limits.acceleration * config.cycle_s**2 / 8.0
        self._lower = self.limits.lower + slack
        self._upper = self.limits.upper - slack
        self._fastest = _INSIDE * self.limits.velocity
        self._twice_jerk = 2.0 * self.limits.jerk
        # Between these, whatever the velocity, nothing of a target need be pulled back.
        highest = self._highest(self._fastest)
        self._well_below = np.concatenate([self._upper, self._fastest, highest])
        self._well_above = np.concatenate([self._lower, -self._fastest, -highest])
        self._tolerated = np.concatenate([self.limits.velocity, self.limits.velocity, self.limits.acceleration]) * (1.0 + _ROUNDING)
        joints = len(self.limits.names)
        self._planner = Ruckig(joints, config.cycle_s)
        self._track = self._input(joints)
        # Not to arrive before the next sample: otherwise a target that is met exactly would be overshot within the cycle.
        self._track.minimum_duration = config.cycle_s
        self._track_path = Trajectory(joints)
        self._stop = self._input(joints)
        self._stop.control_interface = ControlInterface.Velocity
        # Each joint stops as soon as it can.
        self._stop.synchronization = Synchronization.No
        self._stop.target_velocity = [0.0] * joints
        self._stop.target_acceleration = [0.0] * joints
        self._stop_path = Trajectory(joints)
        # Joints that stop together go on in the direction that they have: along an obstacle, where stopping one by one would lead into it.
        self._straight_stop = self._input(joints)
        self._straight_stop.control_interface = ControlInterface.Velocity
        self._straight_stop.synchronization = Synchronization.Phase
        self._straight_stop.target_velocity = [0.0] * joints
        self._straight_stop.target_acceleration = [0.0] * joints
        self._turn = self._input(joints)
        self._turn.control_interface = ControlInterface.Velocity
        # In the direction that the filter found, not each joint as fast as it can.
        self._turn.synchronization = Synchronization.Phase
        self._turn.target_acceleration = [0.0] * joints
        self._turn.minimum_duration = config.cycle_s
        self._turn_path = Trajectory(joints)

    def hold(self, position: Vector) -> Braking:
        """Stand at ``position (J,) rad``.

        Raises:
            ShieldError: it is not finite, lies outside the position limits, or is closer to something than its margin.
        """
        if position.shape != self.limits.lower.shape or not np.isfinite(position).all():
            raise ShieldError("position to hold has the wrong length or is not finite")
        outside = (position < self._lower) | (position > self._upper)
        if outside.any():
            joint = int(np.argmax(outside))
            name, low, high = self.limits.names[joint], self._lower[joint], self._upper[joint]
            raise ShieldError(f"joint '{name}' is at {position[joint]:.4f} rad, outside [{low:.4f}, {high:.4f}]")
        if self.surroundings is not None:
            margin, what = self.surroundings.lowest(position)
            if not margin >= 0.0:
                raise ShieldError(f"{what} are {-1e3 * margin:.1f} mm closer than their margin; move the arm away by hand")
        return self.standing(position)

    def standing(self, position: Vector) -> Braking:
        """At rest at ``position (J,) rad``, which nobody checks."""
        still = np.zeros((1, position.size))
        return Braking(position.reshape(1, -1).astype(np.float64), still, still)

    def stop_from(self, position: Vector, velocity: Vector) -> Braking:
        """The stop of an arm that went on unasked and is at ``position (J,) rad`` with ``velocity (J,) rad/s``.

        Within velocity, acceleration and jerk. Where it leads nobody has checked, and there is no other; after it the induction begins anew.
        """
        fastest = self.limits.velocity
        state = Motion(position, np.minimum(np.maximum(velocity, -fastest), fastest), np.zeros_like(position))
        _start_at(self._stop, state)
        return self._sampled_stop() if self._solve(self._stop, self._stop_path) else self.standing(position)

    def brake(self, published: Braking, cycles: int = 1) -> Braking:
        """The next set point when there is nothing to follow: the stop that was promised, ``cycles`` cycles on."""
        return published.after(cycles)

    def follow(self, published: Braking, cycles: int, target: Motion) -> ShieldStep:
        """The next set point towards ``target``, where the joints should be when it is due.

        ``published`` is what was emitted last, ``cycles >= 1`` how many cycles ago. The arm is now at ``published.motion(cycles - 1)``,
        because a controller that hears nothing follows the stop. A target beyond a limit is pulled back to it.
        """
        reachable = self._reachable(target)
        if reachable is None:
            return self._refused(published, cycles, "target is not finite")
        start = published.motion(cycles - 1)
        step = self._towards(start, reachable)
        if step is None:
            return self._refused(published, cycles, "no jerk-limited step to the target")
        filtered = False
        if self.surroundings is not None:
            steering = self.surroundings.steer(start.position, self._peak(step), reachable.position, reachable.velocity)
            if steering.blocked:
                return self._refused(published, cycles, steering.blocked, filtered=True, unanswered=True)
            if steering.velocity is not None:
                filtered, step = True, self._turned(start, steering.velocity)
                if step is None:
                    return self._refused(published, cycles, "no jerk-limited step past what is near", filtered=True)
        refusal = ""
        for manner in (self._stop, self._straight_stop) if filtered else (self._stop,):
            stop = self._safe_stop(step, manner)
            if stop is None:
                refusal = refusal or "the stop after the step would leave the position limits"
            elif self.surroundings is None:
                return ShieldStep(stop)
            else:
                found = self.surroundings.check.refuse(np.concatenate([start.position[None], stop.positions]))
                if not found:
                    return ShieldStep(stop, filtered=filtered)
                refusal = refusal or found
        return self._refused(published, cycles, refusal, filtered)

    def _refused(self, published: Braking, cycles: int, reason: str, filtered: bool = False, unanswered: bool = False) -> ShieldStep:
        """The stop that was promised, and why it is followed."""
        return ShieldStep(self.brake(published, cycles), intervened=True, reason=reason, filtered=filtered, unanswered=unanswered)

    def _peak(self, state: Motion) -> Vector:
        """The velocity that is reached while the acceleration of ``state`` dies out, or its own where that is higher."""
        peak = self._with_dying_acceleration(state)
        return np.where(np.abs(peak) > np.abs(state.velocity), peak, state.velocity)

    def _with_dying_acceleration(self, state: Motion) -> Vector:
        """The velocity when the acceleration of ``state`` has died out at the jerk limit."""
        velocity: Vector = state.velocity + state.acceleration * np.abs(state.acceleration) / self._twice_jerk
        return velocity

    def _reachable(self, target: Motion) -> Motion | None:
        """``target`` pulled back inside the limits, so that Ruckig accepts it; None where it is not finite."""
        wanted = np.concatenate([target.position, target.velocity, target.acceleration])
        if all(((wanted >= self._well_above) & (wanted <= self._well_below)).tolist()):
            return target
        if not all(map(isfinite, wanted.tolist())):
            return None
        # Not np.clip, which takes three times as long on a handful of numbers.
        position = np.minimum(np.maximum(target.position, self._lower), self._upper)
        fastest = self._fastest
        velocity = np.minimum(np.maximum(target.velocity, -fastest), fastest)
        # At a limit of position there is nowhere to go on to.
        inside = position == target.position
        velocity = np.where(inside, velocity, 0.0)
        # Acceleration must die out at the jerk limit before the velocity limit is passed.
        highest = self._highest(np.abs(velocity))
        acceleration = np.where(inside, np.minimum(np.maximum(target.acceleration, -highest), highest), 0.0)
        return Motion(position, velocity, acceleration)

    def _highest(self, speed: Vector) -> Vector:
        """The acceleration from which the velocity limit is not passed, at ``speed (J,) rad/s``."""
        highest: Vector = np.minimum(_INSIDE * self.limits.acceleration, np.sqrt(self._twice_jerk * (self.limits.velocity - speed)))
        return highest

    def _towards(self, state: Motion, target: Motion) -> Motion | None:
        """One cycle along the time-optimal way from ``state`` to ``target``."""
        inputs = self._track
        _start_at(inputs, state)
        inputs.target_position = target.position.tolist()
        inputs.target_velocity = target.velocity.tolist()
        inputs.target_acceleration = target.acceleration.tolist()
        if not self._solve(inputs, self._track_path):
            return None
        return self._after_one_cycle(self._track_path)

    def _turned(self, state: Motion, velocity: Vector) -> Motion | None:
        """One cycle from ``state`` towards moving at ``velocity (J,) rad/s``."""
        inputs = self._turn
        _start_at(inputs, state)
        inputs.target_velocity = np.minimum(np.maximum(velocity, -self._fastest), self._fastest).tolist()
        return self._after_one_cycle(self._turn_path) if self._solve(inputs, self._turn_path) else None

    def _after_one_cycle(self, path: Trajectory) -> Motion | None:
        position, velocity, acceleration = path.at_time(self.config.cycle_s)
        return Motion(np.array(position), np.array(velocity), np.array(acceleration)) if all(map(isfinite, position)) else None

    def _safe_stop(self, state: Motion, manner: InputParameter) -> Braking | None:
        """The sampled stop from ``state`` in one manner of stopping, or None if it does not stay inside every limit."""
        reached = np.concatenate([state.velocity, self._with_dying_acceleration(state), state.acceleration])
        if any((np.abs(reached) > self._tolerated).tolist()):
            return None
        _start_at(manner, state)
        if not self._solve(manner, self._stop_path):
            return None
        stop = self._sampled_stop()
        # Not Ruckig's own position_extrema: with a velocity interface they always contain 0 rad, as if every stop passed there.
        if np.count_nonzero((stop.positions < self._lower) | (stop.positions > self._upper)):
            return None
        return stop

    def _sampled_stop(self) -> Braking:
        path, cycle = self._stop_path, self.config.cycle_s
        # Rounding must not add a sample when the stop ends on the grid.
        last = ceil(path.duration / cycle - 1e-6)
        # An array.array takes lists over several times as fast as numpy takes nested ones.
        flat = array("d")
        for index in range(last + 1):
            for part in path.at_time(index * cycle):
                flat.fromlist(part)
        samples = np.frombuffer(flat).reshape(last + 1, 3, -1)
        # Past its end the path is at rest only up to rounding.
        samples[last, 1:] = 0.0
        return Braking(samples[:, 0], samples[:, 1], samples[:, 2])

    def _solve(self, inputs: InputParameter, path: Trajectory) -> bool:
        try:
            return self._planner.calculate(inputs, path) in (Result.Working, Result.Finished)
        except RuckigError:
            # Its root finding fails for about one in 20,000 contrived states; there is always a stop to fall back to.
            return False

    def _input(self, joints: int) -> InputParameter:
        inputs = InputParameter(joints)
        inputs.max_velocity = self.limits.velocity.tolist()
        inputs.max_acceleration = self.limits.acceleration.tolist()
        inputs.max_jerk = self.limits.jerk.tolist()
        return inputs


def _start_at(inputs: InputParameter, state: Motion) -> None:
    inputs.current_position = state.position.tolist()
    inputs.current_velocity = state.velocity.tolist()
    inputs.current_acceleration = state.acceleration.tolist()
