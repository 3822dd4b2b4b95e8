"""Solvers on the same episodes, from the same model, under the same deadline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from latent_mpc.evaluate import Evaluation, EvaluationError, evaluate
from latent_mpc.markdown_table import markdown_table
from latent_mpc.policies import REFERENCES
from planner_node.assembly import MODES
from planner_node.solvers.registry import descends, solver_kind
from world_model.differentiable import DifferentiableModel

DEFAULT = ("actor_rollouts", "actor", "mixture", "cem", "icem", "mppi", "predictive_sampling", "gradient")


def compare_solvers(evaluation: Evaluation, outcomes: Path, report: Callable[[int, int], None]) -> dict[str, Any]:
    """What ``evaluate`` finds, with the policies of ``evaluation`` being solvers, and the random policy among them as a reference.

    Raises:
        EvaluationError: a solver is named twice.
        ValueError: there is no such solver, or it needs gradients that the model does not have; nothing was played then.
    """
    named = evaluation.policies
    if len(set(named)) < len(named):
        raise EvaluationError(f"each solver once, not {', '.join(named)}")
    searching = [name for name in named if name not in (*MODES, *REFERENCES)]
    for name in searching:
        solver_kind(name)
    if any(descends(name, evaluation.planner.solvers) for name in searching):
        DifferentiableModel(evaluation.model).prepare()
    return {**evaluate(evaluation, outcomes, report), "deadline_s": evaluation.deadline_s, "clock": "cpu" if evaluation.cpu_time else "wall"}


def table(result: dict[str, Any]) -> str:
    """A row for each solver, as Markdown. The first is compared with the others in pairs of episodes."""
    first = result["policy"]
    head = [
        "solver",
        "success, % [95 %]",
        "median, cm",
        "decision ms, p50 / p99",
        "candidates",
        "iterations",
        "no plan, %",
        f"{first} better / worse",
    ]
    return markdown_table(head, [_cells(name, row, result["paired"].get(name)) for name, row in result["policies"].items()])


def _cells(name: str, row: dict[str, Any], paired: dict[str, Any] | None) -> list[str]:
    low, high = row["ci95"]
    searched = row["candidates"] is not None
    return [
        name,
        f"{100 * row['success_rate']:.0f} [{100 * low:.0f}, {100 * high:.0f}]",
        f"{100 * row['final_distance_m']['median']:.1f}",
        f"{row['plan_ms']['p50']:.0f} / {row['plan_ms']['p99']:.0f}" if searched else "",
        f"{row['candidates']:.0f}" if searched else "",
        f"{row['iterations']:.0f}" if searched else "",
        f"{100 * row['infeasible_share']:.1f}" if searched else "",
        "" if paired is None else f"{paired['better']} / {paired['worse']}, p = {paired['p']:.2g}",
    ]
