"""``latent-mpc check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json

NOT_READY_STATUS = 1


def check(
    robot: Annotated[str, typer.Option(help="A name in launch/config/robots, or the path of such a file.")],
    model: Annotated[Optional[Path], typer.Option(help="Model bundle that is to move this arm.")] = None,  # noqa: UP045
    arm: Annotated[str, typer.Option(help="Arm description in the place of the robot's: a shipped arm's name or a YAML file.")] = "",
    namespace: Annotated[str, typer.Option(help="Namespace of the nodes and of every topic, as given to arm.launch.py.")] = "",
    seconds: Annotated[
        float, typer.Option(help="How long to listen; up to four times as long to what is missing or slow.", min=0.5, max=600.0)
    ] = 4.0,
    stop: Annotated[bool, typer.Option(help="Whether to try ~/stop and ~/reset of the guardrail.")] = True,
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Check a physical arm's driver, camera, controller and guardrail before anything moves; exit status 1 when anything is wrong."""
    import rclpy
    from rclpy.context import Context

    from arm_model import load_arm
    from latent_mpc.commissioning.check import check as examine
    from latent_mpc.commissioning.findings import failures, report, table
    from latent_mpc.commissioning.observer import Observer
    from latent_mpc.commissioning.robot_setup import read_robot_setup
    from latent_mpc.launch_parameters import existing
    from world_model.bundle import read_manifest

    setup = read_robot_setup(robot).in_namespace(namespace)
    described = existing(arm or setup.arm)
    description = load_arm(described) if described else None
    manifest = None if model is None else read_manifest(model)
    context = Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node("commissioning_check", context=context)
        seen = Observer(node, setup, namespace).look(seconds, stop)
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
    findings = examine(setup, description, manifest, seen)
    if json is not None:
        write_json(json, report(setup.name, findings, setup.unverified))
    typer.echo(table(findings))
    if setup.unverified:
        typer.echo(f"not verified against this driver's source, compare with your own set-up: {', '.join(setup.unverified)}")
    if failures(findings):
        raise typer.Exit(NOT_READY_STATUS)
