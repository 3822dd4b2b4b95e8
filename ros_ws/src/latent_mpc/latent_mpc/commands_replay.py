"""``latent-mpc bag replay``."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json

_TOPICS, _CHANGES = "Topics", "Changes"
_SIGNATURE, _TEXT = "report.json", "report.md"
_DIFFERS_STATUS = 1
# A replay makes a great many objects that stay. To look for cycles among them as often as Python does would take a twentieth of its time.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000


def replay(
    bag: Annotated[Path, typer.Argument(help="Bag folder.")],
    model: Annotated[Optional[Path], typer.Option(help="Model bundle; that of the recorded run by default.", rich_help_panel=_CHANGES)] = None,  # noqa: UP045
    planner_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Solver, critics and weights in YAML, such as launch/config/objective.yaml.", rich_help_panel=_CHANGES),
    ] = None,
    guardrails: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Guardrails of the search: a YAML file or the YAML itself; see docs/guardrails.md.", rich_help_panel=_CHANGES),
    ] = None,
    change: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set",
            help="planner.NAME=VALUE, guardrail.NAME=VALUE, perception.runtime or .precision=VALUE (docs/parameters.md).",
            rich_help_panel=_CHANGES,
        ),
    ] = None,
    search: Annotated[
        str, typer.Option(help="recorded: cut searches where the recorded run cut them; complete: let them end by themselves; by default the first.")
    ] = "",
    surprise: Annotated[bool, typer.Option(help="Whether the witness looks too, and surprise is scored.")] = True,
    plan_ms: Annotated[Optional[float], typer.Option(help="ms that planning takes, for a bag without a journal.")] = None,  # noqa: UP045
    camera_topic: Annotated[str, typer.Option(rich_help_panel=_TOPICS)] = "/camera/image_raw",
    goal_topic: Annotated[str, typer.Option(rich_help_panel=_TOPICS)] = "/goal/image",
    joint_topic: Annotated[str, typer.Option(rich_help_panel=_TOPICS)] = "/joint_states",
    camera_info_topic: Annotated[str, typer.Option(rich_help_panel=_TOPICS)] = "/camera/camera_info",
    command_topic: Annotated[str, typer.Option(help="By default the trajectory controller's of the arm.", rich_help_panel=_TOPICS)] = "",
    namespace: Annotated[str, typer.Option(help="Namespace of the nodes, such as arm1, with our own topics.", rich_help_panel=_TOPICS)] = "",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder for report.md, report.json and replay.npz with all plans, commands and latents; an earlier replay is replaced."),
    ] = None,
    must_agree: Annotated[bool, typer.Option("--must-agree", help="Exit with status 1 where anything differs from what was recorded.")] = False,
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Put a bag through perception, planner and guardrail without DDS, and compare plans and commands with the recorded ones."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    from latent_mpc.offline_bag import ReplayTopics
    from latent_mpc.offline_replay import OUTPUT, ReplayConfig, write_output
    from latent_mpc.offline_replay import replay as run_replay
    from latent_mpc.offline_report import first_difference, text, to_json
    from latent_mpc.staging import staged

    changes = list(change or ())
    changes += [f"planner.planner_file={planner_file}"] if planner_file is not None else []
    changes += [f"planner.guardrails={guardrails}"] if guardrails is not None else []
    topics = ReplayTopics(camera_topic, goal_topic, joint_topic, camera_info_topic, command_topic, namespace)
    asked = ReplayConfig(bag, "" if model is None else str(model), tuple(changes), topics, search, surprise, plan_ms)
    replayed = run_replay(asked)
    result = to_json(replayed)
    if out is not None:
        with staged(out, _SIGNATURE) as folder:
            write_output(folder / OUTPUT, replayed)
            (folder / _TEXT).write_text(text(replayed) + "\n")
            write_json(folder / _SIGNATURE, result)
    if json is not None:
        write_json(json, result)
    typer.echo(text(replayed))
    gc.freeze()  # the process is about to end: nobody needs to look through all of it once more
    if must_agree and (first_difference(replayed.agreements) is not None or not replayed.agreements):
        raise typer.Exit(_DIFFERS_STATUS)
