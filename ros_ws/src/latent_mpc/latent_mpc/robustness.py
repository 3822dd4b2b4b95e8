"""How much is lost when the world does not look as it did in training: the same starts and goals under one changed factor after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latent_mpc.evaluate import Evaluation, evaluate
from sim.appearance import FACTORS
from sim.tasks import task_named

NOMINAL, ALL, WITHOUT_ARM = "nominal", "all", "goal without arm"
_FURTHER = {"push-far": "push-further"}


def variants(evaluation: Evaluation) -> dict[str, Evaluation]:
    """The evaluations by name: nominal first, each factor, all together, then goals that the data do not hold, where the task has such."""
    looks: dict[str, tuple[str, ...]] = {NOMINAL: (), **{factor: (factor,) for factor in FACTORS}, ALL: FACTORS}
    chosen = {name: dataclasses.replace(evaluation, look=look) for name, look in looks.items()}
    if task_named(evaluation.task).has_block:
        chosen[WITHOUT_ARM] = dataclasses.replace(evaluation, arm_in_goal=False)
    if evaluation.task in _FURTHER:
        chosen["further goals"] = dataclasses.replace(evaluation, task=_FURTHER[evaluation.task])
    return chosen


def robustness(evaluation: Evaluation, out: Path, report: Callable[[str, int, int, dict[str, float]], None]) -> dict[str, Any]:
    """Play every variant, outcomes in ``out/<name>.jsonl``; each row has what it lost against the nominal one, in points.

    Raises:
        ValueError: as ``evaluate`` does.
    """
    rows: dict[str, Any] = {}
    for name, variant in variants(evaluation).items():
        result = evaluate(variant, out / f"{name.replace(' ', '-')}.jsonl", lambda done, total, name=name: report(name, done, total, {}))  # type: ignore[misc]
        rows[name] = {"task": variant.task, "manifest": result["manifest"]["fingerprint"], "policies": result["policies"], "model": result["model"]}
        nominal = rows[NOMINAL]["policies"]
        for policy, row in result["policies"].items():
            row["lost_points"] = round(100 * (nominal[policy]["success_rate"] - row["success_rate"]), 1)
    return {
        "task": evaluation.task,
        "episodes": evaluation.episodes * len(evaluation.seeds),
        "seeds": list(evaluation.seeds),
        "model": rows[NOMINAL].pop("model"),
        "variants": {name: {key: value for key, value in row.items() if key != "model"} for name, row in rows.items()},
    }


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table, a row for each variant."""
    policies = list(result["variants"][NOMINAL]["policies"])
    lines = [
        f"| {result['task']}, {result['episodes']} episodes | " + " | ".join(f"{name}, % [95 %] | lost" for name in policies) + " |",
        "|---|" + "---|---|" * len(policies),
    ]
    for name, row in result["variants"].items():
        cells = []
        for policy in policies:
            values = row["policies"][policy]
            low, high = values["ci95"]
            cells += [f"{100 * values['success_rate']:.1f} [{100 * low:.1f}, {100 * high:.1f}]", f"{values['lost_points']:+.1f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
