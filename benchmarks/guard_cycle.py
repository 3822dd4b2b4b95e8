"""How long one cycle of shield and collision check takes, beside the bare shield.

``python benchmarks/guard_cycle.py [--robot NAME] [--cycles N] [--cold]``

The tool goes round a circle of 0.2 m at 0.2 m/s amid ``benchmarks/scenes/cell.yaml``; then across a pillar that stands in its way, so that the
filter has to answer. Cycles of all variants take turns, so that a busy moment hits them alike. ``--cold``: other memory is written before each cycle,
as a process that wakes every 10 ms may find its caches taken by others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arm_model import ArmDescription, JointLimits, Kinematics, Scene, load_arm, read_scene
from planner_node.shield import Motion, Shield, ShieldConfig
from planner_node.surroundings import SurroundingsConfig, surroundings_of
from planner_node.workspace import read_workspace

F64 = NDArray[np.float64]
CYCLE_S = 0.01
OTHER_MEMORY = 4_000_000  # numbers of 8 bytes: 32 MB
CELL = Path(__file__).parent / "scenes" / "cell.yaml"
IN_THE_WAY = "- {name: post, capsule: [0.03, 0.3], xyz: [0.5, 0.02, 0.1]}"


def circle(kinematics: Kinematics) -> list[Motion]:
    """A tool on a circle of 10 cm radius about its home, one turn in 3.2 s, as joints every cycle."""
    centre = kinematics.tool_point(kinematics.arm.home)
    angles = np.linspace(0.0, 2.0 * np.pi, 321)
    return moving(kinematics, centre + 0.1 * np.array([np.sin(angles), np.cos(angles) - 1.0, 0.0 * angles]).T)


def to_and_fro(kinematics: Kinematics) -> list[Motion]:
    """A tool at 0.2 m/s across the post, there and back."""
    y = np.concatenate([np.linspace(-0.2, 0.25, 226), np.linspace(0.25, -0.2, 226)])
    return moving(kinematics, np.array([np.full(y.size, 0.5), y, np.full(y.size, 0.2)]).T)


def moving(kinematics: Kinematics, points: F64) -> list[Motion]:
    """Tool points ``(N, 3)``, one a cycle, as moving targets."""
    seed, rows = kinematics.arm.home, []
    for point in points:
        seed = kinematics.solve(point, seed)
        rows.append(seed)
    joints = np.array(rows)
    speeds: F64 = np.gradient(joints, CYCLE_S, axis=0)
    return [Motion(position, velocity, np.zeros_like(position)) for position, velocity in zip(joints, speeds, strict=True)]


def shields(arm: ArmDescription, limits: JointLimits, scene: Scene) -> dict[str, Shield]:
    """The bare shield, with collisions, and with workspace and tool speed besides."""
    config = ShieldConfig(limits, CYCLE_S)
    box = read_workspace("{min: [-1, -1, -1], max: [1, 1, 2]}")
    plain, all_of_it = SurroundingsConfig(), SurroundingsConfig(tool_speed=1.0)
    return {
        "shield alone": Shield(config),
        "shield + collisions": Shield(config, surroundings_of(arm, limits, scene, read_workspace(""), plain, CYCLE_S)),
        "shield + collisions + workspace + tool speed": Shield(config, surroundings_of(arm, limits, scene, box, all_of_it, CYCLE_S)),
    }


def measure(variants: dict[str, Shield], targets: list[Motion], cycles: int, others: F64, report: Callable[[str], None]) -> None:
    """Print percentiles of all cycles, and of those in which the filter was asked; ``others`` is memory to write to before each."""
    published = {name: shield.hold(targets[0].position) for name, shield in variants.items()}
    spent: dict[str, list[tuple[float, bool]]] = {name: [] for name in variants}
    for cycle in range(cycles):
        for name, shield in variants.items():
            others += 1.0
            begun = time.perf_counter()
            step = shield.follow(published[name], 1, targets[(cycle + 1) % len(targets)])
            spent[name].append((1e6 * (time.perf_counter() - begun), step.filtered))
            published[name] = step.braking
    for name, shield in variants.items():
        all_of_it, filtered = [us for us, _ in spent[name]], [us for us, asked in spent[name] if asked]
        around = shield.surroundings
        line = (
            f"{name}: p10 {np.percentile(all_of_it, 10):.0f} us, p50 {np.percentile(all_of_it, 50):.0f} us, p90 {np.percentile(all_of_it, 90):.0f} us"
        )
        if around is not None:
            line += f", {len(around.check.source.names)} margins, {around.check.measured / cycles:.2f} postures measured a cycle besides gradients"
        if filtered:
            line += f"; filter asked in {len(filtered)} cycles, p50 {np.percentile(filtered, 50):.0f} us"
        report(line)


def main() -> None:
    """Print the timings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robot", default="panda_stick")
    parser.add_argument("--cycles", type=int, default=2_000)
    parser.add_argument("--cold", action="store_true", help="write to 32 MB of other memory before each cycle")
    asked = parser.parse_args()
    others = np.zeros(OTHER_MEMORY if asked.cold else 0)
    arm = load_arm(asked.robot)
    kinematics = Kinematics(arm)
    limits = arm.limits.scaled(0.5, 0.95, 0.5, margin=0.02)
    cell, post = read_scene(CELL), read_scene(IN_THE_WAY)
    for title, scene, targets in (("on a circle amid the cell", cell, circle(kinematics)), ("across a post", post, to_and_fro(kinematics))):
        print(f"{arm.name}, {title}")
        measure(shields(arm, limits, scene), targets, asked.cycles, others, lambda line: print(f"  {line}"))


if __name__ == "__main__":
    main()
