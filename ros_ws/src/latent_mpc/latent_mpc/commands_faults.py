"""``latent-mpc faults``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json

TABLE = "faults"


def faults(
    scenario: Annotated[Optional[list[str]], typer.Option(help="Scenario to play; may be given several times; by default all.")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="Folder for bags and logs; by default runs/faults-<time>.")] = None,  # noqa: UP045
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
    judge: Annotated[Optional[Path], typer.Option(help="Play nothing; judge the bags that an earlier run left in this folder.")] = None,  # noqa: UP045
    add: Annotated[bool, typer.Option("--add", help="Keep what the JSON file holds of other scenarios, also for the page.")] = False,
    page: Annotated[Optional[Path], typer.Option(help=f"Markdown page with the markers <!-- {TABLE} --> that gets the table.")] = None,  # noqa: UP045
) -> None:
    """Do the real nodes harm, over DDS, and check what was published: the fault table with what was measured."""
    from latent_mpc.faults import Result, judge_again, run_faults, scenarios, table, with_earlier
    from latent_mpc.markdown_table import TableError, has_place, write_between

    if page is not None and not has_place(page, TABLE):
        raise TableError(f"{page} has no place for a table: it needs the lines <!-- {TABLE} --> and <!-- end of {TABLE} -->")

    def report(result: Result) -> None:
        lines = [
            f"{'met    ' if result.met else 'NOT MET'} {result.scenario.name} ({result.seconds:.0f} s){': ' + result.broken if result.broken else ''}"
        ]
        lines += [f"        {'ok ' if f.met else 'NOT'} {name}: {f.measured}" for name, f in result.findings.items()]
        typer.echo("\n".join(lines))

    folder = out or Path("runs", f"faults-{time.strftime('%Y%m%d-%H%M%S')}")
    chosen = scenarios(scenario or ())
    results = run_faults(chosen, folder, report=report) if judge is None else judge_again(chosen, judge, report)
    entries = with_earlier(results, json) if add and json is not None else [result.to_json() for result in results]
    if json is not None:
        write_json(json, {"scenarios": entries, "met": all(entry["met"] for entry in entries)})
    if page is not None:
        write_between(page, TABLE, table(entries))
    typer.echo(f"{sum(result.met for result in results)} of {len(results)} scenarios met; bags and logs in {judge or folder}")
    if not all(result.met for result in results):
        raise typer.Exit(1)
