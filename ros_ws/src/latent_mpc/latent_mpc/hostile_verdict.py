"""Judging a stream of set points: finite differences against the URDF, and PyBullet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arm_model import ArmDescription, CollisionModel, Scene
from arm_model.reach import Reach
from latent_mpc.check_bag import KINDS, STEP_S, differences
from latent_mpc.oracle import FAR_M, ROUNDING_M, Oracle
from latent_mpc.urdf_limits import CheckError, UrdfLimits, read_urdf_limits
from planner_node.workspace import Workspace

F64 = NDArray[np.float64]
# Third differences of doubles over (10 ms)^3 are good to about 1e-9 of an arm's limits; lengths that two programs compute, to about a micrometre.
_RELATIVE = 1e-4
_POSITION_RAD = 1e-9
_LENGTH_M = 1e-5
# Rows of rest put before a stream, so that its first step counts as motion.
_BEFORE = 3


class Asked(Protocol):
    """What the guard had to keep."""

    @property
    def collision_margin_m(self) -> float: ...  # noqa: D102
    @property
    def tool_speed(self) -> float: ...  # noqa: D102
    @property
    def every_point(self) -> bool: ...  # noqa: D102


@dataclass
class Verdict:
    """Violations by kind, the worst of each in words, pairs that the oracle measured, and how far the joints went together."""

    violations: dict[str, int] = field(default_factory=dict)
    worst: dict[str, str] = field(default_factory=dict)
    measured_pairs: int = 0
    joint_travel_rad: float = 0.0


def judge(asked: Asked, arm: ArmDescription, scene: Scene, workspace: Workspace, stream: F64, promises: list[F64]) -> Verdict:
    """Judge ``stream (T, J) rad``, one set point every 10 ms, and ``promises``: stops ``(N, J)`` that would have been followed in silence.

    The arm stands before the first set point. Distances count as too small when the oracle, less its rounding, finds them so.
    """
    verdict = Verdict()
    limits = _limits(arm)
    padded = np.concatenate([np.repeat(stream[:1], _BEFORE, axis=0), stream])
    _judge_motion(verdict, limits, padded, promises)
    verdict.joint_travel_rad = float(np.abs(np.diff(stream, axis=0)).sum())
    oracle = Oracle(arm, scene)
    try:
        _judge_places(verdict, asked, arm, scene, workspace, oracle, stream, [promise[-1] for promise in promises])
    finally:
        oracle.close()
    return verdict


def _limits(arm: ArmDescription) -> UrdfLimits:
    """The URDF's limits, parsed again; where it lacks one, those of the arm's description, which then are the only ones."""
    try:
        return read_urdf_limits(arm.urdf, arm.joints)
    except CheckError:
        given = arm.limits
        return UrdfLimits(arm.joints, given.lower, given.upper, given.velocity, given.acceleration, given.jerk)


def _judge_motion(verdict: Verdict, limits: UrdfLimits, stream: F64, promises: list[F64]) -> None:
    verdict.violations["non_finite"] = int((~np.isfinite(stream)).sum())
    # A promise is followed from where the arm is: its first row. What the arm does before is the stream's business.
    paths = [stream[_BEFORE:], *(np.concatenate([promise, np.repeat(promise[-1:], 3, axis=0)]) for promise in promises)]
    verdict.violations["position"] = sum(int(((path < limits.lower - _POSITION_RAD) | (path > limits.upper + _POSITION_RAD)).sum()) for path in paths)
    verdict.worst["position"] = f"{float(np.minimum(stream - limits.lower, limits.upper - stream).min()):.2g} rad inside"
    paths[0] = stream
    for kind in KINDS[1:]:
        shares = [np.abs(differences(path, kind)) / limits.of(kind) for path in paths]
        verdict.violations[kind] = sum(int((share > 1.0 + _RELATIVE).sum()) for share in shares)
        verdict.worst[kind] = f"{100 * max(float(share.max(initial=0.0)) for share in shares):.4g} % of the limit"


def _judge_places(
    verdict: Verdict, asked: Asked, arm: ArmDescription, scene: Scene, workspace: Workspace, oracle: Oracle, stream: F64, ends: list[F64]
) -> None:
    pairs = np.array(CollisionModel(arm, scene).pairs)
    reach = Reach(arm).of_pairs([(first, second) for first, second in pairs.tolist()])
    with_scene = np.isin(pairs[:, 1], [obstacle.name for obstacle in scene.obstacles])
    limit = asked.collision_margin_m - ROUNDING_M
    closest = np.full(len(pairs), FAR_M)
    bad = np.zeros(len(pairs), dtype=np.int64)
    known_at, known = np.tile(stream[0], (len(pairs), 1)), np.full(len(pairs), -np.inf)
    tools, worst_inside, outside = [], np.inf, 0
    for index, q in enumerate([*stream, *ends]):
        oracle.stand(q)
        # What was measured at another posture says that a pair is still far enough, as far as joints can have carried it.
        doubtful = np.full(len(pairs), True) if asked.every_point else known - (reach * np.abs(q - known_at)).sum(axis=1) < limit
        which = np.flatnonzero(doubtful)
        if which.size:
            found = oracle.distances([(first, second) for first, second in pairs[which].tolist()])
            verdict.measured_pairs += which.size
            known[which], known_at[which] = found, q
            closest[which] = np.minimum(closest[which], found)
            bad[which] += found < limit
        tool = oracle.tool_point()
        if index < len(stream):
            tools.append(tool)
        if workspace.names:
            inside = float(workspace.margins(tool).min())
            worst_inside = min(worst_inside, inside)
            outside += inside < -_LENGTH_M
    verdict.violations["self_collision"] = int(bad[~with_scene].sum())
    verdict.violations["scene"] = int(bad[with_scene].sum())
    for kind, those in (("self_collision", ~with_scene), ("scene", with_scene)):
        if those.any():
            first, second = pairs[those][int(np.argmin(closest[those]))]
            verdict.worst[kind] = (
                f"{1e3 * (float(closest[those].min()) + ROUNDING_M - asked.collision_margin_m):.1f} mm above the margin, {first} and {second}"
            )
    verdict.violations["workspace"] = outside
    verdict.worst["workspace"] = f"{1e3 * worst_inside:.2f} mm inside" if workspace.names else "none given"
    speeds = np.linalg.norm(np.diff(np.array(tools), axis=0), axis=1) / STEP_S
    most = asked.tool_speed * (1.0 + _RELATIVE) if asked.tool_speed > 0 else np.inf
    verdict.violations["tool_speed"] = int((speeds > most).sum())
    verdict.worst["tool_speed"] = f"{float(speeds.max(initial=0.0)):.3f} m/s" + (
        f" of {asked.tool_speed} m/s" if asked.tool_speed > 0 else ", no limit"
    )
