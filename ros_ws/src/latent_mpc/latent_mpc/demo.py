"""The demo: every node as a process of its own, episodes over ROS 2, and what came of them on disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from arm_model import load_arm
from latent_mpc.bringup import SHIPPED_MODELS, find_shared, node_command
from latent_mpc.check_bag import check_bag
from latent_mpc.demo_screen import Screen
from latent_mpc.director import NODES, Director, DirectorError, EpisodeRun, Placed
from latent_mpc.domains import LARGEST, DomainError, is_quiet, quiet_domain
from latent_mpc.episodes import episode_seed
from latent_mpc.json_file import write_json
from latent_mpc.outcome import SUMMARY, EpisodeOutcome, GuardrailCounts, Pass, Spread, Summary
from latent_mpc.processes import NodeCommand, NodeDiedError, NodeInputError, Processes, interrupted_by_sigterm
from latent_mpc.recording import read_recording
from latent_mpc.report import write_report
from latent_mpc.staging import staged
from latent_mpc.video import read_footage, write_episodes, write_side_by_side
from latent_mpc.walls import WALL, WALLED, clearance_m, sim_task, wall_between, zones_text
from planner_node.assembly import MODES
from planner_node.guardrails.zone import Zone
from sim.tasks import TASKS, task_named
from world_model.bundle import read_manifest

DEMO_TASKS = (*TASKS, WALL)
_BAG, _VIDEO, _REPORT, _LOGS = "bag", "episode.mp4", "report.html", "logs"
_THIS_MACHINE_ONLY = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
# Among so many seeds in a row one always has room for a wall.
_MOST_SEEDS_PER_WALL = 50


class DemoError(ValueError):
    """A demo that cannot be run as asked, with the reason in one line."""


class DemoFailedError(RuntimeError):
    """A demo that broke down on the way, with the reason in one line."""


@dataclass(frozen=True)
class DemoConfig:
    """What to show.

    ``model``: a bundle folder, by default the shipped one for the task. ``domain``: the ROS domain, by default one that nobody uses. ``view`` opens
    PyBullet's window. ``bag`` False records nothing, which also means no limit check, no video and no report; ``report`` False leaves out the
    last two. ``mode`` is the planner's.
    """

    task: str
    episodes: int
    seed: int
    out: Path
    model: Path | None = None
    domain: int | None = None
    view: bool = False
    bag: bool = True
    report: bool = True
    mode: str = "planner"


def run_demo(config: DemoConfig, console: Console | None = None) -> Summary:
    """Run it and write ``config.out``: ``summary.json``, ``logs/``, and unless told otherwise ``bag/``, ``episode.mp4`` and ``report.html``.

    Raises:
        ValueError: bad input, in one line: of ours or of a node.
        DemoFailedError: a node died, or did not do what the episode protocol asks; the reason is one line.
        KeyboardInterrupt: it was interrupted. In each of these cases all nodes are stopped and nothing is left in ``config.out``.
    """
    model = _check(config)
    os.environ.update(_THIS_MACHINE_ONLY)
    console = console or Console()
    with staged(config.out, SUMMARY) as folder, interrupted_by_sigterm():
        domain = _domain(config.domain)
        commands = _commands(config, model, folder)
        processes = Processes(commands, {"ROS_DOMAIN_ID": str(domain)}, folder / _LOGS)
        try:
            with _in_one_line(), Director(domain, processes.check) as director, Screen(console, _count(config)) as screen:
                director.wait_for_nodes(tuple(command.name for command in commands))
                episodes = _episodes(config, director, screen)
                result, without_zones = _passes(config, director, screen, episodes)
        finally:
            statuses = processes.stop()
        if statuses.get("recorder_node"):
            raise DemoError(processes.last_line("recorder_node"))
        summary = Summary(config.task, str(model), result, without_zones=without_zones)
        if config.bag:
            console.print("[dim]checking the bag, making film and report[/]" if config.report else "[dim]checking the bag[/]")
            summary = _examine(summary, [zone for _, zone in episodes], folder, config)
        write_json(folder / SUMMARY, summary.to_json())
    return summary


def judge(placed: Placed, run: EpisodeRun, zone: Zone | None) -> EpisodeOutcome:
    """Success is being within the task's tolerance at the end, without having been inside the zone at any time."""
    clearance = None if zone is None else clearance_m(zone, run.tool_path)
    entered = clearance is not None and clearance < 0.0
    reached = run.final_distance_m <= placed.tolerance_m
    return EpisodeOutcome(
        seed=placed.seed,
        success=reached and not entered and not run.cut_short,
        start_distance_m=placed.start_distance_m,
        final_distance_m=run.final_distance_m,
        steps=run.steps,
        seconds=run.seconds,
        outcome=run.cut_short or ("went through the wall" if entered else "reached" if reached else "missed"),
        clearance_m=clearance,
    )


def _check(config: DemoConfig) -> Path:
    """The model folder; bad input ends here, before anything is started."""
    if config.task not in DEMO_TASKS:
        raise DemoError(f"unknown task '{config.task}'; choose one of {', '.join(DEMO_TASKS)}")
    if config.episodes < 1:
        raise DemoError(f"episodes is {config.episodes}, must be at least 1")
    if config.seed < 0:
        raise DemoError(f"seed is {config.seed}, must be at least 0")
    if config.mode not in MODES:
        raise DemoError(f"unknown mode '{config.mode}'; choose one of {', '.join(MODES)}")
    task = sim_task(config.task)
    model = find_shared(config.model or SHIPPED_MODELS[task])
    manifest = read_manifest(model)
    if task not in manifest.tasks:
        raise DemoError(f"{model} was trained for {', '.join(manifest.tasks)}, not for {task}")
    return model


def _count(config: DemoConfig) -> int:
    return config.episodes * (2 if config.task == WALL else 1)


def _domain(asked: int | None) -> int:
    if asked is None:
        return quiet_domain()
    if not 0 <= asked <= LARGEST:
        raise DomainError(f"ROS domain is {asked}, must lie between 0 and {LARGEST}")
    # Somebody who only looks on, such as RViz, is welcome; a second set of our nodes is not.
    if not is_quiet(asked):
        with Director(asked, lambda: None) as director:
            ours = director.look_around()
        if ours:
            raise DomainError(f"ROS domain {asked} is in use: {', '.join(ours)} already run there; choose another with --domain, or none")
    return asked


def _commands(config: DemoConfig, model: Path, folder: Path) -> list[NodeCommand]:
    task = sim_task(config.task)
    commands = [
        node_command("sim_node", task=task, gui=config.view),
        node_command("perception_node", model=str(model)),
        node_command("planner_node", model=str(model), steps=task_named(task).steps, mode=config.mode),
        node_command("guardrail_node"),
    ]
    if config.bag:
        commands.append(node_command("recorder_node", output=str(folder / _BAG)))
    assert {command.name for command in commands} <= set(NODES)
    return commands


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """What nodes do wrong, as what a demo does wrong."""
    try:
        yield
    except NodeInputError as error:
        raise DemoError(str(error)) from error
    except (NodeDiedError, DirectorError) as error:
        raise DemoFailedError(str(error)) from error


def _episodes(config: DemoConfig, director: Director, screen: Screen) -> list[tuple[int, Zone | None]]:
    """Seeds; for the wall task only those whose start and goal leave room for a wall between them, with the wall."""
    if config.task != WALL:
        return [(episode_seed(config.seed, index), None) for index in range(config.episodes)]
    screen.say("looking for room for walls")
    step = task_named(sim_task(config.task)).tool_step
    walls: list[tuple[int, Zone | None]] = []
    for index in range(config.episodes * _MOST_SEEDS_PER_WALL):
        placed = director.place(episode_seed(config.seed, index))
        zone = wall_between(np.array(placed.tool), np.array(placed.goal), WALLED[WALL].half_m, step)
        if zone is not None:
            walls.append((placed.seed, zone))
        if len(walls) == config.episodes:
            break
    return walls


def _passes(config: DemoConfig, director: Director, screen: Screen, episodes: list[tuple[int, Zone | None]]) -> tuple[Pass, Pass | None]:
    """All episodes; for the wall task a second time with the actor alone, which is not told of the walls."""
    result = _play(director, screen, episodes)
    if config.task != WALL:
        return result, None
    director.set_parameters("planner_node", {"mode": "actor"})
    return result, _play(director, screen, episodes, told=False)


def _play(director: Director, screen: Screen, episodes: list[tuple[int, Zone | None]], told: bool = True) -> Pass:
    """Episodes in a row; ``told``: the planner gets to know the zones."""
    outcomes, guardrail = [], GuardrailCounts()
    director.plan_ms.clear()
    director.plan_rates.clear()
    screen.say("")
    for seed, zone in episodes:
        placed = director.place(seed)
        if zone is not None:
            director.set_parameters("planner_node", {"zones": zones_text((zone,) if told else ())})
        run = director.play(placed, screen.show)
        outcomes.append(judge(placed, run, zone))
        guardrail = guardrail.plus(run.guardrail)
        screen.finish(outcomes[-1])
    latency = director.frame_to_command_ms()
    return Pass(
        episodes=tuple(outcomes),
        plan_rate_hz=float(np.median(director.plan_rates)) if director.plan_rates else None,
        plan_ms=Spread.of(director.plan_ms),
        frame_to_command_ms=Spread() if latency is None else Spread(*latency),
        guardrail=guardrail,
    )


def _examine(summary: Summary, walls: Sequence[Zone | None], folder: Path, config: DemoConfig) -> Summary:
    """Check the bag against the arm's limits, and make film and report of it. Paths are those after ``folder`` got its final name."""
    out, bag, urdf = config.out.absolute(), folder / _BAG, load_arm().urdf
    check = check_bag(bag, urdf)
    summary = replace(summary, limit_violations=check.total, bag=str(out / _BAG))
    if not config.report:
        return summary
    summary = replace(summary, video=str(out / _VIDEO), report=str(out / _REPORT))
    write_report(folder / _REPORT, summary.to_json(), bag, check, urdf)
    recording = read_recording(bag, [episode.seconds for episode in summary.all_episodes])
    footage, camera = read_footage(bag), task_named(sim_task(config.task)).camera
    if summary.without_zones is None:
        write_episodes(folder / _VIDEO, recording, footage, camera, config.task, walls)
    else:
        pairs = [(index, index + config.episodes) for index in range(config.episodes)]
        write_side_by_side(folder / _VIDEO, recording, footage, camera, pairs, ("told of the wall", "actor alone, not told"), walls)
    return summary
