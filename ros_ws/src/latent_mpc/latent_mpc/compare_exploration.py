"""Which exploration is best for push: as many transitions of each mix, the same training on each, the same episodes played with each model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arm_model import load_arm
from latent_mpc.collect import Collection, collect
from latent_mpc.evaluate import Evaluation, evaluate
from latent_mpc.json_file import write_json
from latent_mpc.markdown_table import markdown_table
from sim.exploration import ExplorationMix
from world_model.bundle import bundle_sha256, read_manifest
from world_model.config import TrainConfig
from world_model.data import EpisodeDataset
from world_model.export import export_bundle
from world_model.training import train

TASKS = ("push", "push-far")
POLICIES = ("actor", "cem", "planner")
RESULT = "comparison.json"
_MOVED_M = 0.001

Report = Callable[[str, int, int, dict[str, float]], None]


class ComparisonError(ValueError):
    """A comparison that was not said clearly."""


@dataclass(frozen=True)
class Comparison:
    """``mixes`` to compare with ``steps`` transitions each, trained on by ``config`` and evaluated in ``episodes`` for each of ``seeds``."""

    mixes: tuple[ExplorationMix, ...]
    steps: int
    config: TrainConfig
    out: Path
    episodes: int = 100
    seeds: tuple[int, ...] = (0,)
    workers: int = 2
    seed: int = 0
    episode_steps: int = 40
    episodes_per_shard: int = 25


def parse_mixes(text: str) -> tuple[ExplorationMix, ...]:
    """Mixes from ``random-walk:near-block`` shares, such as ``0.2:0.4,1:0``.

    Raises:
        ComparisonError: the text is no such list, or a mix is in it twice.
        ExplorationError: a share is none.
    """
    mixes = tuple(_mix(text, mix) for mix in text.split(","))
    if len(set(mixes)) != len(mixes):
        raise ComparisonError(f"'{text}' names a mix twice")
    return mixes


def _mix(text: str, mix: str) -> ExplorationMix:
    try:
        random_walk, near_block = (float(share) for share in mix.split(":"))
    except ValueError as error:
        raise ComparisonError(f"'{text}' is no list of mixes; write random-walk:near-block, such as 0.2:0.4,1:0") from error
    return ExplorationMix(random_walk, near_block)


def moved_share(data: EpisodeDataset) -> float:
    """Share of the transitions in which the true block centre moved by more than a millimetre."""
    state = data.state()
    if state is None:
        raise ComparisonError(f"{data.directory} holds no ground truth to say how often the block moved")
    return float((np.linalg.norm(np.diff(state[..., 3:5], axis=1), axis=-1) > _MOVED_M).mean())


def compare(comparison: Comparison, report: Report) -> list[dict[str, Any]]:
    """A row for each mix, kept in ``out/<mix>/``; what an earlier run has finished there is not done again.

    Raises:
        DatasetError: ``out`` holds collections of another kind.
        CheckpointError: ``out`` holds runs of another configuration.
    """
    rows = [_row(comparison, mix, number, report) for number, mix in enumerate(comparison.mixes)]
    write_json(comparison.out / RESULT, {"steps": comparison.steps, "episodes": comparison.episodes, "seeds": list(comparison.seeds), "mixes": rows})
    return rows


def _row(comparison: Comparison, mix: ExplorationMix, number: int, report: Report) -> dict[str, Any]:
    name = f"{mix.random_walk:g}-{mix.near_block:g}"
    folder, label = comparison.out / name, f"mix {number + 1} of {len(comparison.mixes)} ({name})"
    per_shard = comparison.episode_steps * comparison.episodes_per_shard
    collect(
        Collection(
            "push",
            -(-comparison.steps // per_shard),
            comparison.seed,
            folder / "data",
            episodes=comparison.episodes_per_shard,
            steps=comparison.episode_steps,
            mix=mix,
        ),
        comparison.workers,
        lambda done, of: report(f"{label}: collecting", done, of, {}),
    )
    data = EpisodeDataset(folder / "data")
    if (folder / "bundle" / "manifest.json").is_file():
        _check_made_alike(folder / "bundle", comparison.config, data)
    else:
        train(comparison.config, [folder / "data"], folder / "run", lambda stage, done, of, numbers: report(f"{label}: {stage}", done, of, numbers))
        export_bundle(folder / "run", folder / "bundle", load_arm().joints)
    results = {task: _evaluated(comparison, folder, task, label, report) for task in TASKS}
    return {
        "random_walk": mix.random_walk,
        "near_block": mix.near_block,
        "block_moved": moved_share(data),
        **{task: {name: {"success_rate": row["success_rate"], "ci95": row["ci95"]} for name, row in results[task].items()} for task in TASKS},
    }


def _check_made_alike(bundle: Path, config: TrainConfig, data: EpisodeDataset) -> None:
    """Refuse a model of an earlier comparison with another configuration or another amount of data.

    Raises:
        ComparisonError: it is one.
    """
    made = read_manifest(bundle).provenance
    if made["config"] != json.loads(json.dumps(asdict(config))) or made["episodes"] != data.episodes:
        raise ComparisonError(f"{bundle} was trained with another configuration or on other data; choose another --out or delete {bundle.parent}")


def _evaluated(comparison: Comparison, folder: Path, task: str, label: str, report: Report) -> dict[str, Any]:
    """Rows of the policies, read back if the same bundle has played the same episodes before."""
    file = folder / f"{task}.json"
    asked = (comparison.episodes * len(comparison.seeds), list(comparison.seeds), bundle_sha256(read_manifest(folder / "bundle")))
    if file.is_file():
        before: dict[str, Any] = json.loads(file.read_text())
        if (before["episodes"], before["seeds"], before["model"]["sha256"]) == asked:
            return dict(before["policies"])
    evaluation = Evaluation(folder / "bundle", task, comparison.episodes, comparison.seeds, POLICIES, workers=comparison.workers)
    result = evaluate(evaluation, folder / f"{task}.jsonl", lambda done, of: report(f"{label}: playing {task}", done, of, {}))
    write_json(file, result)
    return dict(result["policies"])


def comparison_table(comparison: Comparison, rows: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown: success in % with Wilson's 95 % interval."""
    head = ["random walk", "near block", "block moved", *(f"{task}: {policy}" for task in TASKS for policy in POLICIES)]

    def cell(row: dict[str, Any]) -> str:
        low, high = row["ci95"]
        return f"{100 * row['success_rate']:.0f} [{100 * low:.0f}, {100 * high:.0f}]"

    body = [
        [
            f"{row['random_walk']:g}",
            f"{row['near_block']:g}",
            f"{100 * row['block_moved']:.1f} %",
            *(cell(row[task][policy]) for task in TASKS for policy in POLICIES),
        ]
        for row in rows
    ]
    played = f"{comparison.episodes} episodes of seeds {', '.join(map(str, comparison.seeds))}"
    text = f"{comparison.steps} transitions of each mix, configuration `{comparison.config.name}`"
    text += f" ({comparison.config.jepa.steps} steps of the world model), {played}; success in %, Wilson 95 %."
    return f"{text}\n\n{markdown_table(head, body)}"
