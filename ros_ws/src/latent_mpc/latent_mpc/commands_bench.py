"""``latent-mpc bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json
from latent_mpc.progress import stage_progress

TABLE = "bench"


def bench(
    model: Annotated[Path, typer.Option(help="Model bundle.")] = Path("models/push"),
    task: Annotated[str, typer.Option(help="Task whose scene is rendered and planned in.")] = "push-far",
    rounds: Annotated[int, typer.Option(help="Rounds in which all stages take turns.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of scenes, noise and random weights.")] = 0,
    peers: Annotated[
        str, typer.Option(help="none; short, a minute; published, every solver at 300 x 10 and 300 x 30, ten minutes on an idle core.")
    ] = "short",
    scaling: Annotated[bool, typer.Option("--scaling", help="Also candidates, steps, tokens, joints and memory: two minutes more.")] = False,
    nodes: Annotated[Optional[Path], typer.Option(help="What `latent-mpc bench-nodes --json` wrote, to include.")] = None,  # noqa: UP045
    table: Annotated[Optional[Path], typer.Option(help="Write the tables as Markdown to this file.")] = None,  # noqa: UP045
    document: Annotated[Optional[Path], typer.Option(help=f"Markdown file with the markers <!-- {TABLE} --> that gets the tables.")] = None,  # noqa: UP045
    plots: Annotated[Optional[Path], typer.Option(help="Folder for charts, as SVG.")] = None,  # noqa: UP045
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Time every stage beside this machine's own limit, and the peers on the same work, one core, all taking turns."""
    from latent_mpc.bench import BenchConfig
    from latent_mpc.bench import bench as run_bench
    from latent_mpc.bench_report import markdown, text, write_plots
    from latent_mpc.markdown_table import TableError, has_place, write_between

    config = BenchConfig(model, task, rounds, seed, peers, scaling, nodes)
    if document is not None and not has_place(document, TABLE):
        raise TableError(f"{document} has no place for the table: it needs the lines <!-- {TABLE} --> and <!-- end of {TABLE} -->")
    with stage_progress() as show:

        def report(stage: str) -> Callable[[int, int], None]:
            return lambda done, total: show(stage, done, total, {})

        result = run_bench(config, report)
    if json is not None:
        write_json(json, result)
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(markdown(result) + "\n")
    if document is not None:
        write_between(document, TABLE, markdown(result))
    if plots is not None:
        write_plots(plots, result)
    typer.echo(text(result))
