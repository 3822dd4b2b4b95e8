"""``latent-mpc bag ...``: record, play, look into and recover bags. Further commands register themselves on ``bag``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from latent_mpc.json_file import write_json

bag = typer.Typer(name="bag", help="Recorded bags: record, play, look into, recover.", no_args_is_help=True)

Bag = Annotated[Path, typer.Argument(help="Bag folder, or one .mcap or .db3 file.", metavar="BAG")]
Json = Annotated[Optional[Path], typer.Option("--json", help="Write the results to this file as well.", metavar="PATH")]  # noqa: UP045


@bag.command()
def record(
    out: Annotated[Path, typer.Option(help="Folder of the bag; must not exist yet.")],
    profile: Annotated[str, typer.Option(help="everything, training or evaluation.")] = "everything",
    topic: Annotated[Optional[list[str]], typer.Option(help="Topic to record, in the place of the profile's; may be repeated.")] = None,  # noqa: UP045
    compression: Annotated[str, typer.Option(help="none, zstd or lz4.")] = "none",
    queue_mb: Annotated[float, typer.Option(help="MB that may wait for the disk; what is beyond is dropped and counted.")] = 64.0,
    split_mb: Annotated[float, typer.Option(help="MB after which the bag goes on in another file; 0: never.")] = 0.0,
    split_s: Annotated[float, typer.Option(help="s after which the bag goes on in another file; 0: never.")] = 0.0,
    flush_s: Annotated[float, typer.Option(help="s until what came is safe from the end of the recorder, however sudden.")] = 0.5,
    before: Annotated[float, typer.Option(help="Write only what triggers ask for, a guardrail that stops or ~/snapshot: so many s before it.")] = 0.0,
    after: Annotated[float, typer.Option(help="... and so many s after it.")] = 5.0,
    ring_mb: Annotated[float, typer.Option(help="MB that the s before a trigger may take; beyond it the oldest go.")] = 512.0,
    trigger_topic: Annotated[str, typer.Option(help="DiagnosticStatus whose message STOPPED is a trigger.")] = "/guardrail/status",
    domain: Annotated[Optional[int], typer.Option(help="ROS domain; by default that of the environment.")] = None,  # noqa: UP045
) -> None:
    """Record topics, as they come, until Ctrl-C."""
    from latent_mpc.bags.ros_arguments import parameters, use_domain
    from latent_mpc.recorder_node import main

    use_domain(domain)
    given: dict[str, object] = {
        "output": str(out),
        "profile": profile,
        "topics": list(topic or [""]),
        "compression": compression,
        "queue_mb": queue_mb,
        "split_mb": split_mb,
        "split_s": split_s,
        "flush_s": flush_s,
        "before_s": before,
        "after_s": after,
        "ring_mb": ring_mb,
        "trigger_topic": trigger_topic,
    }
    with parameters("recorder_node", given) as arguments:
        status = main(arguments)
    if status:
        raise typer.Exit(status)


@bag.command()
def info(path: Bag, json: Json = None) -> None:
    """Say what is inside a bag, whether it is whole, and whether it can train a model."""
    from latent_mpc.bags.info import summarize, summary_text

    summary = summarize(path)
    if json is not None:
        write_json(json, summary.to_json())
    typer.echo(summary_text(summary))


@bag.command()
def recover(
    path: Bag,
    out: Annotated[Path, typer.Option(help="Folder of the new bag; must not exist yet.")],
    compression: Annotated[str, typer.Option(help="none, zstd or lz4.")] = "none",
    json: Json = None,
) -> None:
    """Make a whole bag of what a killed recorder left; the original stays as it is."""
    from dataclasses import asdict

    from latent_mpc.bags.recover import recover as run_recover
    from latent_mpc.progress import progress

    with progress("files") as report:
        recovery = run_recover(path, out, compression, report)
    if json is not None:
        write_json(json, asdict(recovery))
    typer.echo(recovery.text())


@bag.command()
def play(
    path: Bag,
    rate: Annotated[float, typer.Option(help="How many times as fast as it was recorded.")] = 1.0,
    clock: Annotated[float, typer.Option(help="Publish /clock so many times a second; 0: not.", metavar="HZ")] = 0.0,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end, until q or Ctrl-C.")] = False,
    start_offset: Annotated[float, typer.Option(help="s of the recording to leave out.")] = 0.0,
    duration: Annotated[Optional[float], typer.Option(help="s of the recording to play; by default all.")] = None,  # noqa: UP045
    topic: Annotated[Optional[list[str]], typer.Option(help="Topic to play; may be repeated; by default all.")] = None,  # noqa: UP045
    remap: Annotated[Optional[list[str]], typer.Option(help="/old:=/new; may be repeated.")] = None,  # noqa: UP045
    delay: Annotated[float, typer.Option(help="s that subscribers have to find the publishers.")] = 0.5,
    paused: Annotated[bool, typer.Option("--paused", help="Begin paused.")] = False,
    domain: Annotated[Optional[int], typer.Option(help="ROS domain; by default that of the environment.")] = None,  # noqa: UP045
    json: Json = None,
) -> None:
    """Play a bag to topics. Space pauses, s or the right arrow steps, q quits."""
    import math
    from dataclasses import asdict

    from latent_mpc.bags.play import Playing, read_remaps
    from latent_mpc.bags.play import play as run_play
    from latent_mpc.bags.ros_arguments import use_domain
    from latent_mpc.processes import interrupted_by_sigterm

    use_domain(domain)
    lasts = math.inf if duration is None else duration
    asked = Playing(path, rate, clock, loop, start_offset, lasts, tuple(topic or ()), read_remaps(remap or ()), delay, paused)
    with interrupted_by_sigterm():
        played = run_play(asked, lambda line: typer.echo(line, err=True))
    if json is not None:
        write_json(json, asdict(played))
    typer.echo(played.text())
