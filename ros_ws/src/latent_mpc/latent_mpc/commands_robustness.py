"""``latent-mpc robustness``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json
from latent_mpc.progress import stage_progress


def robustness(
    model: Annotated[Path, typer.Option(help="Model bundle.")],
    task: Annotated[str, typer.Option(help="reach, push or push-far.")],
    episodes: Annotated[int, typer.Option(help="Episodes for each seed and variant.")] = 100,
    seed: Annotated[Optional[list[int]], typer.Option(help="Evaluation seed; may be given several times.")] = None,  # noqa: UP045
    policy: Annotated[Optional[list[str]], typer.Option(help="planner, actor, cem, random, oracle.")] = None,  # noqa: UP045
    workers: Annotated[int, typer.Option(help="Processes; results do not depend on their number.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the outcomes, as JSON lines.")] = Path("runs/robustness"),
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Play the same episodes with camera, light and colours changed, a distractor, a goal picture without the arm, and further goals."""
    from latent_mpc.evaluate import Evaluation
    from latent_mpc.robustness import robustness as run_robustness
    from latent_mpc.robustness import table

    asked = Evaluation(model, task, episodes, tuple(seed or [0]), tuple(policy or ("planner", "actor", "random")), workers=workers)
    with stage_progress() as report:
        result = run_robustness(asked, out, report)
    if json is not None:
        write_json(json, result)
    typer.echo(table(result))
