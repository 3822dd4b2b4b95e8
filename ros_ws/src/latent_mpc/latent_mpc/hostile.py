"""The guard against a planner that wants to break the arm, without DDS: what would be published, judged by other means than its own.

Velocity, acceleration and jerk come from the commanded positions by finite differences, against limits that are parsed from the URDF again; distances
and the tool point come from PyBullet. The guard is given the whole of the URDF's limits, so that they bind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm_model import ArmDescription, CollisionModel, Scene, load_arm, read_scene
from arm_model.tool_frame import ToolFrame
from latent_mpc.hostile_plans import ATTACKS, Situation
from latent_mpc.hostile_verdict import judge
from latent_mpc.markdown_table import markdown_table
from planner_node.grid import CYCLE_NS
from planner_node.guard import Guard, GuardConfig, State
from planner_node.plan_gate import PlanGate, PlanGateConfig, PlanRejectedError, Proposal
from planner_node.shield import Shield, ShieldConfig
from planner_node.surroundings import SurroundingsConfig, surroundings_of
from planner_node.workspace import Workspace, read_workspace
from ros_bridge.joints import JointError, read_trajectory

F64 = NDArray[np.float64]
CYCLE_S = CYCLE_NS * 1e-9
_FIRST_SLOT = 170_000_000_000
_TIMINGS = ("in time", "late", "dropped")
_COLLIDING = 40
_MOST_DRAWN = 20_000


class HostileError(ValueError):
    """A trial that cannot be run, with the reason in one line."""


@dataclass(frozen=True)
class HostileConfig:
    """``cycles`` cycles of the guard of ``robot`` amid ``scene`` (YAML or a file).

    Half of them are confined: the tool inside ``workspace`` (YAML; None: a box about its home) and no faster than ``tool_speed`` m/s; the other half
    are free, so that the limits of the joints bind. ``share`` of the velocity, acceleration and jerk limits is what the guard may use.
    ``every_point``: have the oracle measure every pair at every set point, instead of only where what it measured before does not reach.
    """

    robot: str = "panda_stick"
    cycles: int = 100_000
    seed: int = 0
    scene: str = ""
    workspace: str | None = None
    collision_margin_m: float = 0.01
    tool_speed: float = 0.5
    share: float = 1.0
    every_point: bool = False

    def __post_init__(self) -> None:
        if self.cycles < 1:
            raise HostileError(f"cycles is {self.cycles}, must be at least 1")
        if self.seed < 0:
            raise HostileError(f"seed is {self.seed}, must be at least 0")
        for name, value in (("margin", self.collision_margin_m), ("tool speed", self.tool_speed)):
            if not 0.0 <= value < float("inf"):
                raise HostileError(f"{name} is {value}, must be at least 0 and finite")


@dataclass
class Trial:
    """What was published: joints ``stream (T, J)`` slot by slot as a controller passes through them, and some of the promised stops ``(N, J)``."""

    stream: list[F64] = field(default_factory=list)
    promises: list[F64] = field(default_factory=list)
    non_finite: int = 0


def run_hostile(config: HostileConfig, report: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Run the trials and judge them; see ``table`` for what comes out.

    Raises:
        HostileError: the arm's home is closer to something than the margin, nothing around the arm can be run into, or the guard stops for good.
        ArmError, LimitsError, SceneError, WorkspaceError: the arm, the scene or the workspace cannot be read.
    """
    arm, scene = load_arm(config.robot), read_scene(config.scene)
    workspace = read_workspace(config.workspace) if config.workspace is not None else _about_home(arm)
    half = config.cycles // 2
    trials: list[dict[str, Any]] = []
    for name, box, tool_speed, cycles in (("confined", workspace, config.tool_speed, half), ("free", read_workspace(""), 0.0, config.cycles - half)):
        if cycles:
            asked = replace(config, cycles=cycles, tool_speed=tool_speed, seed=config.seed + len(trials))
            done = 0 if not trials else half
            trials.append({"trial": name} | _trial(asked, arm, scene, box, lambda more, _, done=done: report(done + more, config.cycles)))  # type: ignore[misc]
    return {
        "robot": config.robot,
        "cycles": config.cycles,
        "seed": config.seed,
        "set_points": sum(trial["set_points"] for trial in trials),
        "violations": {kind: sum(trial["violations"][kind] for trial in trials) for kind in trials[0]["violations"]},
        "total": sum(sum(trial["violations"].values()) for trial in trials),
        "trials": trials,
    }


def table(result: dict[str, Any]) -> str:
    """Violations by kind, the worst that was seen of each in either trial, and what the guard did."""
    trials = result["trials"]
    head = ["kind", "violations", *(f"worst, {trial['trial']}" for trial in trials)]
    rows = [[kind.replace("_", " "), str(count), *(trial["worst"].get(kind, "") for trial in trials)] for kind, count in result["violations"].items()]
    did = {name: sum(trial["guard"][name] for trial in trials) for name in trials[0]["guard"]}
    travel = sum(trial["joint_travel_rad"] for trial in trials)
    return "\n".join(
        [
            f"{result['robot']}: {result['cycles']} cycles, {result['set_points']} set points, seed {result['seed']}: {result['total']} violation(s)",
            markdown_table(head, rows),
            f"promised stop followed in {did['interventions']} cycles, filter asked in {did['filtered']} and without an answer in"
            f" {did['unanswered']}, {did['refused_plans']} plans refused, {did['missed_cycles']} cycles late, {did['brakings']} times braked to hold;"
            f" joints travelled {travel:.0f} rad; the oracle measured {sum(trial['measured_pairs'] for trial in trials)} distances",
        ]
    )


def _trial(config: HostileConfig, arm: ArmDescription, scene: Scene, workspace: Workspace, report: Callable[[int, int], None]) -> dict[str, Any]:
    limits = arm.limits.scaled(config.share, config.share, config.share)
    around = SurroundingsConfig(config.collision_margin_m, config.tool_speed)
    shield = Shield(ShieldConfig(limits, CYCLE_S), surroundings_of(arm, limits, scene, workspace, around, CYCLE_S))
    guard = Guard(GuardConfig(), shield, PlanGate(PlanGateConfig()))
    trial, refused = _attack(config, arm, scene, guard, report)
    verdict = judge(config, arm, scene, workspace, np.array(trial.stream), trial.promises)
    verdict.violations["non_finite"] += trial.non_finite
    counts = asdict(guard.counts) | {"refused_plans": sum(refused.values())}
    return {"cycles": config.cycles, "set_points": len(trial.stream), **asdict(verdict), "guard": counts, "refused": dict(refused)}


def _attack(config: HostileConfig, arm: ArmDescription, scene: Scene, guard: Guard, report: Callable[[int, int], None]) -> tuple[Trial, Counter[str]]:
    """Drive ``guard`` with every kind of plan and every kind of timing in equal shares, in bouts of a second or so."""
    rng = np.random.default_rng(config.seed)
    colliding = _colliding(arm, scene, rng)
    trial, refused = Trial(), Counter[str]()
    slot, position, still = _FIRST_SLOT, arm.home.copy(), np.zeros(len(arm.joints))
    published: tuple[int, F64] | None = None
    bouts = [(attack, timing) for attack in ATTACKS for timing in _TIMINGS]
    attack, timing, left, call = "wandering", "in time", 0, 0
    for cycle in range(config.cycles):
        if left == 0:
            attack, timing = bouts[int(rng.integers(len(bouts)))]
            left = int(rng.integers(20, 150))
        left -= 1
        elapsed = 1
        if timing == "late" and rng.random() < 0.1:
            elapsed = int(rng.integers(2, 30))
        elif timing == "dropped" and rng.random() < 0.3:
            elapsed = 2
        for _ in range(elapsed):
            slot += 1
            if published is not None:
                since, points = published
                position = points[min(slot - since - 1, len(points) - 1)]
                trial.stream.append(position.copy())
            guard.measured(position, still, slot * CYCLE_NS, slot * CYCLE_S)
        if guard.state is State.STOPPED:
            # What follows would be silence, in which nothing can be violated.
            raise HostileError(f"the guard stopped for good although the arm follows it: {guard.reason}")
        if guard.state is State.DISARMED:
            guard.arm(slot * CYCLE_S)
            guard.measured(position, still, slot * CYCLE_NS + 1, slot * CYCLE_S)
            if guard.state is State.DISARMED:
                raise HostileError(f"the arm cannot be armed at its home: {guard.reason}")
        if rng.random() < 0.3:
            call += 1
            # Plans that are refused alone would let the arm rest: every other one of those bouts is one that is not.
            kind = attack if call % 2 else ("colliding" if attack in ("non-finite", "reversed time", "malformed") else attack)
            now = Situation(arm.joints, arm.limits, colliding, position, slot * CYCLE_NS - int(rng.integers(0, 100_000_000)), call)
            try:
                plan = read_trajectory(ATTACKS[kind](now, rng), arm.joints)
                guard.propose(Proposal(plan.stamp_ns, plan.times, plan.positions, plan.velocities), slot * CYCLE_NS, slot * CYCLE_S)
            except (JointError, PlanRejectedError):
                refused[kind] += 1
        command = guard.cycle(slot, slot * CYCLE_S)
        if command is not None:
            braking = command.braking
            trial.non_finite += sum(int((~np.isfinite(part)).sum()) for part in (braking.positions, braking.velocities, braking.accelerations))
            published = command.slot, braking.positions
            if cycle % 97 == 0:
                trial.promises.append(np.concatenate([command.start.position[None], braking.positions]))
        if cycle % 1000 == 999:
            report(cycle + 1, config.cycles)
    return trial, refused


def _about_home(arm: ArmDescription) -> Workspace:
    """A box of 0.8 m by 1 m by 0.6 m about the tool's home."""
    x, y, z = ToolFrame(arm).point(arm.home).tolist()
    return read_workspace(f"{{min: [{x - 0.4}, {y - 0.5}, {z - 0.3}], max: [{x + 0.4}, {y + 0.5}, {z + 0.3}]}}")


def _colliding(arm: ArmDescription, scene: Scene, rng: np.random.Generator) -> F64:
    """Postures ``(C, J)`` in which something touches."""
    model, found = CollisionModel(arm, scene), []
    for _ in range(_MOST_DRAWN):
        q = rng.uniform(arm.limits.lower, arm.limits.upper)
        if model.distances(q).min() < 0.0:
            found.append(q)
        if len(found) == _COLLIDING:
            break
    if not found:
        raise HostileError(f"nothing that '{arm.name}' could run into was found")
    return np.array(found)
