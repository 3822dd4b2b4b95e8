"""``latent-mpc check-arm``."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

# Below, contacts in narrow corners of the joint space are missed.
ENOUGH = 2000


def check_arm(
    arm: Annotated[str, typer.Argument(help="A shipped arm's name or the path of a description in YAML.")],
    samples: Annotated[int, typer.Option(help="Random configurations in which pairs of links are tried.")] = 5000,
    seed: Annotated[int, typer.Option(help="Seed of the configurations.")] = 0,
    scene: Annotated[Optional[str], typer.Option(help="Scene in YAML, a file or text: distances at home are measured to it too.")] = None,  # noqa: UP045
) -> None:
    """Check an arm's description before it moves, and say which pairs of links need no collision check."""
    import numpy as np

    from arm_model import EMPTY, ArmError, CollisionModel, Kinematics, load_arm, read_scene
    from arm_model.allowed import examine_pairs

    if samples < 1 or seed < 0:
        raise ArmError(f"samples must be at least 1 and the seed at least 0, not {samples} and {seed}")
    description = load_arm(arm)
    kinematics = Kinematics(description)
    itself = CollisionModel(description)
    model = CollisionModel(description, EMPTY if scene is None else read_scene(scene))
    limits, soft = description.limits, description.soft_limits
    typer.echo(f"{description.name}: {len(limits.names)} joints, {len(itself.pairs)} pairs of shapes checked against each other")
    for row in zip(limits.names, limits.lower, limits.upper, soft.lower, soft.upper, limits.velocity, limits.acceleration, limits.jerk, strict=True):
        typer.echo(
            f"  {row[0]:<20} {row[1]:7.3f} .. {row[2]:6.3f} rad, soft {row[3]:7.3f} .. {row[4]:6.3f};"
            f" {row[5]:6.3f} rad/s, {row[6]:6.2f} rad/s^2, {row[7]:8.1f} rad/s^3"
        )
    point = kinematics.tool_point(description.home)
    kinematics.solve(point)
    home = model.distances(description.home)
    least = int(home.argmin())
    typer.echo(f"home: tool at {np.round(point, 3).tolist()} m; nearest pair {' and '.join(model.pairs[least])}, {1e3 * home[least]:.1f} mm")
    reports = examine_pairs(itself, samples, np.random.default_rng(seed))
    for report in reports:
        kind = "always touch" if report.always else "never touch" if report.never else "may touch"
        typer.echo(f"  {' and '.join(report.pair)}: {kind} (in {report.share:.1%}; nearest {1e3 * report.least_m:.1f} mm)")
    found = [report.pair for report in reports if report.always or report.never]
    if found and samples < ENOUGH:
        typer.echo(f"which of them need no check: not to be told from {samples} samples, try {ENOUGH}")
    elif found:
        typer.echo("needless; add to the description:\nallowed_collisions:")
        typer.echo("\n".join(f"  - [{first}, {second}]" for first, second in found))
    if home[least] <= 0:
        raise ArmError(f"{description.name}: home touches: {' and '.join(model.pairs[least])} overlap by {-1e3 * home[least]:.1f} mm")
