"""``latent-mpc compare-solvers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json
from latent_mpc.progress import progress

TABLE = "compare-solvers"


def compare_solvers(
    model: Annotated[Path, typer.Option(help="Model bundle.")],
    task: Annotated[str, typer.Option(help="reach, push, push-far, push-further, push-around; wall, disc, push-wall or push-disc.")],
    episodes: Annotated[int, typer.Option(help="Episodes for each seed, the same for every solver.")] = 100,
    seed: Annotated[Optional[list[int]], typer.Option(help="Evaluation seed; may be given several times.")] = None,  # noqa: UP045
    solver: Annotated[Optional[list[str]], typer.Option(help="Solver, random or oracle; may be repeated. All and random by default.")] = None,  # noqa: UP045
    deadline: Annotated[float, typer.Option(help="s that a plan may take.")] = 0.06,
    planner_file: Annotated[str, typer.Option(help="Critics for all and settings in YAML; see launch/config/objective.yaml.")] = "",
    manifest: Annotated[Optional[Path], typer.Option(help="Starts and goals: read if the file exists, else drawn and written.")] = None,  # noqa: UP045
    cpu_time: Annotated[bool, typer.Option("--cpu-time/--wall-time", help="What the deadline counts; CPU time is that of an idle core.")] = True,
    workers: Annotated[int, typer.Option(help="Processes; with --wall-time they take each other's, so one for each idle core.")] = 1,
    outcomes: Annotated[Path, typer.Option(help="Every episode's outcome, as JSON lines.")] = Path("runs/compare-solvers/outcomes.jsonl"),
    document: Annotated[Optional[Path], typer.Option(help=f"Markdown file with the markers <!-- {TABLE} TASK --> that gets the table.")] = None,  # noqa: UP045
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Play the same episodes with each solver, without ROS, under the same deadline."""
    from latent_mpc.compare_solvers import DEFAULT, table
    from latent_mpc.compare_solvers import compare_solvers as compare
    from latent_mpc.evaluate import Evaluation, EvaluationError
    from latent_mpc.markdown_table import TableError, has_place, write_between
    from planner_node.assembly import PlannerConfig
    from planner_node.planner_file import with_planner_file

    place = f"{TABLE} {task}"
    if document is not None and not has_place(document, place):
        raise TableError(f"{document} has no place for the table: it needs the lines <!-- {place} --> and <!-- end of {place} -->")
    if not 0 < deadline < float("inf"):
        raise EvaluationError(f"deadline is {deadline}, must be positive")
    config = with_planner_file(PlannerConfig(), planner_file)
    names = tuple(solver or (*DEFAULT, "random"))
    asked = Evaluation(model, task, episodes, tuple(seed or [0]), names, manifest, workers, deadline, planner=config, cpu_time=cpu_time)
    with progress("episodes") as report:
        result = compare(asked, outcomes, report)
    text = table(result)
    if json is not None:
        write_json(json, result)
    if document is not None:
        write_between(document, place, text)
    typer.echo(text)
