"""``latent-mpc collect``: episodes of a simulated task, of any Gymnasium environment, or from recorded bags."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.progress import progress

EPISODES_PER_SHARD = 25
TASK, ENVIRONMENT, BAGS = "Simulated tasks", "Gymnasium environments", "Bags"


class CollectError(ValueError):
    """A collection that was not said clearly."""


def collect(
    out: Annotated[Path, typer.Option(help="Folder of the data set; shards that it holds already are kept.")],
    steps: Annotated[int, typer.Option(help="Actions to record; rounded up to whole shards of 25 episodes.")] = 100_000,
    workers: Annotated[int, typer.Option(help="Processes; the data do not depend on their number.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the collection.")] = 0,
    episode_steps: Annotated[int, typer.Option(help="Actions of an episode.")] = 40,
    task: Annotated[Optional[str], typer.Option(help="reach, push or push-far.", rich_help_panel=TASK)] = None,  # noqa: UP045
    random_walk: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Share of the episodes that walk at random; all others follow the script. 0.2 by default.", rich_help_panel=TASK),
    ] = None,
    near_block: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Share of the episodes that start beside the block. 0.4 by default.", rich_help_panel=TASK),
    ] = None,
    randomise: Annotated[
        float, typer.Option(help="Share of episodes with camera, light, colours and a distractor drawn anew.", rich_help_panel=TASK)
    ] = 0.0,
    take_over: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Bundle whose actor begins each episode before the script takes over.", rich_help_panel=TASK),
    ] = None,
    env: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Environment with RGB pictures and a Box of actions, such as my_package:MyEnv-v0.", rich_help_panel=ENVIRONMENT),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="random, or module:callable for policy(observation, rng) -> action.", rich_help_panel=ENVIRONMENT)
    ] = "random",
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.", rich_help_panel=ENVIRONMENT)] = 64,
    camera: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Key of the observation that holds the picture.", rich_help_panel=ENVIRONMENT),
    ] = None,
    env_args: Annotated[str, typer.Option(help="Keyword arguments of the environment, as JSON.", rich_help_panel=ENVIRONMENT)] = "{}",
    bag: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Recorded bag; may be given several times. --task says what was recorded.", rich_help_panel=BAGS),
    ] = None,
) -> None:
    """Collect episodes: simulated (--task), of any Gymnasium environment (--env), or from recorded bags (--bag)."""
    at_least_one = {"steps": steps, "workers": workers, "episode-steps": episode_steps}
    for name, value in at_least_one.items():
        if value < 1:
            raise CollectError(f"{name} is {value}, must be at least 1")
    if bag:
        from latent_mpc.bag_data import BagImport, import_bags

        if task is None or env is not None:
            raise CollectError(
                "say which task the bags recorded: --task reach, push or push-far, and no --env; `latent-mpc dataset from-bag` needs no task"
            )
        with progress("bags") as report:
            typer.echo(import_bags(BagImport(tuple(bag), task, out, steps=episode_steps), report).text())
        return
    if (task is None) == (env is None):
        raise CollectError("say what to collect: either --task or --env")
    if task is not None:
        from latent_mpc.collect import Collection
        from latent_mpc.collect import collect as run_collection
        from sim.exploration import ExplorationMix

        usual = ExplorationMix()
        mix = ExplorationMix(
            usual.random_walk if random_walk is None else random_walk,
            usual.near_block if near_block is None else near_block,
        )
        shards = math.ceil(steps / (episode_steps * EPISODES_PER_SHARD))
        with progress("collecting") as report:
            run_collection(Collection(task, shards, seed, out, take_over, steps=episode_steps, randomised=randomise, mix=mix), workers, report)
    elif env is not None:
        from latent_mpc.environment import EnvironmentConfig
        from latent_mpc.environment_collect import EnvironmentCollection, collect_environment

        environment = EnvironmentConfig(env, size, camera, _arguments(env_args))
        shards = math.ceil(steps / (episode_steps * EPISODES_PER_SHARD))
        with progress("collecting") as report:
            collect_environment(EnvironmentCollection(environment, shards, seed, out, policy, steps=episode_steps), workers, report)


def _arguments(text: str) -> dict[str, object]:
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise CollectError(f"--env-args {text!r} is not a JSON object: {error}") from error
