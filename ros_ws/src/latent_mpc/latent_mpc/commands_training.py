"""What the command line offers about training beside ``train`` itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json
from latent_mpc.progress import progress


def bench_training(
    data: Annotated[list[Path], typer.Option(help="Data set; may be given several times.")],
    config: Annotated[Path, typer.Option(help="Training configuration.")] = Path("world_model/configs/push.yaml"),
    rounds: Annotated[int, typer.Option(help="Rounds in which a training step and the bare loop take turns.", min=1)] = 20,
    threads: Annotated[Optional[int], typer.Option(help="Threads; the configuration's by default.", min=1)] = None,  # noqa: UP045
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Time training steps beside a bare loop of their matrix products: frames per second, and the share of the machine's speed."""
    from dataclasses import replace

    from world_model.config import read_config
    from world_model.training.throughput import measure_throughput

    settings = read_config(config)
    with progress("rounds") as report:
        found = measure_throughput(settings if threads is None else replace(settings, threads=threads), data, rounds, report).to_json()
    if json is not None:
        write_json(json, found)
    typer.echo(
        f"{found['frames_per_second']:.0f} frames/s at {found['gflops']:.1f} GFLOP/s; a bare loop of the same matrix products reaches "
        f"{found['roof_gflops']:.1f} GFLOP/s: {100 * found['ratio_to_roof']:.0f} %"
    )
