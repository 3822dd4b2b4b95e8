"""``latent-mpc hostile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json
from latent_mpc.progress import progress


def hostile(
    robot: Annotated[str, typer.Option(help="Name of a shipped arm, or path of an arm description.")] = "panda_stick",
    cycles: Annotated[int, typer.Option(help="Cycles of the guard; half of them with workspace and tool speed, half without.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of the planner's malice.")] = 0,
    scene: Annotated[Optional[str], typer.Option(help="Obstacles, a YAML file; none by default.")] = None,  # noqa: UP045
    workspace: Annotated[Optional[str], typer.Option(help="Workspace of the tool in YAML; a box about its home by default.")] = None,  # noqa: UP045
    margin: Annotated[float, typer.Option(help="m between shapes that may not touch.")] = 0.01,
    tool_speed: Annotated[float, typer.Option(help="m/s of the tool in the confined half.")] = 0.5,
    every_point: Annotated[bool, typer.Option("--every-point", help="The oracle measures every pair at every set point; slow.")] = False,
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Drive the guard with plans that want to break the arm; judge what it would publish by finite differences and PyBullet."""
    from latent_mpc.hostile import HostileConfig, run_hostile, table

    config = HostileConfig(robot, cycles, seed, scene or "", workspace, margin, tool_speed, every_point=every_point)
    with progress("cycles") as report:
        result = run_hostile(config, report)
    if json is not None:
        write_json(json, result)
    typer.echo(table(result))
    if result["total"]:
        raise typer.Exit(1)
