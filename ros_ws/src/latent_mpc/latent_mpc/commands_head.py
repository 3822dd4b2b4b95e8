"""``latent-mpc head ...``: small heads on the latents of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json
from latent_mpc.progress import progress, stage_progress

head = typer.Typer(name="head", help="Heads on the latent from few labelled frames, and what they are worth.", no_args_is_help=True)

_Model = Annotated[Path, typer.Option("--model", help="Model bundle, or a finished training run.")]
_Json = Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")]  # noqa: UP045


@head.command()
def fit(
    model: _Model,
    data: Annotated[Path, typer.Option(help="Data set; for a depth head what `latent-mpc head depth-data` wrote.")],
    kind: Annotated[str, typer.Option(help="guardrail, probe, goal-cost or depth.")],
    out: Annotated[Path, typer.Option(help="Folder of the head; an earlier head in it is replaced.")],
    label: Annotated[str, typer.Option(help='Rule of what is forbidden, such as "block_x > 0.60", or a CSV file of labels.')] = "",
    samples: Annotated[int, typer.Option(help="Labelled frames to learn from.")] = 200,
    miss_rate: Annotated[float, typer.Option(help="Share of trajectories with an unsafe frame of which one may be taken for safe.")] = 0.05,
    target: Annotated[str, typer.Option(help="auto: a rule's distances; class: only whether a frame is forbidden.")] = "auto",
    choice: Annotated[
        str, typer.Option(help="Frames of a guardrail: uniform, or uncertain: half of them where a first head is least sure.")
    ] = "uniform",
    episodes: Annotated[int, typer.Option(help="Episodes to look at, at most: 40 % teach, 30 % calibrate, 30 % test.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the split, of the frames that are drawn, and of the fit.")] = 0,
    json: _Json = None,
) -> None:
    """Fit a head on the frozen latent and measure it on episodes that it never saw."""
    from dataclasses import asdict

    from world_model.heads.fit import HeadRequest, fit_head

    request = HeadRequest(model, data, kind, label, out, samples, miss_rate, target, choice, episodes, seed)
    with stage_progress() as report:
        card = fit_head(request, report)
    if json is not None:
        write_json(json, asdict(card))
    typer.echo(f"{out}: {card.kind} head from {card.samples} frames")
    if card.threshold is not None:
        typer.echo(
            f"AUROC {card.auroc}, {card.figures['missed']} of {card.figures['trajectories']} fresh trajectories missed "
            f"(asked for {card.miss_rate:g}, calibrated on {card.calibration_trajectories}), {100 * card.figures['false_alarms']:.1f} % false alarms"
        )
    else:
        typer.echo("\n".join(f"{name}: {_shown(value)}" for name, value in card.figures.items()))


@head.command()
def curve(
    model: _Model,
    data: Annotated[Path, typer.Option(help="Data set with recorded state; best one that the model was not trained on.")],
    out: Annotated[Path, typer.Option(help="Results as JSON.")],
    samples: Annotated[Optional[list[int]], typer.Option(help="Labelled frames; may be given several times.")] = None,  # noqa: UP045
    draws: Annotated[int, typer.Option(help="Draws of the labelled frames for each number.")] = 5,
    episodes: Annotated[int, typer.Option(help="Episodes to look at, at most.")] = 1000,
    miss_rate: Annotated[Optional[list[float]], typer.Option(help="Miss rate to calibrate to; may be given several times.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
) -> None:
    """How good a guardrail head is from how few labelled frames, and whether its misses stay within the calibrated bound."""
    from latent_mpc.head_curve import CurveRequest, curve_table, head_curve

    request = CurveRequest(model, data, tuple(samples or (20, 50, 100, 200, 500, 1000)), draws, tuple(miss_rate or (0.05, 0.1)), episodes, seed)
    with stage_progress() as report:
        result = head_curve(request, report)
    write_json(out, result)
    typer.echo(curve_table(result))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:.3f}" for name, number in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@head.command("compare-distances")
def compare_distances(
    model: _Model,
    data: Annotated[Path, typer.Option(help="Data set; a tenth of the episodes is held out.")],
    out: Annotated[Path, typer.Option(help="Folder for a bundle with each distance, and outcomes.")] = Path("runs/distances"),
    kind: Annotated[Optional[list[str]], typer.Option(help="expectile, qrl or contrastive; may be given several times. All by default.")] = None,  # noqa: UP045
    task: Annotated[str, typer.Option(help="Task of the closed loop.")] = "push-far",
    episodes: Annotated[int, typer.Option(help="Episodes for each evaluation seed; 0 measures rank correlations only.")] = 100,
    seed: Annotated[Optional[list[int]], typer.Option(help="Evaluation seed; may be given several times.")] = None,  # noqa: UP045
    policy: Annotated[Optional[list[str]], typer.Option(help="Who plays: cem and planner by default.")] = None,  # noqa: UP045
    manifest: Annotated[Optional[Path], typer.Option(help="Starts and goals: read if the file exists, else drawn and written.")] = None,  # noqa: UP045
    look_at: Annotated[int, typer.Option(help="Episodes of the data to look at, at most.")] = 2000,
    steps: Annotated[int, typer.Option(help="Steps of each fit.")] = 4000,
    workers: Annotated[int, typer.Option(help="Processes of the closed loop.")] = 2,
    json: _Json = None,
) -> None:
    """Fit temporal distances on the same latents and compare them by rank correlation and by success."""
    from latent_mpc.compare_distances import Comparison, distances_table
    from latent_mpc.compare_distances import compare_distances as compare
    from world_model.config import DistanceConfig
    from world_model.heads.distance import DISTANCES

    kinds, policies = tuple(kind or DISTANCES), tuple(policy or ("cem", "planner"))
    settings = DistanceConfig(steps=steps)
    asked = Comparison(
        model, data, out, kinds, task, episodes, tuple(seed or [0]), policies, manifest, most_episodes=look_at, workers=workers, settings=settings
    )
    with stage_progress() as report:
        result = compare(asked, report)
    if json is not None:
        write_json(json, result)
    typer.echo(distances_table(result))


@head.command("depth-data")
def depth_data(
    task: Annotated[str, typer.Option(help="Simulated task whose scene is looked at.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier collection in it is replaced.")],
    frames: Annotated[int, typer.Option(help="Pictures to take.")] = 1500,
    seed: Annotated[int, typer.Option(help="Seed of the exploring episodes.")] = 0,
) -> None:
    """Take pictures with their depth in simulation, for a depth head."""
    from latent_mpc.depth_data import DepthCollection, collect_depth

    if frames < 1:
        raise ValueError(f"frames is {frames}, must be at least 1")
    with progress("pictures") as report:
        collect_depth(DepthCollection(task, frames, seed, out), report)
