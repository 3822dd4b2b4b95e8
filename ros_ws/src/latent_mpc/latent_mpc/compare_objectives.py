"""The objectives against collapse beside each other: the same world model trained with each, judged by its latents and in closed loop."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arm_model import load_arm
from latent_mpc.evaluate import Evaluation, evaluate
from latent_mpc.json_file import write_json
from world_model.config import TrainConfig
from world_model.export import export_bundle, load_run
from world_model.jepa import Jepa
from world_model.objectives import ObjectiveConfig, collapse_warning, effective_rank
from world_model.probes import probe_errors
from world_model.training import Episodes, Learned, encode_all, open_episodes, train

Report = Callable[[str, int, int, dict[str, float]], None]

_POLICIES = ("planner", "actor", "random")
_FITTED = 400
_STATE = 6


class ComparisonError(ValueError):
    """A comparison that cannot be run as asked."""


@dataclass(frozen=True)
class Comparison:
    """Which ``objectives`` are compared, on which ``data``: each trains ``base`` but for its objective, and plays ``episodes`` of each task."""

    base: TrainConfig
    objectives: tuple[ObjectiveConfig, ...]
    data: tuple[Path, ...]
    out: Path
    episodes: int
    seeds: tuple[int, ...] = (0,)
    tasks: tuple[str, ...] = ()
    workers: int = 1

    def config(self, objective: ObjectiveConfig) -> TrainConfig:
        """The base with this objective."""
        return dataclasses.replace(self.base, jepa=dataclasses.replace(self.base.jepa, objective=objective))


@dataclass(frozen=True)
class LatentQuality:
    """On held-out episodes: ``rank`` of the tokens' ``width``; R2 of linear probes; error of one step as a share of the latents' variance."""

    rank: float
    width: int
    probe_r2: dict[str, float]
    prediction_error: float


def compare(comparison: Comparison, report: Report) -> list[dict[str, Any]]:
    """A row for each objective; those that ``out`` holds already are not trained or played again.

    Raises:
        ComparisonError: there is nothing to compare, or the data has no ground truth to probe for.
        ValueError: data, configuration or an earlier run in ``out`` does not fit.
    """
    if not comparison.objectives or comparison.episodes < 1 or not comparison.seeds:
        raise ComparisonError("a comparison needs at least one objective, episode and seed")
    kinds = [objective.kind for objective in comparison.objectives]
    if len(set(kinds)) != len(kinds):
        raise ComparisonError("an objective is compared with itself: name each kind once")
    state = open_episodes(list(comparison.data), comparison.base.held_out).state
    if state is None or state.shape[-1] != _STATE:
        raise ComparisonError(f"{comparison.data[0]} has no ground truth, which the linear probes are judged by")
    rows = []
    for place, objective in enumerate(comparison.objectives):
        report("objectives", place, len(kinds), {})
        rows.append(_row(comparison, objective, report))
    report("objectives", len(kinds), len(kinds), {})
    write_json(comparison.out / "comparison.json", {"steps": comparison.base.jepa.steps, "episodes": comparison.episodes, "objectives": rows})
    return rows


def _row(comparison: Comparison, objective: ObjectiveConfig, report: Report) -> dict[str, Any]:
    """Train, judge, export, play; from disk where that was done with the same settings."""
    run = comparison.out / objective.kind
    config = comparison.config(objective)
    tasks = comparison.tasks or comparison.base.tasks
    data = open_episodes(list(comparison.data), config.held_out)
    settings = {
        "config": dataclasses.asdict(config),
        "data": [*data.descriptions, {"episodes": len(data.actions)}],
        "episodes": comparison.episodes,
        "seeds": list(comparison.seeds),
        "tasks": list(tasks),
    }
    file = run / "result.json"
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["settings"] == json.loads(json.dumps(settings)):
            return kept

    def say(stage: str, done: int, of: int, numbers: dict[str, float]) -> None:
        report(f"{objective.kind}: {stage}", done, of, numbers)

    if not (run / "learned.safetensors").is_file() or load_run(run)[0] != config:
        train(config, list(comparison.data), run, say)
    _, learned, _ = load_run(run)
    quality = judge(learned, data, config.held_out)
    export_bundle(run, run / "bundle", load_arm().joints)
    played = {}
    for task in tasks:
        asked = Evaluation(
            run / "bundle", task, comparison.episodes, comparison.seeds, _POLICIES, comparison.out / f"{task}.json", max(1, comparison.workers)
        )
        result = evaluate(asked, run / f"outcomes-{task}.jsonl", lambda done, of, task=task: say(task, done, of, {}))  # type: ignore[misc]
        played[task] = {name: {key: row[key] for key in ("success_rate", "ci95")} for name, row in result["policies"].items()} | {
            "paired": result["paired"]
        }
    row = {
        "objective": objective.kind,
        "weight": objective.effective_weight,
        **dataclasses.asdict(quality),
        "collapse_warned_at_step": first_warning(run / "log.csv"),
        "collapsed": collapse_warning(quality.rank, quality.width) is not None,
        "tasks": played,
        "settings": settings,
    }
    write_json(file, row)
    return row


@torch.inference_mode()
def judge(learned: Learned, data: Episodes, held_out: int) -> LatentQuality:
    """What the latents of the last ``held_out`` episodes are worth; the probes are fitted on others."""
    jepa = learned.jepa
    assert data.state is not None
    fitted = np.unique(np.linspace(0, len(data.actions) - held_out - 1, _FITTED).astype(int))
    judged = np.arange(len(data.actions) - held_out, len(data.actions))
    known, latents = _latents(jepa, data, fitted), _latents(jepa, data, judged)

    errors = probe_errors(latents.numpy(), data.state[judged], known.numpy(), data.state[fitted])
    probes = {name.removesuffix("_r2"): value for name, value in errors.items() if name.endswith("_r2")}
    predicted = jepa.predict_window(latents, torch.from_numpy(data.actions[judged])).next
    targets = latents[:, 1:]
    error = (predicted - targets).square().mean() / (targets - targets.mean((0, 1))).square().mean()
    return LatentQuality(effective_rank(latents.reshape(-1, jepa.token_dim)), jepa.token_dim, probes, float(error))


def _latents(jepa: Jepa, data: Episodes, episodes: NDArray[np.integer]) -> Tensor:
    """Latents ``(E, T+1, D)`` of some episodes."""

    def encoded(rows: NDArray[np.integer]) -> Tensor:
        joints = None if data.joints is None else data.joints[rows]
        return encode_all(jepa, data.reader.windows(rows, np.zeros_like(rows), data.reader.steps + 1), joints)

    return torch.cat([encoded(part) for part in np.array_split(episodes, max(1, len(episodes) // 10))])


def first_warning(log: Path) -> int | None:
    """The step at which training first said that the latents collapse, from its ``log.csv``."""
    with log.open() as lines:
        return next((int(row["step"]) for row in csv.DictReader(lines) if float(row["collapsed"])), None)
