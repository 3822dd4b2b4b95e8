"""``latent-mpc bench-nodes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json


def bench_nodes(
    minutes: Annotated[float, typer.Option(min=0.05, max=1440.0, help="How long it runs in all; each rate gets an equal share.")] = 10.0,
    rate: Annotated[Optional[list[float]], typer.Option(help="Camera frames a second; may be given again. By default 10, 20 and 30.")] = None,  # noqa: UP045
    task: Annotated[str, typer.Option(help="reach, push or another simulated task.")] = "push",
    model: Annotated[Optional[Path], typer.Option(help="Model bundle; by default the shipped one for the task.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="Evaluation seed that starts and goals are drawn from.")] = 0,
    record: Annotated[bool, typer.Option(help="Record a bag meanwhile, as the demo does.")] = False,
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """All nodes as processes: plans a second, camera frame to command, deadline misses, delivered frames, cores and memory, at each rate."""
    from latent_mpc.node_loop import NodeLoopFailedError, run_node_loop

    try:
        result = run_node_loop(60.0 * minutes, rate or [10.0, 20.0, 30.0], task, model, seed, record, say=lambda text: typer.echo(text, err=True))
    except NodeLoopFailedError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if json is not None:
        write_json(json, result.to_json())
    typer.echo(f"{result.task}, {result.model}, {result.machine_cores} cores")
    for row in result.rates:
        spread = " ".join(f"{name} {value:.1f}" for name, value in row.frame_to_command_ms.items() if value is not None)
        typer.echo(
            f"{row.rate_hz:g} Hz, {row.episodes} episodes ({row.reached} reached), {row.seconds:.0f} s of pursuit, {row.frames} frames\n"
            f"  {row.plans_per_second:.2f} plans/s; frame to command, ms: {spread}; delivered {row.delivered_percent:.2f} %\n"
            f"  deadline misses (no command within {row.period_ms:.1f} ms): {row.deadline_misses_percent:.2f} % ({row.deadline_misses} frames, "
            f"{row.without_command} of them without any); rejected plans {row.rejected_plans}, missed cycles {row.missed_cycles}\n"
            f"  ms from the frame's stamp, p50/p99: {', '.join(f'{hop} {_pair(values)}' for hop, values in row.hops.items())}; "
            f"a service of the planner answers in {_pair(row.planner_answer_ms)}\n"
            f"  cores: {', '.join(f'{name} {cores:.2f}' for name, cores in row.cores.items())}; "
            f"MB: {', '.join(f'{name} {mb:.0f}' for name, mb in row.memory_mb.items())}"
        )


def _pair(values: dict[str, float | None]) -> str:
    p50, p99 = values["p50"], values["p99"]
    return "-" if p50 is None or p99 is None else f"{p50:.1f}/{p99:.1f}"
