"""``latent-mpc compare-exploration``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.progress import stage_progress

TABLE = "compare-exploration"


def compare_exploration(
    out: Annotated[Path, typer.Option(help="Folder for data, runs, bundles and results; what it holds already is not done again.")],
    mixes: Annotated[
        str, typer.Option(help="Shares of random walks and of starts near the block: random-walk:near-block, separated by commas.")
    ] = "0.2:0.4,0:0.4,0.5:0.4,1:0.4,0.2:0,0.2:0.8",
    steps: Annotated[int, typer.Option(help="Transitions of each mix; rounded up to whole shards of 1000.")] = 60_000,
    config: Annotated[Path, typer.Option(help="Training configuration.")] = Path("world_model/configs/push.yaml"),
    episodes: Annotated[int, typer.Option(help="Episodes for each evaluation seed and task.")] = 100,
    seed: Annotated[Optional[list[int]], typer.Option(help="Evaluation seed; may be given several times.")] = None,  # noqa: UP045
    workers: Annotated[int, typer.Option(help="Processes that collect and play.")] = 2,
    document: Annotated[Optional[Path], typer.Option(help=f"Markdown file with the markers <!-- {TABLE} --> that gets the table.")] = None,  # noqa: UP045
) -> None:
    """Collect, train and evaluate push with each mix of exploration."""
    from latent_mpc.compare_exploration import Comparison, ComparisonError, compare, comparison_table, parse_mixes
    from latent_mpc.markdown_table import TableError, has_place, write_between
    from world_model.config import read_config

    if min(steps, episodes, workers) < 1:
        raise ComparisonError(f"steps, episodes and workers must be at least 1, not {steps}, {episodes} and {workers}")
    if document is not None and not has_place(document, TABLE):
        raise TableError(f"{document} has no place for the table: it needs the lines <!-- {TABLE} --> and <!-- end of {TABLE} -->")
    comparison = Comparison(parse_mixes(mixes), steps, read_config(config), out, episodes, tuple(seed or [0]), workers)
    with stage_progress() as report:
        rows = compare(comparison, report)
    text = comparison_table(comparison, rows)
    if document is not None:
        write_between(document, TABLE, text)
    typer.echo(text)
