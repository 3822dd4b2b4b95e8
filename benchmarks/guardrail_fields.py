"""How much the search's fields over- and underestimate at points that built none of them, per arm: ``python benchmarks/guardrail_fields.py``."""

from __future__ import annotations

import time

import numpy as np
from latent_mpc.markdown_table import markdown_table

from arm_model import CollisionModel, Kinematics, UnreachableError, load_arm, read_scene
from planner_node.guardrails.joint_map import least_distance, least_room, least_singular_value, solve_map
from planner_node.guardrails.lattice import Lattice

SPACING_M = 0.03
POINTS = 3000
SCENE = "[{name: wall, box: {min: [0.3, 0.3, 0.0], max: [0.8, 0.4, 0.5]}}, {name: post, box: {min: [0.45, 0.1, 0.0], max: [0.5, 0.2, 0.25]}}]"
BOXES = {
    "panda_stick": ((0.36, -0.25, 0.06), (0.64, 0.25, 0.32)),
    "franka_panda": ((0.4, -0.25, 0.05), (0.6, 0.25, 0.4)),
    "kuka_iiwa": ((0.5, -0.25, 0.1), (0.65, 0.25, 0.4)),
    "ur5e": ((0.3, -0.25, 0.1), (0.55, 0.25, 0.4)),
    "xarm6": ((0.25, -0.25, 0.1), (0.5, 0.25, 0.4)),
}


def measure(name: str) -> list[str]:
    """One row: the nodes and the time they took, then the largest overestimate and the median and 95th percentile of what is left unused."""
    arm = load_arm(name)
    kinematics, (lower, upper) = Kinematics(arm), BOXES[name]
    model, soft = CollisionModel(arm, read_scene(SCENE)), arm.soft_limits
    free = [joint for joint in range(len(arm.joints)) if joint != arm.held_joint]
    begun = time.perf_counter()
    mapped = solve_map(kinematics, Lattice.over(lower, upper, SPACING_M))
    solved_s = time.perf_counter() - begun
    begun = time.perf_counter()
    distance = least_distance(mapped, kinematics, model)
    distance_s = time.perf_counter() - begun
    room, value = least_room(mapped, kinematics, soft.lower, soft.upper), least_singular_value(mapped, kinematics)
    points = np.random.default_rng(1).uniform(lower, upper, (POINTS, 3))
    exact, kept = [], []
    for index, (point, seed) in enumerate(zip(points, mapped.at(points), strict=True)):
        try:
            q = kinematics.solve(point, seed)
        except UnreachableError:
            continue
        kept.append(index)
        singular = np.linalg.svd(kinematics.jacobian(q)[:, free], compute_uv=False)[-1]
        exact.append((min(model.distances(q).min(), 0.06), np.minimum(q - soft.lower, soft.upper - q).min(), singular))
    found = np.stack([field.at(points[kept]) for field in (distance, room, value)], axis=1)
    short = np.array(exact) - found
    row = [name, str(int(np.prod(mapped.lattice.counts))), f"{solved_s:.1f}", f"{distance_s:.1f}"]
    for column, scale in ((0, 1e3), (1, 1e3), (2, 1.0)):
        over, median, most = max(0.0, -float(short[:, column].min())), *np.quantile(short[:, column], (0.5, 0.95))
        row.append(" / ".join(f"{scale * number:.{1 if scale > 1 else 4}f}" for number in (over, median, most)))
    return row


def main() -> None:
    """Print the table."""
    unit = "over / unused, median / 95 %"
    head = ["arm", "nodes", "solving, s", "distances, s", f"distance, mm: {unit}", f"joint room, mrad: {unit}", f"singular value: {unit}"]
    print(markdown_table(head, [measure(name) for name in BOXES]))


if __name__ == "__main__":
    main()
