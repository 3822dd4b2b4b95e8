"""``latent-mpc pretrain`` and ``latent-mpc compare-objectives``: encoders without actions, and what keeps latents from collapsing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.progress import stage_progress


def pretrain(
    config: Annotated[Path, typer.Option(help="Configuration of the pre-training, such as world_model/configs/dino.yaml.")],
    data: Annotated[list[Path], typer.Option(help="Data set; may be given several times. The episodes that judge come from the first.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run goes on. OUT/encoder is for the encoder kind dinov2.")],
) -> None:
    """Pre-train an encoder on frames alone, by DINO self-distillation."""
    from world_model.pretraining import pretrain as run_pretraining
    from world_model.pretraining import read_pretrain_config

    settings = read_pretrain_config(config)
    with stage_progress() as report:
        result = run_pretraining(settings, data, out, report)
    for features, parts in result["linear_probe_r2"].items():
        typer.echo(f"R2 of a linear probe, {features}: " + ", ".join(f"{part} {value:.3f}" for part, value in parts.items()))
    encoder = f"source: {out / 'encoder'}, size: {settings.architecture.size}"
    typer.echo(f"model.encoder: {{kind: dinov2, {encoder}}} as it is, {{kind: vit, {encoder}}} to be trained on")


def compare_objectives(
    data: Annotated[list[Path], typer.Option(help="Data set with ground truth; may be given several times.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; objectives that it holds already are not done again.")],
    config: Annotated[Path, typer.Option(help="Training configuration; all but its objective is the same for each.")] = Path(
        "world_model/configs/push.yaml"
    ),
    objective: Annotated[Optional[list[str]], typer.Option(help="Kind of objective; may be given several times. All by default.")] = None,  # noqa: UP045
    steps: Annotated[Optional[int], typer.Option(help="Steps of the world model; by default those of the configuration.")] = None,  # noqa: UP045
    episodes: Annotated[int, typer.Option(help="Episodes of each task for each seed.")] = 100,
    seed: Annotated[Optional[list[int]], typer.Option(help="Evaluation seed; may be given several times.")] = None,  # noqa: UP045
    task: Annotated[Optional[list[str]], typer.Option(help="Task; may be given several times. Those of the configuration by default.")] = None,  # noqa: UP045
    workers: Annotated[int, typer.Option(help="Processes that play episodes.")] = 1,
    page: Annotated[Path, typer.Option(help="Markdown page with two markers, between which the table is put.")] = Path("docs/objectives.md"),
) -> None:
    """Train the same world model with each objective against collapse and with none; compare latents and success."""
    from latent_mpc.compare_objectives import Comparison, compare
    from latent_mpc.objective_table import objective_table, put_table
    from world_model.config import read_config
    from world_model.objectives import KINDS, ObjectiveConfig

    base = read_config(config)
    if steps is not None:
        base = replace(base, jepa=replace(base.jepa, steps=steps))
    kinds = objective or list(KINDS)
    chosen = tuple(base.jepa.objective if kind == base.jepa.objective.kind else ObjectiveConfig(kind) for kind in kinds)
    asked = Comparison(base, chosen, tuple(data), out, episodes, tuple(seed or [0]), tuple(task or ()), workers)
    with stage_progress() as report:
        rows = compare(asked, report)
    put_table(page, objective_table(rows))
    typer.echo(objective_table(rows))
