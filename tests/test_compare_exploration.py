"""Mixes of exploration: what they change in the data, and their comparison from collection to table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from latent_mpc.cli import run
from latent_mpc.collect import Collection, collect
from latent_mpc.compare_exploration import Comparison, ComparisonError, compare, comparison_table, moved_share, parse_mixes
from latent_mpc.intervals import wilson95
from latent_mpc.markdown_table import TableError, has_place, markdown_table, write_between
from tiny_runs import silent, tiny_config

from sim.arm_world import BLOCK_HALF_M
from sim.exploration import ExplorationError, ExplorationMix, PushExploration, exploration_for
from sim.tasks import task_named
from world_model.data import DatasetError, EpisodeDataset


def quiet(done: int, of: int) -> None:
    """Reports go nowhere."""


@pytest.mark.parametrize(("walks", "near"), [(0.0, 1.0), (1.0, 0.0), (0.3, 0.7)])
def test_shares_are_what_was_asked_for(walks, near):
    task, mix = task_named("push"), ExplorationMix(walks, near)
    explorations = [exploration_for(task, np.random.default_rng(seed), mix=mix) for seed in range(400)]
    walking = np.mean([isinstance(e, PushExploration) and e.walk is not None for e in explorations])
    starts = [exploration.start() for exploration in explorations]
    distances = np.array([np.linalg.norm(tool[:2] - [block.x, block.y]) for tool, block in starts])
    # Beside the block is 9.2 to 13 cm away; from anywhere, few starts are that near.
    beside = np.mean(distances < 0.13)
    by_chance = 0.12
    assert walking == pytest.approx(walks, abs=0.08) and beside == pytest.approx(near + (1 - near) * by_chance, abs=0.09)
    assert distances.min() > BLOCK_HALF_M[0]


def test_the_mix_is_recorded_and_another_one_is_another_collection(tmp_path):
    asked = Collection("push", shards=1, seed=0, out=tmp_path / "set", episodes=3, steps=6, mix=ExplorationMix(0.0, 1.0))
    collect(asked, 1, quiet)
    data = EpisodeDataset(tmp_path / "set")
    assert data.description["mix"] == {"random_walk": 0.0, "near_block": 1.0}
    with pytest.raises(DatasetError, match="holds a collection with mix"):
        collect(replace(asked, mix=ExplorationMix()), 1, quiet)
    state = data.state().astype(np.float64)
    moved = [np.hypot(*(state[e, t + 1, 3:5] - state[e, t, 3:5])) > 1e-3 for e in range(3) for t in range(6)]
    assert moved_share(data) == pytest.approx(np.mean(moved)) and 0 < np.mean(moved) < 1


@pytest.mark.parametrize(("walks", "near"), [(-0.1, 0.4), (0.2, 1.1), (float("nan"), 0.4)])
def test_a_share_is_a_share(walks, near):
    with pytest.raises(ExplorationError, match="must be a share between 0 and 1"):
        ExplorationMix(walks, near)


def test_mixes_are_read():
    assert parse_mixes("0.2:0.4,1:0") == (ExplorationMix(0.2, 0.4), ExplorationMix(1.0, 0.0))
    for text, reason in (("", "write random-walk:near-block"), ("0.2:x", "no list of mixes"), ("0.5:0,0.5:0", "names a mix twice")):
        with pytest.raises(ComparisonError, match=reason):
            parse_mixes(text)
    with pytest.raises(ExplorationError):
        parse_mixes("0.2:7")


def test_the_comparison_goes_from_collection_to_table_and_does_nothing_twice(tmp_path, monkeypatch):
    config = tiny_config(tasks=["push", "push-far"], jepa={"steps": 3}, distance={"steps": 3}, actor={"steps": 3, "most_steps": 6}, held_out=2)
    asked = Comparison((ExplorationMix(0.0, 1.0),), 40, config, tmp_path / "out", episodes=1, workers=1, episode_steps=10, episodes_per_shard=4)
    rows = compare(asked, silent)
    assert [(row["random_walk"], row["near_block"]) for row in rows] == [(0.0, 1.0)]
    for row, name in zip(rows, ("0-1",), strict=True):
        data = EpisodeDataset(tmp_path / "out" / name / "data")
        assert data.episodes * data.steps == 40 and row["block_moved"] == moved_share(data)
        for task in ("push", "push-far"):
            outcomes = [json.loads(line) for line in (tmp_path / "out" / name / f"{task}.jsonl").read_text().splitlines()]
            assert sorted(outcome["policy"] for outcome in outcomes) == ["actor", "cem", "planner"]
            for outcome in outcomes:
                found = row[task][outcome["policy"]]
                assert found["success_rate"] == outcome["success"]
                assert np.allclose(found["ci95"], wilson95(int(outcome["success"]), 1), atol=1e-4)
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["mixes"] == rows
    monkeypatch.setattr("latent_mpc.compare_exploration.train", None)
    monkeypatch.setattr("latent_mpc.compare_exploration.evaluate", None)
    assert compare(asked, silent) == rows
    with pytest.raises(ComparisonError, match=r"0-1/bundle was trained with another configuration or on other data"):
        compare(replace(asked, config=replace(config, seed=1)), silent)
    with pytest.raises(ComparisonError, match="on other data"):
        compare(replace(asked, steps=80), silent)
    table = comparison_table(asked, rows)
    assert table.splitlines()[2].startswith("| random walk | near block | block moved | push: actor |") and len(table.splitlines()) == 5


def test_a_table_takes_its_place_and_leaves_the_rest(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("above\n<!-- shares -->\nold\n<!-- end of shares -->\nbelow\n")
    table = markdown_table(["a", "b"], [["1", "2"]])
    for _ in range(2):
        write_between(file, "shares", table)
        assert file.read_text() == "above\n<!-- shares -->\n| a | b |\n| --- | --- |\n| 1 | 2 |\n<!-- end of shares -->\nbelow\n"
    with pytest.raises(TableError, match="has no place for a table: it needs the lines <!-- other --> and <!-- end of other -->"):
        write_between(file, "other", table)
    assert not has_place(file, "other") and has_place(file, "shares") and [entry.name for entry in tmp_path.iterdir()] == ["page.md"]


def test_a_comparison_that_cannot_be_is_one_line_before_anything_is_done(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    for arguments, reason in (
        (["--mixes", "0.2"], "0.2"),
        (["--mixes", "2:0"], "random_walk is 2.0, must be a share"),
        (["--document", str(page)], "has no place for the table"),
        (["--episodes", "0"], "must be at least 1"),
    ):
        assert run(["compare-exploration", "--out", str(tmp_path / "out"), *arguments]) == 2
        error = capsys.readouterr().err
        assert reason in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_docs_have_a_place_for_the_comparison():
    assert has_place(Path(__file__).resolve().parents[1] / "docs" / "data.md", "compare-exploration")
