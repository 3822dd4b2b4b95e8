"""``latent-mpc train``, from nothing or from a bundle, and ``bench-training``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json
from latent_mpc.progress import progress, stage_progress

FINE_TUNING = "From a bundle"


class TrainCommandError(ValueError):
    """Options that contradict each other, with the reason in one line."""


def train(
    data: Annotated[list[Path], typer.Option(help="Data set; may be given several times. Validation episodes come from the first.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted run goes on.")],
    config: Annotated[Optional[Path], typer.Option(help="Training configuration, such as world_model/configs/push.yaml.")] = None,  # noqa: UP045
    world_model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Finished run whose encoder and predictor are kept."),
    ] = None,
    looks: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The first data set collected again with --randomise: the encoder learns to see the same in both."),
    ] = None,
    seed: Annotated[Optional[int], typer.Option(help="Seed of the training, in the place of the configuration's.")] = None,  # noqa: UP045
    from_: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--from", help="Bundle to go on from; --data may then be bags.", rich_help_panel=FINE_TUNING),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of fine-tuning.", min=1, rich_help_panel=FINE_TUNING)] = 1000,
    learning_rate: Annotated[float, typer.Option(help="Its largest learning rate.", rich_help_panel=FINE_TUNING)] = 2e-4,
    train_encoder: Annotated[bool, typer.Option("--train-encoder", help="Let encoder and heads learn, too.", rich_help_panel=FINE_TUNING)] = False,
    predictor: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Training configuration whose predictor learns in the place of the bundle's, from nothing.", rich_help_panel=FINE_TUNING),
    ] = None,
    horizon: Annotated[int, typer.Option(help="Steps ahead that the error is reported for.", min=1, rich_help_panel=FINE_TUNING)] = 10,
    episode_steps: Annotated[int, typer.Option(help="Actions of an episode that is cut from a bag.", min=1, rich_help_panel=FINE_TUNING)] = 20,
    robot: Annotated[str, typer.Option(help="Arm in the bag.", rich_help_panel=FINE_TUNING)] = "panda_stick",
    json: Annotated[Optional[Path], typer.Option("--json", help="Write the report to this file as well.", metavar="PATH")] = None,  # noqa: UP045
) -> None:
    """Train a world model, its critic and its actor; or, with --from, let a bundle go on learning from new data or from bags."""
    if from_ is not None:
        from world_model.config import read_config
        from world_model.training.fine_tune import FineTuning, fine_tune, open_loop_text

        refused = {"--config": config, "--world-model": world_model, "--looks": looks}
        for option, value in refused.items():
            if value is not None:
                raise TrainCommandError(f"{option} is for training from nothing: leave it out with --from, whose bundle says how it was made")
        settings = FineTuning(steps=steps, learning_rate=learning_rate, train_encoder=train_encoder, horizon=horizon, seed=seed or 0)
        other = None if predictor is None else read_config(predictor)
        sets = _bags_imported(from_, data, out, episode_steps, robot)
        with stage_progress() as report:
            found = fine_tune(from_, sets, out, settings, report, other)
        write_json(out / "fine_tuned.json", found)
        if json is not None:
            write_json(json, found)
        typer.echo(open_loop_text(found))
        return
    from dataclasses import replace

    from world_model.config import read_config
    from world_model.training import train as run_training

    if config is None:
        raise TrainCommandError("say how to train: --config FILE, or --from BUNDLE to go on from one")
    if predictor is not None:
        raise TrainCommandError(
            "--predictor learns on the latents of a bundle: name one with --from, or leave it out, for --config names a predictor"
        )
    asked = read_config(config)
    if seed is not None:
        asked = replace(asked, seed=seed)
    with stage_progress() as report:
        probes = run_training(asked, data, out, report, world_model, looks)
    if json is not None:
        write_json(json, probes)
    typer.echo(", ".join(f"{name} {value:.2f}" for name, value in probes.items()))


def _bags_imported(bundle: Path, data: list[Path], out: Path, steps: int, robot: str) -> list[Path]:
    """The data sets in ``data``; the bags in it become one of them, ``<out>-data``, with the bundle's actions and pictures."""
    bags = [folder for folder in data if _is_bag(folder)]
    if not bags:
        return data
    from latent_mpc.bag import BagError
    from latent_mpc.bag_data import BagImport, import_bags
    from latent_mpc.commands_dataset import description_of

    made = out.with_name(f"{out.name}-data")
    asked = BagImport(tuple(bags), None, made, steps, like=description_of(bundle), like_name=str(bundle), robot=robot, name=bundle.name)
    with progress("bags") as report:
        try:
            typer.echo(f"{made}: {import_bags(asked, report).text()}")
        except BagError as error:
            way = f"latent-mpc dataset from-bag {' '.join(map(str, bags))} --like {bundle} --out {made}"
            raise TrainCommandError(f"{error}. Topics, joints and times can be named with `{way} ...`; then give {made} as --data") from error
    return [made, *(folder for folder in data if folder not in bags)]


def _is_bag(path: Path) -> bool:
    from latent_mpc.bags.folder import METADATA, STORAGE_ENDINGS, storage_files

    if path.is_file():
        return path.name.endswith(STORAGE_ENDINGS)
    held = path.is_dir() and not (path / "dataset.json").is_file()
    return held and ((path / METADATA).is_file() or bool(storage_files(path)))


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
