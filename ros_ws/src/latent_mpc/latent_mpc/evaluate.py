"""Closed-loop evaluation without ROS: fixed starts and goals, the random policy and the oracle beside the planner, every outcome on disk."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep
from latent_mpc.collect import flat_state
from latent_mpc.episodes import EpisodeManifest, draw_manifest, read_manifest, write_manifest
from latent_mpc.intervals import sign_test, wilson95
from latent_mpc.played import Played, identity
from latent_mpc.policies import POLICIES, REFERENCES, Delay, PlannerPolicy, make_policy
from latent_mpc.walls import WALLED, clearance_m, sim_task, stands_between, wall_of
from planner_node.assembly import PlannerConfig
from sim.appearance import draw_appearance
from sim.tasks import Episode, PicturedGoalEnv, make_env, task_named
from world_model.bundle import bundle_sha256
from world_model.differentiable import DifferentiableModel
from world_model.heads.onnx_head import OnnxHead
from world_model.heads.rule import Rule, parse_rule
from world_model.protocol import SafetyHead
from world_model.runtime import OnnxModel


class EvaluationError(ValueError):
    """An evaluation that cannot be run as asked."""


@dataclass(frozen=True)
class Evaluation:
    """What to play: ``episodes`` of ``task`` for each of ``seeds`` with each of ``policies``; a plan may take ``deadline_s``.

    ``look`` names the factors of ``sim.appearance`` that differ, at full strength and anew in every episode, in the goal picture as in the camera's.
    ``arm_in_goal`` off: the goal picture shows the scene without the arm. ``guardrail_heads``: folders of learned guardrails for the search.
    ``cpu_time``: deadlines and decisions are counted in the process's CPU time, so that a busy machine changes nothing. ``in_the_way``: only episodes
    in which what the heads' rules forbid lies between the tool and where it has to go.
    """

    model: Path
    task: str
    episodes: int
    seeds: tuple[int, ...]
    policies: tuple[str, ...] = ("planner", *REFERENCES)
    manifest: Path | None = None
    workers: int = 1
    deadline_s: float = 1.0
    look: tuple[str, ...] = ()
    arm_in_goal: bool = True
    planner: PlannerConfig = dataclasses.field(default_factory=PlannerConfig)
    guardrail_heads: tuple[Path, ...] = ()
    delay: Delay = dataclasses.field(default_factory=Delay)
    cpu_time: bool = False
    in_the_way: bool = False

    @property
    def clock(self) -> Callable[[], float]:
        """What decisions are timed by."""
        return time.process_time if self.cpu_time else time.perf_counter


@dataclass(frozen=True)
class Outcome:
    """How one episode went. ``clearance_m``: least distance of the true tool point from the wall, negative inside; ``plan_ms``: decision times.

    ``success``: the goal was ``reached``, and the tool kept out of the wall. ``forbidden_steps`` of all ``steps``: those in which the true scene was
    ever where a guardrail head's rule forbids to be, None without such a rule. Of each decision of a planner: ``candidates`` imagined,
    ``iterations`` done; ``infeasible`` of them came without a plan.
    """

    policy: str
    seed: int
    success: bool
    start_distance_m: float
    final_distance_m: float
    clearance_m: float | None
    plan_ms: tuple[float, ...]
    forbidden_steps: int | None = None
    candidates: tuple[int, ...] = ()
    iterations: tuple[int, ...] = ()
    infeasible: int = 0
    reached: bool = False
    steps: int = 0


_worker: tuple[Evaluation, PicturedGoalEnv, OnnxModel] | None = None  # with the guardrail heads opened


def _open_worker(evaluation: Evaluation) -> None:
    global _worker  # one simulator and one model per worker process, opened once
    model = DifferentiableModel(evaluation.model)  # torch is imported only where a solver needs gradients
    planner = dataclasses.replace(evaluation.planner, heads=open_heads(evaluation, model))
    _worker = (dataclasses.replace(evaluation, planner=planner), make_env(sim_task(evaluation.task)), model)


def open_heads(evaluation: Evaluation, model: OnnxModel) -> tuple[OnnxHead, ...]:
    """The guardrail heads that the evaluation names.

    Raises:
        HeadError: one is damaged, no guardrail, or belongs to another model.
    """
    heads = tuple(OnnxHead(folder, model.manifest) for folder in evaluation.guardrail_heads)
    for head in heads:
        head.margins(np.zeros((1, model.latent_dim), np.float32))
    return heads


def _play(work: tuple[str, Episode]) -> Outcome:
    assert _worker is not None
    evaluation, env, model = _worker
    return play(work[0], work[1], env, model, evaluation)


def play(policy_name: str, episode: Episode, env: PicturedGoalEnv, model: OnnxModel, evaluation: Evaluation) -> Outcome:
    """One episode with one policy."""
    planner = dataclasses.replace(evaluation.planner, mode=policy_name) if policy_name not in REFERENCES else evaluation.planner
    policy = make_policy(policy_name, env, model, planner, evaluation.deadline_s, episode.seed, evaluation.clock, evaluation.delay)
    env.appear(draw_appearance(np.random.default_rng(episode.seed), evaluation.look, least=1.0))
    env.arm_in_goal = evaluation.arm_in_goal
    observation, info = env.reset(options={"episode": episode})
    start = float(info["distance_m"])
    wall = wall_of(evaluation.task, episode, env.task.tool_step) if evaluation.task in WALLED else None
    rules = head_rules(evaluation.planner.heads)
    env.trace_tool = wall is not None or bool(rules)
    policy.start(observation, env.task.steps, () if wall is None else (wall,))
    forbidden = steps = 0
    times = []
    truncated = False
    while not truncated:
        since = len(env.tool_path()) if rules else 0
        begun = evaluation.clock()
        action = policy.act(observation)
        times.append(1e3 * (evaluation.clock() - begun))
        observation, _, _, truncated, info = env.step(action)
        forbidden += any(float(rule.values(scenes(env, since)).min()) < 0 for rule in rules)
        steps += 1
    clearance = None if wall is None else clearance_m(wall, env.tool_path())
    reached = bool(info["success"])
    plans = policy.plans if isinstance(policy, PlannerPolicy) else []
    return Outcome(
        policy_name,
        episode.seed,
        reached and (clearance is None or clearance >= 0),
        start,
        float(info["distance_m"]),
        clearance,
        tuple(times),
        forbidden if rules else None,
        tuple(plan.candidates for plan in plans),
        tuple(plan.iterations for plan in plans),
        sum(not plan.feasible for plan in plans),
        reached,
        steps,
    )


def scenes(env: PicturedGoalEnv, since: int) -> NDArray[np.float64]:
    """The true scenes ``(N, S)``, as of ``flat_state``, every 10 ms from the tool's point number ``since`` on, with the block where it is now."""
    tools = env.tool_path()[since:]
    states = np.repeat(flat_state(env.state())[None].astype(np.float64), len(tools), axis=0)
    states[:, : tools.shape[1]] = tools
    return states


def head_rules(heads: tuple[SafetyHead, ...]) -> list[Rule]:
    """The rules of those heads that were fitted to one."""
    return [rule for rule in map(rule_of, heads) if rule is not None]


def rule_of(head: SafetyHead) -> Rule | None:
    """The rule that a head was fitted to; None where a person labelled frames."""
    return parse_rule(head.card.label) if isinstance(head, OnnxHead) and not head.card.label.endswith(".csv") else None


def evaluate(evaluation: Evaluation, outcomes_file: Path, report: Callable[[int, int], None]) -> dict[str, Any]:
    """Play everything, write each outcome to ``outcomes_file`` (JSON lines) and return the summary of the contract.

    An evaluation that was interrupted goes on: what it has played lies beside ``outcomes_file``.

    Raises:
        EvaluationError: no or an unknown policy, nothing to play, or a bundle that was not trained for the task.
        ValueError: the task is unknown, or the manifest or the bundle cannot be used.
    """
    unknown = set(evaluation.policies) - set(POLICIES)
    if unknown:
        raise EvaluationError(f"unknown policy '{sorted(unknown)[0]}'; choose among {', '.join(POLICIES)}")
    if not 0 <= evaluation.delay.steps <= task_named(sim_task(evaluation.task)).steps:
        raise EvaluationError(f"a delay of {evaluation.delay.steps} steps is not between 0 and the length of an episode")
    if not evaluation.policies or not evaluation.seeds or min(evaluation.episodes, evaluation.workers) < 1:
        raise EvaluationError("an evaluation needs at least one policy, seed, episode and worker")
    task = task_named(sim_task(evaluation.task))
    # Loaded here once, so that what is wrong with it is said before any worker starts.
    model = OnnxModel(evaluation.model)
    heads = open_heads(evaluation, model)
    if evaluation.in_the_way and not head_rules(heads):
        raise EvaluationError("nothing is in the way: that needs a guardrail head that was fitted to a rule")
    bundle = model.manifest
    if task.name not in bundle.tasks:
        raise EvaluationError(f"{evaluation.model} was trained for {', '.join(bundle.tasks)}, not for {evaluation.task}")
    if ToolStep.from_json(bundle.tool_step) != task.tool_step or bundle.frame != (task.camera.height, task.camera.width, 3):
        raise EvaluationError(f"{evaluation.model} was trained with another camera or another meaning of an action than {evaluation.task} has")
    manifest = _episodes(evaluation, heads)
    asked = [(policy, episode) for policy in evaluation.policies for episode in manifest.episodes]
    played = Played(outcomes_file, _identity(evaluation, heads, manifest, bundle_sha256(bundle)))
    known = {(outcome["policy"], outcome["seed"]): outcome_from(outcome) for outcome in played.outcomes}
    work = [(policy, episode) for policy, episode in asked if (policy, episode.seed) not in known]
    # An executor says so when a worker was killed; a Pool would wait for it for ever.
    with ProcessPoolExecutor(evaluation.workers, multiprocessing.get_context("spawn"), _open_worker, (evaluation,)) as pool:
        for outcome in pool.map(_play, work, chunksize=4):
            known[outcome.policy, outcome.seed] = outcome
            played.add(dataclasses.asdict(outcome))
            report(len(known), len(asked))
    outcomes = [known[policy, episode.seed] for policy, episode in asked]
    played.finish([dataclasses.asdict(outcome) for outcome in outcomes])
    return summarise(evaluation, manifest, outcomes, bundle_sha256(bundle), outcomes_file)


def outcome_from(content: dict[str, Any]) -> Outcome:
    """Read back what ``dataclasses.asdict`` made of an outcome and JSON of that."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
    return Outcome(**values)


def _identity(evaluation: Evaluation, heads: tuple[OnnxHead, ...], manifest: EpisodeManifest, sha256: str) -> str:
    """Of all that an outcome depends on, so that an interrupted evaluation goes on with its own only; who else plays does not matter."""
    settings = {field.name: getattr(evaluation, field.name) for field in dataclasses.fields(evaluation)}
    for name in ("model", "policies", "manifest", "workers", "episodes", "seeds", "guardrail_heads"):
        del settings[name]
    return identity(**settings, sha256=sha256, fingerprint=manifest.fingerprint, heads=[head.card for head in heads])


def _episodes(evaluation: Evaluation, heads: tuple[SafetyHead, ...] = ()) -> EpisodeManifest:
    if evaluation.manifest is not None and evaluation.manifest.is_file():
        manifest = read_manifest(evaluation.manifest, evaluation.task)
        if manifest.seeds != evaluation.seeds or len(manifest.episodes) != evaluation.episodes * len(evaluation.seeds):
            held = f"{len(manifest.episodes)} episodes of seeds {', '.join(map(str, manifest.seeds))}"
            raise EvaluationError(f"{evaluation.manifest} holds {held}: ask for these, or name a new file")
        return manifest
    env = make_env(sim_task(evaluation.task))
    step = env.task.tool_step
    rules = head_rules(heads) if evaluation.in_the_way else []

    def suits(episode: Episode) -> bool:
        walled = evaluation.task not in WALLED or wall_of(evaluation.task, episode, step) is not None
        return walled and (not evaluation.in_the_way or any(stands_between(rule, episode) for rule in rules))

    manifest = draw_manifest(env, evaluation.task, evaluation.seeds, evaluation.episodes, suits)
    env.close()
    if evaluation.manifest is not None:
        write_manifest(evaluation.manifest, manifest)
    return manifest


def summarise(evaluation: Evaluation, manifest: EpisodeManifest, outcomes: list[Outcome], sha256: str, outcomes_file: Path) -> dict[str, Any]:
    """The keys of the contract, with a row for every policy and paired comparisons with the first one."""
    by_policy = {name: [o for o in outcomes if o.policy == name] for name in evaluation.policies}
    rows = {name: _row(group) for name, group in by_policy.items()}
    first = evaluation.policies[0]
    per_seed_count = len(manifest.episodes) // max(1, len(manifest.seeds))
    main = by_policy[first]
    return {
        "task": evaluation.task,
        "policy": first,
        "model": {"name": evaluation.model.name, "sha256": sha256},
        "manifest": {"fingerprint": manifest.fingerprint, "file": str(evaluation.manifest) if evaluation.manifest else None},
        "look": list(evaluation.look),
        "arm_in_goal": evaluation.arm_in_goal,
        "delay": dataclasses.asdict(evaluation.delay),
        "episodes": len(manifest.episodes),
        "seeds": list(manifest.seeds),
        **rows[first],
        "per_seed": [_rate(main[i * per_seed_count : (i + 1) * per_seed_count]) for i in range(len(manifest.seeds))],
        "random_success_rate": rows["random"]["success_rate"] if "random" in rows else None,
        "oracle_success_rate": rows["oracle"]["success_rate"] if "oracle" in rows else None,
        "policies": rows,
        "paired": {name: _paired(main, group) for name, group in by_policy.items() if name != first},
        "outcomes": str(outcomes_file),
    }


def table(result: dict[str, Any]) -> str:
    """The result as text for a terminal, a row for each policy."""
    first = result["policy"]
    lines = [f"{result['task']}: {result['episodes']} episodes, seeds {', '.join(map(str, result['seeds']))}; {first} per seed {result['per_seed']}"]
    for name, row in result["policies"].items():
        low, high = row["ci95"]
        text = f"{name:>8}  {100 * row['success_rate']:5.1f} %  [{100 * low:.1f}, {100 * high:.1f}]"
        text += f"  median {100 * row['final_distance_m']['median']:.1f} cm  decision p50 {row['plan_ms']['p50']:.1f} ms"
        if row["intrusions"] is not None:
            text += f"  reached {100 * row['reached_rate']:.1f} %, intrusions {row['intrusions']}, least {1000 * row['least_clearance_m']:.1f} mm"
        if row["forbidden_episodes"] is not None:
            text += f"  {row['forbidden_episodes']} entered what is forbidden, in {100 * row['forbidden_share']:.2f} % of the steps"
        if name in result["paired"]:
            paired = result["paired"][name]
            text += f"  {first} better {paired['better']}, worse {paired['worse']}, p = {paired['p']:.3g}"
        lines.append(text)
    return "\n".join(lines)


def _rate(group: list[Outcome]) -> float:
    return sum(o.success for o in group) / max(1, len(group))


def _row(group: list[Outcome]) -> dict[str, Any]:
    finals = np.array([o.final_distance_m for o in group])
    times = np.concatenate([o.plan_ms for o in group])
    clearances = [o.clearance_m for o in group if o.clearance_m is not None]
    candidates, iterations = (np.concatenate([getattr(o, name) for o in group]) for name in ("candidates", "iterations"))
    return {
        "success_rate": _rate(group),
        "reached_rate": sum(o.reached for o in group) / max(1, len(group)),
        "ci95": [round(edge, 4) for edge in wilson95(sum(o.success for o in group), len(group))],
        "final_distance_m": {"median": float(np.median(finals)), "p90": float(np.quantile(finals, 0.9))},
        "within_m": {f"{limit:.3f}": float((finals <= limit).mean()) for limit in (0.02, 0.025, 0.03, 0.04, 0.05)},
        "plan_ms": {"p50": float(np.median(times)), "p99": float(np.quantile(times, 0.99))},
        "candidates": float(np.median(candidates)) if len(candidates) else None,
        "iterations": float(np.median(iterations)) if len(iterations) else None,
        "infeasible_share": sum(o.infeasible for o in group) / len(candidates) if len(candidates) else None,
        "intrusions": sum(clearance < 0 for clearance in clearances) if clearances else None,
        "least_clearance_m": min(clearances) if clearances else None,
        "forbidden_share": sum(o.forbidden_steps or 0 for o in group) / max(1, sum(o.steps for o in group)),
        "forbidden_episodes": sum(bool(o.forbidden_steps) for o in group) if group and group[0].forbidden_steps is not None else None,
    }


def _paired(main: list[Outcome], other: list[Outcome]) -> dict[str, Any]:
    better = sum(a.success and not b.success for a, b in zip(main, other, strict=True))
    worse = sum(b.success and not a.success for a, b in zip(main, other, strict=True))
    return {"better": better, "worse": worse, "p": sign_test(better, worse)}
