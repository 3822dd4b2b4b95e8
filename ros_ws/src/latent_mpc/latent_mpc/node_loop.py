"""All nodes as processes, episode after episode: how long each camera frame takes until its command, and what that costs.

**Deadline miss**: a frame of a pursuit (``frame_log.Pursuit``: stamped after the planner took the goal in, and not after the last frame that it
planned from) whose plan is in no command that was published within one period of the camera after the frame's stamp. A frame that was lost, that
nobody planned from, or whose plan was overtaken by the next before a command carried it, is a miss.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from latent_mpc.bringup import SHIPPED_MODELS, find_shared, node_command
from latent_mpc.director import Director, DirectorError
from latent_mpc.domains import quiet_domain
from latent_mpc.episodes import episode_seed
from latent_mpc.frame_listener import FrameListener
from latent_mpc.frame_log import HOPS, Frame, Pursuit, pursuits
from latent_mpc.process_cost import cores_used, most_memory_mb, read_cost
from latent_mpc.processes import NodeCommand, NodeDiedError, NodeInputError, Processes, interrupted_by_sigterm
from sim.tasks import TASKS, task_named

NODES = ("sim_node", "perception_node", "planner_node", "guardrail_node")
# The share of a camera's period that a search may take: encoding, publishing and the guardrail's grid need the rest.
_SEARCH_SHARE = 0.6
_LONGEST_SEARCH_S = 0.06
# A frame's command and the journals that speak of it come later than the frame.
_LAST_WORDS_S = 0.5


class NodeLoopError(ValueError):
    """The nodes cannot be measured as asked, with the reason in one line."""


class NodeLoopFailedError(RuntimeError):
    """A node died, or did not do what an episode asks of it, with the reason in one line."""


@dataclass(frozen=True)
class RateResult:
    """At one rate of the camera. ``seconds``, ``frames``, ``plans`` are those of the pursuits; times in ms.

    ``hops``: median and 99th percentile of the time from the frame's stamp to each of ``frame_log.HOPS``. ``delivered_percent``: frames that
    perception made a latent of. ``planner_answer_ms``: a service of the planner's that costs nothing, asked again and again
    meanwhile. ``cores`` and ``memory_mb`` of each process, over everything between the first goal and the last command.
    """

    rate_hz: float
    period_ms: float
    search_deadline_ms: float
    seconds: float
    episodes: int
    reached: int
    frames: int
    delivered_percent: float
    plans: int
    plans_per_second: float
    frame_to_command_ms: dict[str, float | None]
    deadline_misses: int
    deadline_misses_percent: float
    without_command: int
    rejected_plans: int
    missed_cycles: int
    hops: dict[str, dict[str, float | None]]
    planner_answer_ms: dict[str, float | None]
    cores: dict[str, float]
    memory_mb: dict[str, float]
    lost_journal_pages: int


@dataclass(frozen=True)
class NodeLoop:
    """What was measured, a row for each rate, and on what."""

    task: str
    model: str
    machine_cores: int
    rates: tuple[RateResult, ...]

    def to_json(self) -> dict[str, object]:
        """For machines."""
        return asdict(self)


def run_node_loop(
    seconds: float,
    rates: Sequence[float],
    task: str = "push",
    model: Path | None = None,
    seed: int = 0,
    record: bool = False,
    parameters: Mapping[str, Mapping[str, str | int | float | bool]] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> NodeLoop:
    """Play episodes of ``task`` for ``seconds`` in all, an equal share with the camera at each of ``rates`` (Hz).

    ``record``: a recorder writes everything meanwhile, as in a demo. ``parameters`` are given to nodes by their names, on top of ours.

    Raises:
        NodeLoopError: an unknown task, a rate that no camera has, or a node refused its parameters.
        NodeLoopFailedError: a node died or did not do what it should.
    """
    if task not in TASKS:
        raise NodeLoopError(f"unknown task '{task}'; choose one of {', '.join(TASKS)}")
    if not rates or not all(1.0 <= rate <= 100.0 for rate in rates):
        raise NodeLoopError(f"rates are {', '.join(f'{rate:g}' for rate in rates) or 'none'}, must be one or more between 1 and 100 Hz")
    bundle = find_shared(model or SHIPPED_MODELS[task])
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    results = []
    with interrupted_by_sigterm():
        for rate in rates:
            say(f"camera at {rate:g} Hz")
            results.append(_at_rate(rate, seconds / len(rates), task, bundle, seed, record, parameters or {}))
    return NodeLoop(task, str(model or SHIPPED_MODELS[task]), len(os.sched_getaffinity(0)), tuple(results))


def _at_rate(
    rate: float, seconds: float, task: str, bundle: Path, seed: int, record: bool, parameters: Mapping[str, Mapping[str, str | int | float | bool]]
) -> RateResult:
    deadline_s = min(_LONGEST_SEARCH_S, _SEARCH_SHARE / rate)
    ours: dict[str, dict[str, str | int | float | bool]] = {
        "sim_node": {"task": task, "camera_rate_hz": float(rate)},
        "perception_node": {"model": str(bundle)},
        "planner_node": {"model": str(bundle), "steps": task_named(task).steps, "rate_hz": float(rate), "deadline_s": deadline_s},
        "guardrail_node": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        if record:
            ours["recorder_node"] = {"output": str(Path(folder) / "bag")}
        commands: list[NodeCommand] = [node_command(name, **{**given, **parameters.get(name, {})}) for name, given in ours.items()]
        domain = quiet_domain()
        processes = Processes(commands, {"ROS_DOMAIN_ID": str(domain)}, Path(folder) / "logs")
        try:
            with FrameListener(domain) as listener, Director(domain, processes.check) as director:
                director.wait_for_nodes(tuple(ours))
                return _play(rate, deadline_s, seconds, seed, processes, director, listener, tuple(ours))
        except NodeInputError as error:
            raise NodeLoopError(str(error)) from error
        except (NodeDiedError, DirectorError) as error:
            raise NodeLoopFailedError(str(error)) from error
        finally:
            processes.stop()


def _play(
    rate: float,
    deadline_s: float,
    seconds: float,
    seed: int,
    processes: Processes,
    director: Director,
    listener: FrameListener,
    names: tuple[str, ...],
) -> RateResult:
    before = {name: read_cost(processes.pid(name)) for name in names}
    rejected, counted = director.rejected_plans(), director.guardrail_counts()
    reached = episodes = 0
    until = time.monotonic() + seconds
    while not episodes or time.monotonic() < until:
        placed = director.place(episode_seed(seed, episodes))
        run = director.play(placed, lambda _: None)
        if run.cut_short:
            raise NodeLoopFailedError(f"episode {placed.seed} was cut short: {run.cut_short}")
        episodes += 1
        reached += run.final_distance_m <= placed.tolerance_m
    costs = {name: cores_used(before[name], read_cost(processes.pid(name))) for name in names}
    heard = time.monotonic() + _LAST_WORDS_S
    while time.monotonic() < heard:
        processes.check()
        time.sleep(0.05)
    found = pursuits(listener.log)
    if not found:
        raise NodeLoopFailedError("no plan was made of any frame")
    return _result(
        rate,
        1e3 * deadline_s,
        found,
        episodes=episodes,
        reached=reached,
        rejected_plans=director.rejected_plans() - rejected,
        missed_cycles=director.guardrail_counts().since(counted).missed_cycles,
        cores=costs,
        memory_mb={name: most_memory_mb(processes.pid(name)) for name in names},
        lost_journal_pages=listener.lost_journal_pages,
        answers_ms=listener.answers_ms,
    )


def _result(
    rate: float,
    deadline_ms: float,
    found: Sequence[Pursuit],
    *,
    episodes: int,
    reached: int,
    rejected_plans: int,
    missed_cycles: int,
    cores: Mapping[str, float],
    memory_mb: Mapping[str, float],
    lost_journal_pages: int,
    answers_ms: Sequence[float],
) -> RateResult:
    frames = list(itertools.chain.from_iterable(pursuit.frames for pursuit in found))
    seconds, plans, period_ms = sum(pursuit.seconds(1.0 / rate) for pursuit in found), sum(pursuit.plans for pursuit in found), 1e3 / rate
    misses = deadline_misses(frames, period_ms)
    return RateResult(
        rate_hz=rate,
        period_ms=period_ms,
        search_deadline_ms=deadline_ms,
        seconds=seconds,
        episodes=episodes,
        reached=reached,
        frames=len(frames),
        delivered_percent=100.0 * sum(frame.ms["latent"] is not None for frame in frames) / len(frames),
        plans=plans,
        plans_per_second=plans / seconds,
        frame_to_command_ms=_spread(_times(frames, "command")),
        deadline_misses=misses,
        deadline_misses_percent=100.0 * misses / len(frames),
        without_command=sum(frame.to_command_ms is None for frame in frames),
        rejected_plans=rejected_plans,
        missed_cycles=missed_cycles,
        hops={hop: _spread(_times(frames, hop)) for hop in HOPS},
        planner_answer_ms=_spread(answers_ms),
        cores={name: round(value, 3) for name, value in cores.items()},
        memory_mb={name: round(value, 1) for name, value in memory_mb.items()},
        lost_journal_pages=lost_journal_pages,
    )


def deadline_misses(frames: Sequence[Frame], period_ms: float) -> int:
    """How many of ``frames`` have no command within ``period_ms`` of their stamp."""
    return sum(frame.to_command_ms is None or frame.to_command_ms > period_ms for frame in frames)


def _times(frames: Sequence[Frame], hop: str) -> list[float]:
    return [ms for frame in frames if (ms := frame.ms[hop]) is not None]


def _spread(times: Sequence[float]) -> dict[str, float | None]:
    if not times:
        return {"p50": None, "p99": None, "max": None}
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99)), "max": max(times)}
