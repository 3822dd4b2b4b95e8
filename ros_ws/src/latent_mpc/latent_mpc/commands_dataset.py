"""``latent-mpc dataset``: bags into episodes, episodes into LeRobot data sets and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from latent_mpc.progress import progress

dataset = typer.Typer(name="dataset", help="Data sets from bags, to LeRobot and from LeRobot.", no_args_is_help=True)

_TOPICS, _TIME = "Topics", "Time"


class DatasetCommandError(ValueError):
    """Options that contradict each other, with the reason in one line."""


def description_of(folder: Path) -> dict[str, Any]:
    """What a data set's or a bundle's actions mean, as in ``dataset.json``: of a bundle, with its frame and its joints.

    Raises:
        DatasetCommandError: the folder is neither.
    """
    if (folder / "manifest.json").is_file():
        from world_model.bundle import read_manifest

        manifest = read_manifest(folder)
        first = (manifest.provenance.get("data") or [{}])[0]
        joints = list(manifest.joints) or first.get("joints")
        return {"tool_step": manifest.tool_step, "action_space": manifest.action_space, "frame": list(manifest.frame), "joints": joints}
    if (folder / "dataset.json").is_file():
        try:
            described = json.loads((folder / "dataset.json").read_text())
        except ValueError as error:
            raise DatasetCommandError(f"{folder / 'dataset.json'} is not JSON: {error}") from error
        if not isinstance(described, dict):
            raise DatasetCommandError(f"{folder / 'dataset.json'} describes no data set: it holds a {type(described).__name__}")
        return described
    raise DatasetCommandError(f"{folder} holds neither a data set (dataset.json) nor a bundle (manifest.json)")


@dataset.command("from-bag")
def from_bag(
    bags: Annotated[list[Path], typer.Argument(help="Recorded bags.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set.")],
    camera: Annotated[Optional[str], typer.Option(help="Topic of the pictures.", rich_help_panel=_TOPICS)] = None,  # noqa: UP045
    joint_states: Annotated[Optional[str], typer.Option(help="Topic of the measured joints.", rich_help_panel=_TOPICS)] = None,  # noqa: UP045
    actions: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What was commanded: JointTrajectory, Float64MultiArray, Twist or JointState.", rich_help_panel=_TOPICS),
    ] = None,
    velocities: Annotated[bool, typer.Option(help="Float64MultiArray holds rad/s, not rad.", rich_help_panel=_TOPICS)] = False,
    marker: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Topic whose messages end an episode; goal pictures by default.", rich_help_panel=_TOPICS),
    ] = None,
    joints: Annotated[Optional[str], typer.Option(help="Names, in the order to come: a,b,c.", rich_help_panel=_TOPICS)] = None,  # noqa: UP045
    means: Annotated[str, typer.Option(help="An action is a displacement of the joints, or the command itself: joints or command.")] = "joints",
    task: Annotated[Optional[str], typer.Option(help="An action means what it does in this simulated task.")] = None,  # noqa: UP045
    like: Annotated[Optional[Path], typer.Option(help="An action means what it does in this data set or bundle.")] = None,  # noqa: UP045
    robot: Annotated[str, typer.Option(help="Arm whose tool moves, with --task or --like.")] = "panda_stick",
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels, where neither --task nor --like says it.", min=8)] = 64,
    name: Annotated[str, typer.Option(help="What the data are of; a training configuration lists it under tasks.")] = "bag",
    period: Annotated[float, typer.Option(help="Seconds of a step.", rich_help_panel=_TIME)] = 0.2,
    episode_steps: Annotated[int, typer.Option(help="Actions of an episode.", min=1, rich_help_panel=_TIME)] = 40,
    tolerance: Annotated[float, typer.Option(help="Share of a step by which a frame may come early or late.", rich_help_panel=_TIME)] = 1 / 6,
    joint_tolerance: Annotated[float, typer.Option(help="Seconds from a frame to the nearest joint state, at most.", rich_help_panel=_TIME)] = 0.05,
    idle: Annotated[float, typer.Option(help="Seconds of standing still that end an episode.", rich_help_panel=_TIME)] = 2.0,
) -> None:
    """Make episodes of recorded bags: frames a step apart, joints at their stamps, and what was commanded in between."""
    from latent_mpc.bag_data import AskedTopics, BagImport, import_bags

    if task is not None and like is not None:
        raise DatasetCommandError("give either --task or --like: both say what an action means")
    for option, value, most in (("--period", period, 60.0), ("--tolerance", tolerance, 0.5), ("--joint-tolerance", joint_tolerance, 10.0)):
        if not 0 < value <= most:
            raise DatasetCommandError(f"{option} is {value}, must lie between 0 and {most:g}")
    asked = BagImport(
        tuple(bags),
        task,
        out,
        episode_steps,
        topics=AskedTopics(camera, joint_states, actions, tuple(marker or ())),
        means=means,
        like={} if like is None else description_of(like),
        like_name=str(like),
        joints=tuple(name.strip() for name in joints.split(",")) if joints else None,
        robot=robot,
        size=(size, size),
        period_s=period,
        velocities=velocities,
        late=tolerance,
        idle_s=idle,
        joints_s=joint_tolerance,
        name=name,
    )
    with progress("bags") as report:
        typer.echo(import_bags(asked, report).text())


@dataset.command("export")
def export(
    data: Annotated[Path, typer.Option(help="Data set.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    format: Annotated[str, typer.Option(help="lerobot: version 3.0, parquet and MP4.")] = "lerobot",
    task: Annotated[Optional[str], typer.Option(help="What the robot is told, in words; the data's task by default.")] = None,  # noqa: UP045
    robot: Annotated[Optional[str], typer.Option(help="Type of the robot.")] = None,  # noqa: UP045
    camera: Annotated[str, typer.Option(help="The pictures become observation.images.<camera>.")] = "camera",
    fps: Annotated[Optional[float], typer.Option(help="Steps in a second, for environments, whose steps have no length; 10 by default.")] = None,  # noqa: UP045
) -> None:
    """Write a data set for others to train on."""
    if format != "lerobot":
        raise DatasetCommandError(f"--format can be lerobot, not '{format}'")
    if fps is not None and not 0 < fps <= 1000:
        raise DatasetCommandError(f"--fps is {fps}, must lie between 0 and 1000")
    if "/" in camera or not camera:
        raise DatasetCommandError(f"--camera is '{camera}': it must be a name without '/'")
    from latent_mpc.lerobot.export import LeRobotExport, export_lerobot

    with progress("episodes") as report:
        info = export_lerobot(LeRobotExport(data, out, task, robot, camera, fps), report)
    typer.echo(f"{out}: {info['total_episodes']} episodes, {info['total_frames']} rows, {info['fps']:g} a second, LeRobot {info['codebase_version']}")


@dataset.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="Folder of a LeRobot data set, version 3.0 or 2.1.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set.")],
    camera: Annotated[Optional[str], typer.Option(help="Key of the pictures, where there are several.")] = None,  # noqa: UP045
    episode_steps: Annotated[Optional[int], typer.Option(help="Actions of an episode.", min=1)] = None,  # noqa: UP045
    every: Annotated[int, typer.Option(help="Rows of a step.", min=1)] = 1,
    state: Annotated[Optional[str], typer.Option(help="observation.state is in rad or deg; none leaves it out.")] = None,  # noqa: UP045
    size: Annotated[Optional[int], typer.Option(help="Side of the pictures in pixels; 64 where they are larger.", min=8)] = None,  # noqa: UP045
    like: Annotated[Optional[Path], typer.Option(help="Imported data set whose scale of actions is taken.")] = None,  # noqa: UP045
    name: Annotated[Optional[str], typer.Option(help="What the data are of; a training configuration lists it under tasks.")] = None,  # noqa: UP045
) -> None:
    """Make episodes of a LeRobot data set."""
    from latent_mpc.lerobot.importing import LeRobotImport, import_lerobot

    asked = LeRobotImport(
        source,
        out,
        camera,
        episode_steps,
        every,
        state,
        None if size is None else (size, size),
        {} if like is None else description_of(like),
        str(like),
        name=name,
    )
    with progress("episodes") as report:
        typer.echo(import_lerobot(asked, report).text())
