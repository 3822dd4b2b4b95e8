"""A recorded bag through perception, planner and guardrail without DDS, as fast as it can, and what came out beside what was recorded.

Nothing here depends on how fast the machine is: times are the bag's, a search ends after a number of iterations, and every library computes in one
thread. The same bag with the same settings gives the same bytes.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from threadpoolctl import threadpool_limits

from arm_model import load_arm
from latent_mpc.bag import BagError
from latent_mpc.bringup import find_shared, parameter_file
from latent_mpc.offline_bag import PLAN, Recorded, ReplayTopics, Timed, first_settings, moment_of, perception_then, read_recorded
from latent_mpc.offline_comparison import Agreement, compare_trajectories, compare_vectors
from latent_mpc.offline_guardrail import Guarded, commands_as_trajectories, guarded
from latent_mpc.offline_perception import Sight
from latent_mpc.offline_planner import PlannerReplay, Proposals, Proposed
from latent_mpc.topic_names import SHADOW
from planner_node.equipping import equip
from planner_node.grid import stamp_of_slot
from planner_node.guard_assembly import build_guard
from planner_node.guardrail_parameters import GuardrailParameters
from planner_node.journal import Kind
from planner_node.planner_parameters import PlannerParameters
from ros_bridge.parameters import parameters_of
from world_model.perception import Perception
from world_model.runtimes import RuntimeConfig, open_model
from world_model.runtimes.config import GRAPHS, PERCEPTION_GRAPHS, PLANNER_GRAPHS

_SEARCH_SETTINGS = ("mode", "solver", "planner_file")
_PLAN_MS, _PERCEPTION_MS, _JOINTS_TOLERANCE_S = 20.0, 10.0, 0.05
OUTPUT = "replay.npz"


class ReplayError(ValueError):
    """A replay that cannot be run as asked, with the reason in one line."""


@dataclass(frozen=True)
class ReplayConfig:
    """What to replay and what to change.

    ``model`` empty is the recorded run's. ``changes`` are ``planner.NAME=VALUE``, ``guardrail.NAME=VALUE``, ``perception.runtime=VALUE`` or
    ``perception.precision=VALUE``. ``search``: ``recorded`` cuts each search after as many iterations as then, ``complete`` lets it end by itself,
    empty chooses the first where the solver is that of the bag. ``surprise``: the witness looks, and surprise is scored. ``plan_ms``: what planning
    is taken to take in a bag without a journal.
    """

    bag: Path
    model: str = ""
    changes: tuple[str, ...] = ()
    topics: ReplayTopics = field(default_factory=ReplayTopics)
    search: str = ""
    surprise: bool = True
    plan_ms: float | None = None


@dataclass(frozen=True)
class Cost:
    """Seconds of the wall clock, and of the processor, which others that use the machine do not change much."""

    wall_s: float
    cpu_s: float

    @staticmethod
    def now() -> Cost:
        """Both clocks."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)  # those that shared the work and were waited for
        return Cost(time.perf_counter(), time.process_time() + ended.ru_utime + ended.ru_stime)

    def since(self, before: Cost) -> Cost:
        """What passed."""
        return Cost(self.wall_s - before.wall_s, self.cpu_s - before.cpu_s)


@dataclass(frozen=True)
class Replayed:
    """All that a replay gave. ``costs`` by stage."""

    config: ReplayConfig
    planner: PlannerParameters
    guardrail: GuardrailParameters
    recorded: Recorded
    sight: Sight
    proposals: Proposals
    guarded: Guarded
    agreements: tuple[Agreement, ...]
    recorded_search: bool
    costs: Mapping[str, Cost]

    @property
    def cost(self) -> Cost:
        """Of all stages but the opening of the model."""
        stages = [cost for stage, cost in self.costs.items() if stage != "opening"]
        return Cost(sum(cost.wall_s for cost in stages), sum(cost.cpu_s for cost in stages))

    @property
    def real_time_factor(self) -> float:
        """How many times faster than the recorded run."""
        return self.recorded.seconds / max(self.cost.wall_s, 1e-9)


def replay(config: ReplayConfig) -> Replayed:
    """Replay ``config.bag``.

    Raises:
        BagError: it cannot be read, or lacks what nothing can be replayed without.
        ValueError: a change or the model is not understood.
    """
    changes = read_changes(config.changes)
    if config.search not in ("", "recorded", "complete"):
        raise ReplayError(f"--search is '{config.search}', must be recorded or complete")
    took: dict[str, Cost] = {}
    began = Cost.now()

    def stage(name: str) -> None:
        nonlocal began
        now = Cost.now()
        took[name], began = now.since(began), now

    with threadpool_limits(1):
        planner_then, guardrail_then = _settings_then(config.bag, config.topics)
        settings = _Settings(config, planner_then, changes)
        planner = settings.planner(planner_then)
        guardrail = settings.guardrail(guardrail_then)
        arm = load_arm(planner.robot)
        sees = settings.perception(perception_then(config.bag, config.topics), planner)
        shared = (sees.runtime, sees.precision) == (planner.runtime, planner.precision)
        equipment, model = equip(planner, GRAPHS if shared else PLANNER_GRAPHS)
        topics = config.topics if config.topics.command else replace(config.topics, command=SHADOW if guardrail.shadow else arm.topics.trajectory)
        perception = Perception(model if shared else open_model(planner.model, sees), _JOINTS_TOLERANCE_S)
        guard, gate, around = build_guard(guardrail, load_arm(guardrail.robot))
        stage("opening")
        with Sight(config.bag, topics, perception, config.surprise or planner.stop_on_surprise) as sight:
            recorded = read_recorded(config.bag, topics, arm.joints)
            stage("reading")
            recorded_search = config.search == "recorded" or (not config.search and not any(name in changes["planner"] for name in _SEARCH_SETTINGS))
            recorded_search = recorded_search and bool(recorded.planner_journal)
            plan_ms = _plan_ms(recorded) if config.plan_ms is None else config.plan_ms
            forked = model.choice.runs_on == "cpu"
            player = PlannerReplay(equipment, planner, settings.planner, recorded_search, sight.scored, plan_ms, _PERCEPTION_MS, forked)
            proposals = player.run(recorded, sight)
            _require_pictures(config.bag, topics, sight)
            stage("perception and planner")
            commands = guarded(guard, gate, around, recorded, [*proposals.plans, *_later_plans(recorded)], settings.guardrail)
            stage("guardrail")
    recorded.refused.update(sight.refused)
    recorded.first_refusal.update(sight.first_refusal)
    agreements = _agreements(recorded, sight, proposals, commands, topics, arm.joints)
    return Replayed(config, planner, guardrail, recorded, sight, proposals, commands, agreements, recorded_search, took)


def read_changes(changes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``planner.steps=40`` and the like as values by node and name.

    Raises:
        ReplayError: one is not understood.
    """
    found: dict[str, dict[str, Any]] = {"planner": {}, "guardrail": {}, "perception": {}}
    for change in changes:
        key, equals, text = change.partition("=")
        node, dot, name = key.strip().partition(".")
        if not equals or not dot or node not in found:
            raise ReplayError(f"'{change}' is no change; write planner.NAME=VALUE, guardrail.NAME=VALUE or perception.NAME=VALUE")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ReplayError(f"'{change}': {' '.join(str(error).split())}") from error
        # Zones, scenes and workspaces are YAML that a parameter holds as text.
        found[node][name] = "" if value is None else text if isinstance(value, list | dict) else value
    return found


class _Settings:
    """The parameters then, with what is to be otherwise now."""

    def __init__(self, config: ReplayConfig, then: Mapping[str, Any], changes: Mapping[str, dict[str, Any]]) -> None:
        model = config.model or str(then.get("model", ""))
        if not model:
            raise ReplayError("the bag does not say which model was used; name one with --model")
        self._now = {**changes["planner"], "model": str(find_shared(model)), "threads": 1}
        self._guardrail_now = changes["guardrail"]
        self._perception_now = changes["perception"]
        unknown = self._perception_now.keys() - {"runtime", "precision"}
        if unknown:
            raise ReplayError(f"perception.{min(unknown)} cannot be changed; perception.runtime and perception.precision can")

    def perception(self, then: Mapping[str, str], planner: PlannerParameters) -> RuntimeConfig:
        """What encoder and witness run on: as asked for, else as the recorded ones did, else as the planner's graphs."""
        asked = {"runtime": planner.runtime, "precision": planner.precision, **then, **self._perception_now}
        return RuntimeConfig(planner.threads, str(asked["precision"]), str(asked["runtime"]), planner.engine_cache, PERCEPTION_GRAPHS)

    def planner(self, then: Mapping[str, Any]) -> PlannerParameters:
        return parameters_of(PlannerParameters, {**then, **self._now})

    def guardrail(self, then: Mapping[str, Any]) -> GuardrailParameters:
        return parameters_of(GuardrailParameters, {**then, **self._guardrail_now})


def _settings_then(bag: Path, topics: ReplayTopics) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters that the recorded nodes began with; what a bag does not say is as in the shipped files."""
    planner, guardrail, steps, mode = first_settings(bag, topics)
    if not planner:
        planner = _shipped("planner_node")
        planner.pop("model", None)
        planner |= ({"steps": steps} if steps else {}) | ({"mode": mode} if mode else {})
    return planner, guardrail or _shipped("guardrail_node")


def _shipped(node: str) -> dict[str, Any]:
    content = yaml.safe_load(parameter_file(node).read_text())
    return dict(content[node]["ros__parameters"])


def _later_plans(recorded: Recorded) -> list[Proposed]:
    """Recorded plans from after the end of the planner's journal: the guardrail's may go on for a little."""
    end = max((entry.what for entry in recorded.planner_journal if entry.kind is Kind.FRAME), default=None)
    if end is None:
        return []
    return [Proposed(entry.value, moment_of(entry.time_ns, recorded.start_ns), math.nan) for entry in recorded.plans if entry.stamp_ns > end]


def _require_pictures(bag: Path, topics: ReplayTopics, sight: Sight) -> None:
    frames, goals = sight.all()
    for found, topic, what in ((frames, topics.camera, "camera picture"), (goals, topics.goal, "goal picture")):
        if not found:
            raise BagError(f"{bag}: no usable {what} on {topic}: {sight.first_refusal.get(topic, 'it is empty')}")


def _plan_ms(recorded: Recorded) -> float:
    """How long planning took then, by the statuses."""
    said = [float(status.value["plan_ms"]) for status in recorded.planner if float(status.value.get("plan_ms", 0.0)) > 0.0]
    return float(np.median(said)) if said else _PLAN_MS


def _agreements(
    recorded: Recorded, sight: Sight, proposals: Proposals, commands: Guarded, topics: ReplayTopics, joints: Sequence[str]
) -> tuple[Agreement, ...]:
    start = recorded.start_ns
    frames, shown = sight.all()
    # A journal ends a little before its bag: what was not sent any more when the recorder went is unknown.
    ends = (
        max((entry.what for entry in recorded.planner_journal if entry.kind is Kind.FRAME), default=None),
        max((stamp_of_slot(entry.what) for entry in recorded.guardrail_journal if entry.kind is Kind.CYCLE), default=None),
    )
    goals = [Timed(goal.time_ns, goal.stamp_ns, goal.latent) for goal in shown]
    latents = [Timed(frame.time_ns, frame.stamp_ns, frame.latent) for frame in frames]
    # A recorder finds one publisher after the other: what perception said of pictures from before the camera was heard is compared with nothing.
    heard_ns = min((frame.stamp_ns for frame in frames), default=0)
    seen, testified = ([entry for entry in entries if entry.stamp_ns >= heard_ns] for entries in (recorded.latents, recorded.witnesses))
    witnesses = [Timed(frame.time_ns, frame.stamp_ns, frame.witness) for frame in frames]
    plans = [Timed(plan.sent.ros_ns, plan.trajectory.stamp_ns, plan.trajectory) for plan in proposals.plans]
    found = [
        compare_vectors("/goal/latent", recorded.goal_latents, goals, start, complete=False),
        compare_vectors("/perception/latent", seen, latents, start, complete=False),
        compare_vectors("/perception/witness", testified, witnesses, start, complete=False) if sight.scored else None,
        compare_trajectories(PLAN, recorded.plans, plans, start, joints, ends[0]) if recorded.plans else None,
        compare_trajectories(topics.command, recorded.commands, commands_as_trajectories(commands.commands), start, joints, ends[1])
        if recorded.commands
        else None,
    ]
    return tuple(agreement for agreement in found if agreement is not None and (agreement.compared or agreement.only_then or agreement.only_now))


def write_output(path: Path, replayed: Replayed) -> None:
    """All that came out as arrays, the same bytes for the same replay: plans, commands, latents, surprise, results."""
    plans = [plan.trajectory for plan in replayed.proposals.plans]
    commands = replayed.guarded.commands
    frames, goals = replayed.sight.all()
    joints = len(load_arm(replayed.planner.robot).joints)
    width = replayed.sight.perception.model.latent_dim
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "plan_stamps_ns": np.array([plan.stamp_ns for plan in plans], np.int64),
        "plan_points": np.array([len(plan.times) for plan in plans], np.int64),
        "plan_times_s": np.concatenate([np.empty(0), *(plan.times for plan in plans)]),
        "plan_positions": np.concatenate([np.empty((0, joints)), *(plan.positions for plan in plans)]),
        "plan_velocities": np.concatenate([np.empty((0, joints)), *(plan.velocities for plan in plans)]),
        "command_slots": np.array([command.slot for command in commands], np.int64),
        "command_points": np.array([len(command.braking.positions) for command in commands], np.int64),
        "command_positions": np.concatenate([np.empty((0, joints)), *(command.braking.positions for command in commands)]),
        "frame_stamps_ns": np.array([frame.stamp_ns for frame in frames], np.int64),
        "latents": np.array([frame.latent for frame in frames], np.float32).reshape(-1, width),
        "witnesses": np.array([frame.witness for frame in frames], np.float32).reshape(-1, width),
        "goal_latents": np.array([goal.latent for goal in goals], np.float32).reshape(-1, width),
        "surprise": np.array(replayed.proposals.scores, np.float64).reshape(-1, 4),
        "result_stamps_ns": np.array([stamp for stamp, _ in replayed.proposals.results], np.int64),
        "results": np.array([name for _, name in replayed.proposals.results], dtype="U16"),
    }
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
