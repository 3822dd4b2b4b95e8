"""Solvers side by side on the same episodes, from the command line to the document."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from latent_mpc.cli import run
from latent_mpc.evaluate import Evaluation
from latent_mpc.policies import FILTERED, MODES, POLICIES, PUBLISHED, REFERENCES, UNTOLD, PlannerPolicy
from linear_world import FLAT, LinearWorld

from planner_node.assembly import PlannerConfig
from planner_node.solvers.registry import SOLVERS


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("compare") / "reach", "reach")


def test_every_solver_is_a_policy():
    assert set(POLICIES) == {*MODES, *SOLVERS, *FILTERED, UNTOLD, *PUBLISHED, *REFERENCES} and len(set(POLICIES)) == len(POLICIES)


def test_the_same_episodes_are_played_by_each_and_the_table_lands_in_the_document(bundle, tmp_path, capsys):
    document, file = tmp_path / "solvers.md", tmp_path / "objective.yaml"
    document.write_text("before\n<!-- compare-solvers reach -->\nold\n<!-- end of compare-solvers reach -->\nafter\n")
    file.write_text("solvers: {icem: {samples: 24, iterations: 2, horizon: 3}, mppi: {samples: 16, iterations: 3, horizon: 3}}\n")
    solvers = [word for name in ("icem", "mppi", "random") for word in ("--solver", name)]
    paths = ["--outcomes", str(tmp_path / "o.jsonl"), "--json", str(tmp_path / "r.json"), "--document", str(document), "--planner-file", str(file)]
    status = run(["compare-solvers", "--model", str(bundle), "--task", "reach", "--episodes", "1", "--deadline", "5", *solvers, *paths])
    assert status == 0
    text = document.read_text()
    printed = capsys.readouterr().out.strip()
    assert (
        text.startswith("before\n")
        and text.endswith("\nafter\n")
        and "old" not in text
        and printed.endswith(text.split("-->\n")[1].split("\n<!--")[0])
    )
    rows = {line.split(" | ")[0].strip("| "): [cell.strip(" |") for cell in line.split(" | ")] for line in text.splitlines() if line.startswith("| ")}
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {9}, "as many cells as headings"
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["deadline_s"] == 5 and list(result["policies"]) == ["icem", "mppi", "random"]
    outcomes = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [outcome["policy"] for outcome in outcomes] == ["icem", "mppi", "random"] and len({outcome["seed"] for outcome in outcomes}) == 1
    for name, iterations in (("icem", 2), ("mppi", 3)):
        (outcome,) = (outcome for outcome in outcomes if outcome["policy"] == name)
        assert set(outcome["iterations"]) == {iterations} and len(outcome["candidates"]) == len(outcome["plan_ms"]) == 20
        assert rows[name][5] == str(iterations)
    assert rows["random"][4] == "" and outcomes[2]["candidates"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--solver", "fly"], "unknown solver 'fly'; there are actor_rollouts, actor, cem, icem"),
        (["--solver", "icem", "--solver", "icem"], "each solver once, not icem, icem"),
        (["--solver", "gradient"], "weights.safetensors is missing or empty"),
        (["--solver", "mixture", "--planner-file", "MIXED"], "weights.safetensors is missing or empty"),
        (["--deadline", "0"], "deadline is 0.0, must be positive"),
        (["--planner-file", "nowhere.yaml"], "planner_file nowhere.yaml: No such file"),
        (["--document", "nowhere.md"], "nowhere.md has no place for the table: it needs the lines <!-- compare-solvers reach -->"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_played(bundle, tmp_path, capsys, arguments, said):
    mixed = tmp_path / "mixed.yaml"
    mixed.write_text("solvers: {mixture: {members: [cem, gradient]}}\n")
    given = [str(mixed) if word == "MIXED" else word for word in arguments]
    outcomes = tmp_path / "o.jsonl"
    assert run(["compare-solvers", "--model", str(bundle), "--task", "reach", "--episodes", "1", "--outcomes", str(outcomes), *given]) == 2
    complaint = capsys.readouterr().err.strip()
    assert complaint.count("\n") == 0 and said in complaint and not outcomes.exists()


class Watched(LinearWorld):
    """Sees nothing but that the tool stands at 0.4, 0."""

    def encode(self, frames, joints=None):
        return np.full((len(frames), 2), [0.4, 0.0], np.float32)


def test_decisions_are_counted_by_the_clock_that_was_asked_for():
    """By a clock that advances a second each time it is read, four iterations fit into 4.5 s, by one that stands still all of them."""
    observation = {key: np.zeros(3) for key in ("goal", "image", "joints")} | {"tool": np.array([0.4, 0.0, 0.02])}
    ticks = itertools.count()
    iterations = []
    for clock in (lambda: float(next(ticks)), lambda: 0.0):
        policy = PlannerPolicy(Watched(), FLAT, PlannerConfig("icem", solvers={"icem": {"iterations": 9}}), 4.5, clock)
        policy.start(observation, 20, ())
        policy.act(observation)
        iterations.append(policy.plans[-1].iterations)
    assert iterations == [4, 9]
    asked = Evaluation(Path("any"), "reach", 1, (0,))
    assert (asked.clock, replace(asked, cpu_time=True).clock) == (time.perf_counter, time.process_time)
