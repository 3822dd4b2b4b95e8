"""Closed loop in any Gymnasium environment, from goal pictures, with the paired random policy beside the planner."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.environment import EnvironmentConfig, PictureEnvironment
from latent_mpc.environment_goals import AHEAD, RESET, GoalRule, Referee, draw
from latent_mpc.episodes import episode_seed
from latent_mpc.evaluate import EvaluationError
from latent_mpc.intervals import sign_test, wilson95
from planner_node.action import PlainAction
from planner_node.assembly import MODES, PlannerConfig
from planner_node.controller import LatentController
from planner_node.solvers.solver import Deadline
from world_model.bundle import bundle_sha256
from world_model.protocol import F32
from world_model.runtime import OnnxModel

RANDOM = "random"
POLICIES = (*MODES, RANDOM)


@dataclass(frozen=True)
class EnvironmentEvaluation:
    """What to play: ``episodes`` in ``env`` for each of ``seeds`` with each of ``policies``.

    ``goal``: ``ahead``, ``reset``, or ``module:callable``, a policy whose rollout of ``goal_steps`` shows the goal; ``steps`` is what an episode may
    take, by default twice ``goal_steps``. ``judge`` is a ``module:Class`` that says what success is.
    """

    model: Path
    env: str
    episodes: int
    seeds: tuple[int, ...]
    policies: tuple[str, ...] = POLICIES
    goal: str = AHEAD
    goal_steps: int = 15
    steps: int | None = None
    judge: str | None = None
    workers: int = 1
    deadline_s: float = 1.0
    planner: PlannerConfig = dataclasses.field(default_factory=PlannerConfig)


@dataclass(frozen=True)
class Distances:
    """How far a scene is from the goal picture.

    ``state``: in the judge's own unit, None without one; ``temporal`` in steps by the learned critic; ``latent`` mean squared difference; ``pixel``
    mean absolute difference, of 1.
    """

    state: float | None
    temporal: float
    latent: float
    pixel: float


@dataclass(frozen=True)
class EnvironmentOutcome:
    """How one episode went; ``pictures`` is the SHA-256 of its first picture and its goal."""

    policy: str
    seed: int
    success: bool | None
    start: Distances
    final: Distances
    steps: int
    pictures: str
    plan_ms: tuple[float, ...]


class _Player:
    """One environment, one model."""

    def __init__(self, evaluation: EnvironmentEvaluation) -> None:
        self.evaluation = evaluation
        self.model = OnnxModel(evaluation.model)
        self.env = PictureEnvironment(environment_of(self.model, evaluation))
        self.referee = Referee(self.env, evaluation.judge)
        self.rule = goal_rule(self.model, evaluation)

    def play(self, policy: str, seed: int) -> EnvironmentOutcome:
        """One episode."""
        evaluation, env = self.evaluation, self.env
        start, goal = draw(env, self.referee, self.rule, seed)
        target = self.model.encode(goal.picture[None])[0]
        pictures = hashlib.sha256(start.frame.tobytes() + goal.picture.tobytes()).hexdigest()
        steps = most_steps(self.rule, evaluation)
        decide = self._random(seed) if policy == RANDOM else self._controller(policy, target, steps)
        first = self._distances(start.frame, target, goal.picture, self.referee.judge(start, goal).distance)
        seen = start
        times: list[float] = []
        while len(times) < steps and not seen.ended:
            begun = time.perf_counter()
            action = decide(seen.frame)
            times.append(1e3 * (time.perf_counter() - begun))
            seen = env.step(action)
        verdict = self.referee.judge(seen, goal)
        final = self._distances(seen.frame, target, goal.picture, verdict.distance)
        return EnvironmentOutcome(policy, seed, verdict.success, first, final, len(times), pictures, tuple(times))

    def _random(self, seed: int) -> Callable[[NDArray[np.uint8]], F32]:
        rng = np.random.default_rng(seed)
        return lambda _: rng.uniform(-1.0, 1.0, self.env.action_dim).astype(np.float32)

    def _controller(self, mode: str, target: F32, steps: int) -> Callable[[NDArray[np.uint8]], F32]:
        meaning = PlainAction(self.env.action_dim)
        controller = LatentController(self.model, meaning, dataclasses.replace(self.evaluation.planner, mode=mode))
        controller.start(target, steps)
        point: NDArray[np.float64] = np.zeros(meaning.action_dim)
        now = 0.0

        def decide(frame: NDArray[np.uint8]) -> F32:
            nonlocal point, now
            controller.see(now, self.model.encode(frame[None])[0], point)
            plan = controller.plan(now, point, Deadline.after(self.evaluation.deadline_s))
            action: F32 = plan.actions[0] if plan.feasible else np.zeros_like(plan.actions[0])
            point, now = meaning.advance(point, action), now + meaning.period_s
            return action

        return decide

    def _distances(self, frame: NDArray[np.uint8], target: F32, picture: NDArray[np.uint8], state: float | None) -> Distances:
        latent = self.model.encode(frame[None])
        return Distances(
            state=state,
            temporal=float(self.model.distance(latent, target)[0]),
            latent=float(((latent[0] - target) ** 2).mean()),
            pixel=float(np.abs(frame.astype(np.float64) - picture).mean() / 255.0),
        )


def environment_of(model: OnnxModel, evaluation: EnvironmentEvaluation) -> EnvironmentConfig:
    """The environment of ``evaluation`` as the model's data were collected in it.

    Raises:
        EvaluationError: the model was not trained in it.
    """
    data = model.manifest.provenance.get("data") or [{}]
    if evaluation.env not in model.manifest.tasks or data[0].get("env") != evaluation.env:
        raise EvaluationError(f"{evaluation.model} was trained for {', '.join(model.manifest.tasks)}, not in the environment {evaluation.env}")
    return EnvironmentConfig(evaluation.env, model.manifest.frame[0], data[0].get("camera"), data[0].get("env_arguments") or {})


def goal_rule(model: OnnxModel, evaluation: EnvironmentEvaluation) -> GoalRule:
    """Where the goal pictures come from; ``ahead`` follows the policy that collected the data."""
    steps = evaluation.goal_steps
    if evaluation.goal == RESET:
        return GoalRule(RESET, RANDOM, steps)
    collected_by = str(model.manifest.provenance["data"][0].get("policy", RANDOM))
    return GoalRule(AHEAD, collected_by if evaluation.goal == AHEAD else evaluation.goal, steps)


def most_steps(rule: GoalRule, evaluation: EnvironmentEvaluation) -> int:
    """Actions that an episode may take."""
    return evaluation.steps or 2 * rule.steps


_worker: _Player | None = None


def _open_worker(evaluation: EnvironmentEvaluation) -> None:
    global _worker  # one environment and one model per worker process, opened once
    _worker = _Player(evaluation)


def _play(work: tuple[str, int]) -> EnvironmentOutcome:
    assert _worker is not None
    return _worker.play(*work)


def _played(player: _Player, work: list[tuple[str, int]]) -> Iterator[EnvironmentOutcome]:
    if player.evaluation.workers == 1:
        yield from (player.play(*item) for item in work)
        return
    with ProcessPoolExecutor(player.evaluation.workers, multiprocessing.get_context("spawn"), _open_worker, (player.evaluation,)) as pool:
        yield from pool.map(_play, work, chunksize=4)


def evaluate_environment(evaluation: EnvironmentEvaluation, outcomes_file: Path, report: Callable[[int, int], None]) -> dict[str, Any]:
    """Play everything, write each outcome to ``outcomes_file`` (JSON lines) and return the summary.

    Raises:
        EvaluationError: no or an unknown policy, nothing to play, a model that was not trained here, or an environment that a seed does not repeat.
        ValueError: the environment, the bundle, the judge or the goals cannot be used.
    """
    unknown = set(evaluation.policies) - set(POLICIES)
    if unknown:
        raise EvaluationError(f"unknown policy '{sorted(unknown)[0]}'; choose among {', '.join(POLICIES)}")
    least = min(evaluation.episodes, evaluation.workers, evaluation.goal_steps, 1 if evaluation.steps is None else evaluation.steps)
    if not evaluation.policies or not evaluation.seeds or least < 1:
        raise EvaluationError("an evaluation needs at least one policy, seed, episode, step and worker")
    # Opened here once, so that what is wrong is said before any worker starts.
    player = _Player(evaluation)
    seeds = [episode_seed(seed, index) for seed in evaluation.seeds for index in range(evaluation.episodes)]
    work = [(policy, seed) for policy in evaluation.policies for seed in seeds]
    outcomes: list[EnvironmentOutcome] = []
    for outcome in _played(player, work):
        outcomes.append(outcome)
        report(len(outcomes), len(work))
    outcomes_file.parent.mkdir(parents=True, exist_ok=True)
    outcomes_file.write_text("".join(json.dumps(dataclasses.asdict(outcome)) + "\n" for outcome in outcomes))
    return _summary(evaluation, player, outcomes, outcomes_file)


def _summary(evaluation: EnvironmentEvaluation, player: _Player, outcomes: list[EnvironmentOutcome], file: Path) -> dict[str, Any]:
    by_policy = {name: [o for o in outcomes if o.policy == name] for name in evaluation.policies}
    first = evaluation.policies[0]
    shown = [outcome.pictures for outcome in by_policy[first]]
    if any([outcome.pictures for outcome in group] != shown for group in by_policy.values()):
        raise EvaluationError(f"{evaluation.env} shows other pictures when it is reset to the same seed: its episodes cannot be compared")
    rows = {name: _row(group) for name, group in by_policy.items()}
    count = evaluation.episodes
    return {
        "task": evaluation.env,
        "policy": first,
        "model": {"name": evaluation.model.name, "sha256": bundle_sha256(player.model.manifest)},
        "manifest": {"fingerprint": hashlib.sha256("".join(shown).encode()).hexdigest(), "file": None},
        "episodes": len(shown),
        "seeds": list(evaluation.seeds),
        "success_by": player.referee.said_by,
        "goal": {**dataclasses.asdict(player.rule), "steps_allowed": most_steps(player.rule, evaluation)},
        **rows[first],
        "per_seed": [_rate(by_policy[first][i * count : (i + 1) * count]) for i in range(len(evaluation.seeds))],
        "random_success_rate": rows[RANDOM]["success_rate"] if RANDOM in rows else None,
        "policies": rows,
        "paired": {name: _paired(by_policy[first], group) for name, group in by_policy.items() if name != first},
        "outcomes": str(file),
    }


def _rate(group: list[EnvironmentOutcome]) -> float | None:
    return None if any(o.success is None for o in group) else sum(bool(o.success) for o in group) / max(1, len(group))


def _row(group: list[EnvironmentOutcome]) -> dict[str, Any]:
    rate = _rate(group)
    times = np.concatenate([o.plan_ms for o in group])

    def medians(ends: list[Distances]) -> dict[str, float | None]:
        found = {name: [getattr(end, name) for end in ends] for name in ("state", "temporal", "latent", "pixel")}
        return {name: None if None in values else float(np.median(values)) for name, values in found.items()}

    return {
        "success_rate": rate,
        "ci95": None if rate is None else [round(edge, 4) for edge in wilson95(sum(bool(o.success) for o in group), len(group))],
        "start_distance_median": medians([o.start for o in group]),
        "final_distance_median": medians([o.final for o in group]),
        "plan_ms": {"p50": float(np.median(times)), "p99": float(np.quantile(times, 0.99))},
    }


def _paired(main: list[EnvironmentOutcome], other: list[EnvironmentOutcome]) -> dict[str, Any]:
    """Who did better: by success, or by the distance of the pictures where nobody defines it."""
    if _rate(main) is not None:
        scores = [(float(bool(a.success)), float(bool(b.success))) for a, b in zip(main, other, strict=True)]
    else:
        scores = [(-a.final.pixel, -b.final.pixel) for a, b in zip(main, other, strict=True)]
    better, worse = sum(a > b for a, b in scores), sum(b > a for a, b in scores)
    return {"better": better, "worse": worse, "p": sign_test(better, worse)}


def table(result: dict[str, Any]) -> str:
    """The result as text for a terminal, a row for each policy."""
    said_by = result["success_by"]
    judged = f"success by {said_by}" if said_by else "no success is defined: give --judge module:Class, or compare the distances"
    lines = [f"{result['task']}: {result['episodes']} episodes, seeds {', '.join(map(str, result['seeds']))}; {judged}"]
    for name, row in result["policies"].items():
        text = f"{name:>8}"
        if row["success_rate"] is not None:
            text += f"  {100 * row['success_rate']:5.1f} %  [{100 * row['ci95'][0]:.1f}, {100 * row['ci95'][1]:.1f}]"
        start, final = row["start_distance_median"], row["final_distance_median"]
        ways = [f"{kind} {start[kind]:.3g} -> {final[kind]:.3g}" for kind in final if final[kind] is not None]
        text += f"  median distance: {', '.join(ways)}  decision p50 {row['plan_ms']['p50']:.1f} ms"
        if name in result["paired"]:
            paired = result["paired"][name]
            text += f"  {result['policy']} better {paired['better']}, worse {paired['worse']}, p = {paired['p']:.3g}"
        lines.append(text)
    return "\n".join(lines)
