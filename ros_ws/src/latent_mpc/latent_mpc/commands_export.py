"""``latent-mpc export`` and ``latent-mpc parity``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from latent_mpc.json_file import write_json
from latent_mpc.progress import progress

if TYPE_CHECKING:
    from world_model.precision.conversion import Asked, Fixed
    from world_model.score import ScoreSettings

FAILED_STATUS = 1

# typer reads these at run time, where Python 3.10 cannot look into `X | None` of a string.
JsonOption = Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")]  # noqa: UP045


def export(
    model: Annotated[Path, typer.Option(help="Folder of a finished training run, or a bundle.")],
    out: Annotated[Optional[Path], typer.Option(help="Bundle to write; models/<name of the run> by default.")] = None,  # noqa: UP045
    robot: Annotated[str, typer.Option(help="Arm that a training run's model moves.")] = "panda_stick",
    fp16: Annotated[bool, typer.Option("--fp16", help="Add graphs in fp16, with LayerNorm, softmax and sums in fp32.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Add graphs in int8: QDQ for TensorRT, dynamic scales for the CPU.")] = False,
    calibrate: Annotated[Optional[Path], typer.Option(help="Recorded episodes to calibrate and judge on, such as data/push.")] = None,  # noqa: UP045
    graph: Annotated[Optional[list[str]], typer.Option(help="Graph to convert, such as encoder; may be repeated.")] = None,  # noqa: UP045
    score: Annotated[bool, typer.Option("--score", help="Add score.onnx: rollout, cost and margins in one graph.")] = False,
    objective: Annotated[Optional[Path], typer.Option(help="Planner file whose critics score.onnx has.")] = None,  # noqa: UP045
    guardrail_head: Annotated[Optional[list[Path]], typer.Option(help="Folder of a guardrail head that score.onnx obeys; may be repeated.")] = None,  # noqa: UP045
    static: Annotated[Optional[list[str]], typer.Option(help="Add graphs of fixed shape N,H or N,H,Z; may be repeated.", metavar="N,H")] = None,  # noqa: UP045
    scenes: Annotated[int, typer.Option(help="Recorded scenes to judge on.")] = 100,
    task: Annotated[Optional[str], typer.Option(help="Task to play; the bundle's first one by default.")] = None,  # noqa: UP045
    episodes: Annotated[int, typer.Option(help="Episodes to play with every precision beside fp32; 0 for none.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of scenes and episodes.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that play; results do not depend on their number.")] = 2,
    json: JsonOption = None,
) -> None:
    """Write a model bundle of ONNX graphs, each checked against torch; one that fails its gate is not written."""
    from world_model.precision.conversion import Asked

    target = out or (Path("models") / model.name if not (model / "manifest.json").is_file() else None)
    if target is None:
        raise ValueError("say with --out where the bundle is to be written")
    precisions = (("fp16",) if fp16 else ()) + (("int8", "int8_dynamic") if int8 else ())
    fixed = tuple(_shape(text) for text in static or ())
    settings = _settings(objective) if score else None
    asked = Asked(precisions, tuple(graph or ()), settings, fixed, calibrate, scenes, seed=seed, heads=tuple(guardrail_head or ()))
    if episodes:
        from dataclasses import replace

        from latent_mpc.precision_loop import ClosedLoop

        asked = replace(asked, play=ClosedLoop(task, episodes, seed, workers))
    finished = (model / "manifest.json").is_file()
    report = _convert(model, target, asked) if finished else _export_run(model, target, robot, asked)
    if json is not None:
        write_json(json, {"bundle": str(target), **report})


def _export_run(run: Path, target: Path, robot: str, asked: Asked) -> dict[str, Any]:
    from arm_model import load_arm
    from world_model.export import export_bundle

    if not asked.precisions and asked.score is None and not asked.fixed and not asked.heads:
        gaps = export_bundle(run, target, load_arm(robot).joints)
        typer.echo(f"{target}: " + ", ".join(f"{name} within {gap:.1e} of torch" for name, gap in gaps.items()))
        return {"largest_difference": gaps}
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / target.name
        gaps = export_bundle(run, plain, load_arm(robot).joints)
        return {"largest_difference": gaps, **_convert(plain, target, asked)}


def _convert(bundle: Path, target: Path, asked: Asked) -> dict[str, Any]:
    from world_model.precision.conversion import convert
    from world_model.precision.table import table

    report = convert(bundle, target, asked)
    typer.echo(f"{target}\n{table(report)}")
    return report


def _shape(text: str) -> Fixed:
    from world_model.precision.conversion import Fixed

    try:
        return Fixed(*(int(number) for number in text.split(",")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"--static {text}: give N,H or N,H,Z, for example 300,5 ({error})") from error


def _settings(objective: Path | None) -> ScoreSettings:
    from planner_node.assembly import PlannerConfig
    from planner_node.planner_file import with_planner_file
    from planner_node.solvers.registry import solver_kind
    from world_model.score import ScoreSettings

    config = PlannerConfig() if objective is None else with_planner_file(PlannerConfig(), str(objective))
    critics = solver_kind(config.solver).critics if config.critics is None else config.critics
    return ScoreSettings.of_critics(critics, config.pace, config.clearance_m)


def parity(
    model: Annotated[Path, typer.Option(help="Model bundle.")],
    precision: Annotated[Optional[list[str]], typer.Option(help="Precision to play with; may be repeated.")] = None,  # noqa: UP045
    task: Annotated[Optional[str], typer.Option(help="Task to play; the bundle's first one by default.")] = None,  # noqa: UP045
    episodes: Annotated[int, typer.Option(help="Episodes to play with each precision and with fp32.")] = 100,
    seed: Annotated[int, typer.Option(help="Evaluation seed.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; results do not depend on their number.")] = 2,
    record: Annotated[bool, typer.Option("--record", help="Write the results into the bundle's parity.json.")] = False,
    json: JsonOption = None,
) -> None:
    """Show what was measured of a bundle's graphs; with --precision, play the same episodes with it and with fp32."""
    from world_model.bundle import read_manifest
    from world_model.precision.record import read_parity
    from world_model.precision.table import played_line, table

    manifest = read_manifest(model)
    results: dict[str, Any] = {}
    if not precision:
        results = read_parity(model)
        typer.echo(table(results))
    else:
        from latent_mpc.precision_loop import ClosedLoop
        from world_model.precision.conversion import as_plain
        from world_model.precision.gates import POINTS
        from world_model.precision.record import record_played

        precision = list(dict.fromkeys(precision))
        for name in precision:
            manifest.graph("encoder", name)
        if record:
            read_parity(model)  # before hours of playing, not after
        with progress("episodes") as report, tempfile.TemporaryDirectory() as folder:
            play = ClosedLoop(task, episodes, seed, workers, report)
            for name in precision:
                plain = as_plain(model, name, Path(folder) / f"{model.name}-{name}", faithful=True)
                results[name] = play(model, plain)
                typer.echo(played_line(name, results[name]))
        if record:
            record_played(model, results)
    if json is not None:
        write_json(json, results)
    if precision and any(played["success_percent"] < played["fp32_success_percent"] - POINTS for played in results.values()):
        raise typer.Exit(FAILED_STATUS)
