"""``latent-mpc surprise``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json
from latent_mpc.progress import stage_progress

_SIGNATURE = "surprise.json"


def surprise(
    model: Annotated[Path, typer.Option(help="Model bundle.")],
    task: Annotated[str, typer.Option(help="reach, push or push-far.")],
    out: Annotated[Path, typer.Option(help="Folder for surprise.json and surprise.md; an earlier evaluation in it is replaced.")],
    events: Annotated[int, typer.Option(help="Runs with each impossible event.")] = 100,
    runs: Annotated[int, typer.Option(help="Ordinary runs to calibrate with, and as many others to count false alarms in.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the runs.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; results do not depend on their number.")] = 2,
    look: Annotated[Optional[list[str]], typer.Option(help="What each run draws anew: camera, light, colours, distractor; may be repeated.")] = None,  # noqa: UP045
    frame_rate: Annotated[float, typer.Option(help="False alarms that the threshold may cost, as a share of ordinary frames.")] = 0.005,
    run_rate: Annotated[float, typer.Option(help="The same, as a share of ordinary runs of 8 s.")] = 0.05,
    null: Annotated[bool, typer.Option(help="Judge an untrained network of the same shape as well; needs torch.")] = True,
    record: Annotated[bool, typer.Option("--record", help="Write calibration and table into the bundle's manifest.")] = False,
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Calibrate surprise on ordinary runs and measure how well it notices what cannot happen."""
    from latent_mpc.staging import staged
    from latent_mpc.surprise_evaluation import SurpriseEvaluation, evaluate_surprise, recorded_rows, table
    from world_model.bundle import record_surprise

    asked = SurpriseEvaluation(model, task, events, runs, seed, workers, tuple(look or ()), frame_rate, run_rate, null)
    with staged(out, _SIGNATURE) as folder:
        with stage_progress() as report:
            result = evaluate_surprise(asked, report)
        write_json(folder / _SIGNATURE, result)
        (folder / "surprise.md").write_text(table(result) + "\n")
    if json is not None:
        write_json(json, result)
    if record:
        record_surprise(model, result["calibration"], recorded_rows(result))
    typer.echo(table(result))
