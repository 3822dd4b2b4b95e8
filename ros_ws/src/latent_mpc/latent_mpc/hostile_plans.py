"""Plans of a planner that wants to break the arm, as the messages that it would send."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory

from arm_model import JointLimits
from ros_bridge.joints import Trajectory, trajectory_message
from ros_bridge.stamps import header_at

F64 = NDArray[np.float64]
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Situation:
    """What the planner knows: its joints are at ``position (J,) rad`` at ``ros_ns``; ``colliding (C, J)`` are postures in which something touches."""

    names: tuple[str, ...]
    limits: JointLimits
    colliding: F64
    position: F64
    ros_ns: int
    call: int


Attack = Callable[[Situation, np.random.Generator], JointTrajectory]


def wandering(now: Situation, rng: np.random.Generator) -> JointTrajectory:
    """Points all about, with velocities that have nothing to do with them."""
    points = int(rng.integers(1, 8))
    positions = now.position + np.cumsum(rng.normal(0.0, 0.3, (points, len(now.names))), axis=0)
    return _message(now, _times(points, rng), positions, rng.normal(0.0, 1.5, positions.shape))


def extreme(now: Situation, rng: np.random.Generator) -> JointTrajectory:
    """At the limits, beyond them, or beyond everything, at full speed outwards; for a while in one direction, so that the arm gets there."""
    points, limits = int(rng.integers(1, 5)), now.limits
    shape = (points, len(now.names))
    outward = np.tile(np.random.default_rng(now.call // 60).choice([-1.0, 1.0], shape[1]), (points, 1))
    positions = np.where(outward > 0, limits.upper, limits.lower) + outward * rng.choice([0.0, -1e-3, 1.0, 1e3])
    velocities = outward * limits.velocity * rng.choice([1.0, 10.0, 1e6])
    scale = float(rng.choice([1.0, 1.0, 1.0, 1e300]))
    return _message(now, _times(points, rng), positions * scale, velocities)


def colliding(now: Situation, rng: np.random.Generator) -> JointTrajectory:
    """Straight into something, and not slowing down."""
    target = now.colliding[(now.call // 30) % len(now.colliding)]
    seconds = float(rng.uniform(0.1, 1.0))
    times: F64 = np.linspace(0.0, seconds, 6, dtype=np.float64)
    positions = now.position + np.outer(times / seconds, target - now.position)
    return _message(now, times, positions, np.tile((target - now.position) / seconds, (6, 1)))


def jumping(now: Situation, rng: np.random.Generator) -> JointTrajectory:
    """One end of every joint, then the other, from one plan to the next."""
    limits = now.limits
    position = np.where(np.random.default_rng(now.call // 20).random(len(now.names)) < 0.5, limits.lower, limits.upper)
    position = position if rng.random() < 0.7 else now.limits.lower + now.limits.upper - position
    return _message(now, np.array([0.0]), position.reshape(1, -1), np.zeros((1, len(now.names))))


def non_finite(now: Situation, rng: np.random.Generator) -> JointTrajectory:
    """A NaN or an infinity somewhere."""
    msg = wandering(now, rng)
    point = msg.points[int(rng.integers(len(msg.points)))]
    values = point.positions if rng.random() < 0.5 else point.velocities
    values[int(rng.integers(len(values)))] = float(rng.choice([np.nan, np.inf, -np.inf]))
    return msg


def reversed_time(now: Situation, rng: np.random.Generator) -> JointTrajectory:
    """Times that run backwards or stand still, or a plan from the past or the future."""
    msg = wandering(now, rng)
    if rng.random() < 0.5:
        msg.header = header_at(now.ros_ns + int(rng.normal(0.0, 1e9)))
    elif len(msg.points) > 1:
        msg.points.reverse()
    else:
        msg.points.append(msg.points[0])
    return msg


def malformed(now: Situation, rng: np.random.Generator) -> JointTrajectory:
    """Names that are missing, unknown or given twice, rows of the wrong length, no rows."""
    msg = wandering(now, rng)
    match int(rng.integers(6)):
        case 0:
            msg.points[-1].positions = array("d", rng.normal(size=int(rng.integers(0, len(now.names)))))
        case 1:
            msg.points[0].velocities = array("d", rng.normal(size=len(now.names) + 1))
        case 2:
            msg.joint_names = [*now.names[:-1], now.names[0]]
        case 3:
            msg.joint_names = [*now.names[:-1], "elbow"]
        case 4:
            msg.joint_names = list(now.names[:-1])
        case _:
            msg.points = []
    return msg


def shuffled(now: Situation, rng: np.random.Generator) -> JointTrajectory:
    """Rightly named, in another order: permitted, and to be sorted out."""
    msg = colliding(now, rng)
    order = rng.permutation(len(now.names)).tolist()
    msg.joint_names = [now.names[index] for index in order]
    for point in msg.points:
        point.positions = array("d", [point.positions[index] for index in order])
        point.velocities = array("d", [point.velocities[index] for index in order])
    return msg


ATTACKS: dict[str, Attack] = {
    "wandering": wandering,
    "extreme": extreme,
    "colliding": colliding,
    "jumping": jumping,
    "non-finite": non_finite,
    "reversed time": reversed_time,
    "malformed": malformed,
    "shuffled": shuffled,
}


def _times(points: int, rng: np.random.Generator) -> F64:
    times: F64 = np.cumsum(rng.uniform(0.01, 0.3, points)) - 0.01
    return times


def _message(now: Situation, times: F64, positions: F64, velocities: F64) -> JointTrajectory:
    return trajectory_message(Trajectory(now.ros_ns, times, positions, velocities), now.names)
