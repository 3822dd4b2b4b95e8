"""``latent-mpc bench-guardrail``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json


def bench_guardrail(
    minutes: Annotated[float, typer.Option(min=0.05, max=1440.0, help="How long it runs.")] = 10.0,
    load: Annotated[Optional[int], typer.Option(min=0, max=64, help="Threads of the planner that keep a core busy; by default one per core.")] = None,  # noqa: UP045
    priority: Annotated[str, typer.Option(help="The guardrail's parameter: auto, realtime, nice or none.")] = "auto",
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """The guardrail's 100 Hz loop beside a planner that loads every core: missed cycles and jitter. Exit status 1 where a cycle was missed."""
    from latent_mpc.guard_loop import run_guard_loop

    result = run_guard_loop(60.0 * minutes, load, priority)
    if json is not None:
        write_json(json, result.to_json())
    typer.echo(
        f"{result.cycles} cycles in {result.seconds:.0f} s, {result.load} busy threads on {result.cores} cores, priority: {result.priority}\n"
        f"missed (above 20 ms): {result.late}; gaps above 20 ms between commands as received: {result.command_gaps}; false stops: {result.stops}\n"
        f"jitter p50 {result.jitter_ms_p50:.2f}, p99 {result.jitter_ms_p99:.2f}, max {result.jitter_ms_max:.2f} ms; "
        f"a cycle takes p50 {result.cycle_ms_p50:.2f}, p99 {result.cycle_ms_p99:.2f} ms; joint states p99 {result.joint_gap_ms_p99:.1f} ms apart\n"
        f"an empty loop of that priority beside it: {result.bare_late} ticks above 20 ms, jitter p99 {result.bare_jitter_ms_p99:.2f}, "
        f"max {result.bare_jitter_ms_max:.2f} ms; late together with it: {result.gaps_with_bare_late} of the {result.command_gaps} gaps; "
        f"the host took {result.stolen_s:.2f} s of processor time"
    )
    if not result.met:
        raise typer.Exit(1)
