"""How long a shielded cycle takes, and how far the arm falls behind a plan whose tool turns round: ``python benchmarks/guard_tracking.py``."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from arm_model import Kinematics, load_arm
from planner_node.plan_gate import Proposal
from planner_node.shield import Shield, ShieldConfig

SPEED = 0.2  # m/s
SPACING_S = 0.05
CYCLE_S = 0.01
TURN_S, END_S = 0.7, 1.4


def turning_plan(kinematics: Kinematics, ramp_s: float) -> Proposal:
    """A tool that moves at 0.2 m/s along x, turns round over ``ramp_s`` and moves back, as joints every 50 ms."""
    fine = np.arange(0.0, END_S + 1e-9, 1e-3)
    speed = np.interp(fine, [0.0, 0.25, TURN_S - ramp_s / 2, TURN_S + ramp_s / 2 + 1e-9], [0.0, SPEED, SPEED, -SPEED])
    x: NDArray[np.float64] = 0.42 + np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1])) * 1e-3])
    times = np.arange(0.0, END_S + 1e-9, SPACING_S, dtype=np.float64)
    seed, joints = kinematics.arm.home, []
    for at in np.interp(times, fine, x):
        seed = kinematics.solve(np.array([at, 0.05, 0.3]), seed)
        joints.append(seed)
    positions = np.array(joints)
    velocities: NDArray[np.float64] = np.gradient(positions, SPACING_S, axis=0)
    velocities[0] = 0.0
    return Proposal(0, times, positions, velocities)


def follow(shield: Shield, kinematics: Kinematics, plan: Proposal) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tool error and error in height ``(T,) m`` in every cycle."""
    braking = shield.hold(plan.positions[0])
    error, height = [], []
    for cycle in range(1, round(END_S / CYCLE_S)):
        target = plan.at(cycle * CYCLE_S)
        braking = shield.follow(braking, 1, target).braking
        difference = kinematics.tool_point(braking.positions[0]) - kinematics.tool_point(target.position)
        error.append(float(np.linalg.norm(difference)))
        height.append(abs(float(difference[2])))
    return np.array(error), np.array(height)


def main() -> None:
    """Print both tables."""
    arm = load_arm()
    kinematics = Kinematics(arm)
    shield = Shield(ShieldConfig(arm.limits.scaled(0.5, 0.95, 0.5, margin=0.02)))
    plan = turning_plan(kinematics, 0.3)
    braking, spent = shield.hold(plan.positions[0]), []
    for cycle in range(1, 2_000):
        target = plan.at((cycle % 139 + 1) * CYCLE_S)
        begun = time.perf_counter()
        braking = shield.follow(braking, 1, target).braking
        spent.append(1e6 * (time.perf_counter() - begun))
    print(f"shielded cycle: p50 {np.percentile(spent, 50):.0f} us, p99 {np.percentile(spent, 99):.0f} us")
    print("acceleration share, turn: largest tool error, of which height, time above 2 mm, error while cruising")
    for share in (0.5, 0.9, 0.95, 1.0):
        shield = Shield(ShieldConfig(arm.limits.scaled(0.5, share, 0.5, margin=0.02)))
        for ramp_s in (0.0, 0.1, 0.2, 0.3):
            error, height = follow(shield, kinematics, turning_plan(kinematics, ramp_s))
            cruise = error[35:50].max()
            late = CYCLE_S * int((error > 2e-3).sum())
            print(f"{share:.2f}, {ramp_s:.1f} s: {1e3 * error.max():5.1f} mm, {1e3 * height.max():5.1f} mm, {late:.2f} s, {1e3 * cruise:.2f} mm")


if __name__ == "__main__":
    main()
