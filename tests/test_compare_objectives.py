"""The comparison of objectives: what its rows say, what it does not do twice, where the table goes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from latent_mpc import compare_objectives as module
from latent_mpc.cli import run
from latent_mpc.compare_objectives import Comparison, ComparisonError, compare, first_warning, judge
from latent_mpc.objective_table import BEGIN, END, TableError, objective_table, put_table
from tiny_runs import silent, tiny_config, tiny_data, tiny_run

from world_model.export import load_run
from world_model.objectives import ObjectiveConfig
from world_model.training import encode_all, open_episodes

QUICK = {"jepa": {"steps": 6, "batch": 4, "window": 5, "warmup": 5}, "distance": {"steps": 5}, "actor": {"steps": 5}}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_data(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory) -> tuple[Comparison, list[dict]]:
    objectives = (ObjectiveConfig("none"), ObjectiveConfig("distillation"))
    asked = Comparison(tiny_config(**QUICK), objectives, (data,), tmp_path_factory.mktemp("compared"), episodes=1)
    return asked, compare(asked, silent)


def test_each_objective_is_trained_judged_and_played_on_the_same_episodes(compared):
    asked, rows = compared
    assert [row["objective"] for row in rows] == ["none", "distillation"]
    for row in rows:
        assert 1 <= row["rank"] <= 8 and row["width"] == 8
        assert set(row["probe_r2"]) == {"tool"}  # nothing is pushed in this data
        played = row["tasks"]["reach"]
        assert {played[name]["success_rate"] for name in ("planner", "actor", "random")} <= {0.0, 1.0}
        assert all(0 <= low < high <= 1 for low, high in (played[name]["ci95"] for name in ("planner", "actor", "random")))
        assert set(played["paired"]) == {"actor", "random"}
    assert rows[0]["tasks"]["reach"]["random"] == rows[1]["tasks"]["reach"]["random"]
    configs = [load_run(asked.out / row["objective"])[0] for row in rows]
    assert configs[0].jepa.objective.kind == "none" and configs[1].jepa.objective.kind == "distillation"
    assert replace(configs[0], jepa=configs[1].jepa) == configs[1]
    written = json.loads((asked.out / "comparison.json").read_text())
    assert written["objectives"] == json.loads(json.dumps(rows))


def test_what_is_done_is_not_done_again(compared, monkeypatch):
    asked, rows = compared

    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    for name in ("train", "export_bundle", "evaluate"):
        monkeypatch.setattr(module, name, never)
    assert compare(asked, silent) == json.loads(json.dumps(rows))
    with pytest.raises(AssertionError, match="done again"):
        compare(replace(asked, episodes=2), silent)


def test_the_latents_are_judged_on_held_out_episodes(data, tmp_path_factory):
    """Rank and one-step error once more, frame by frame, from the model itself."""
    config, learned, _ = load_run(tiny_run(tmp_path_factory.getbasetemp()))
    episodes = open_episodes([data], config.held_out)
    quality = judge(learned, episodes, config.held_out)
    latents = encode_all(learned.jepa, episodes.frames)[-config.held_out :]
    values = np.linalg.svd(latents.flatten(0, 1).numpy() - latents.flatten(0, 1).numpy().mean(0), compute_uv=False)
    share = values / values.sum()
    assert quality.rank == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-3)
    errors, history = [], 3
    for episode in range(config.held_out):
        actions = torch.from_numpy(episodes.actions[len(episodes.actions) - config.held_out + episode])
        for step in range(actions.shape[0]):
            seen = [latents[episode, max(0, step - back)] for back in reversed(range(history))]
            done = [actions[step - back] if step >= back else torch.zeros(actions.shape[1]) for back in reversed(range(history))]
            with torch.no_grad():
                after = learned.jepa.rollout(torch.stack(seen)[None], torch.stack(done[:-1])[None], done[-1][None, None])[0, 0]
            errors.append(float((after - latents[episode, step + 1]).square().mean()))
    targets = latents[:, 1:].reshape(-1, latents.shape[-1])
    assert quality.prediction_error == pytest.approx(np.mean(errors) / float((targets - targets.mean(0)).square().mean()), rel=1e-3)


def test_the_first_warning_is_read_from_the_log(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("step,rank,collapsed\n50,9.1,0\n100,3.2,1\n150,2.0,1\n")
    assert first_warning(file) == 100
    file.write_text("step,rank,collapsed\n50,9.1,0\n")
    assert first_warning(file) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"objectives": ()}, "at least one objective"),
        ({"episodes": 0}, "at least one objective, episode and seed"),
        ({"objectives": (ObjectiveConfig("none"), ObjectiveConfig("none"))}, "name each kind once"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(compared, change, reason):
    with pytest.raises(ComparisonError, match=reason) as caught:
        compare(replace(compared[0], **change), silent)
    assert "\n" not in str(caught.value)


def test_the_table_has_a_row_for_each_objective_and_goes_between_the_markers(compared, tmp_path):
    rows = compared[1]
    table = objective_table(rows).splitlines()
    assert len(table) == 4 and len({line.count("|") for line in table}) == 1
    assert table[2].startswith("| none | - |") and "effective rank of 8" in table[0] and "reach, planner" in table[0]
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    put_table(page, "new")
    put_table(page, "newer")
    assert page.read_text() == f"before\n\n{BEGIN}\nnewer\n{END}\n\nafter\n"
    page.write_text("no markers")
    with pytest.raises(TableError, match="lacks the lines"):
        put_table(page, "new")
    put_table(tmp_path / "deep" / "new.md", "first")
    assert "first" in (tmp_path / "deep" / "new.md").read_text()


def test_the_command_refuses_an_unknown_objective_in_one_line(data, tmp_path, capfd):
    assert run(["compare-objectives", "--data", str(data), "--out", str(tmp_path), "--objective", "sigred"]) == 2
    error = capfd.readouterr().err
    assert "unknown objective 'sigred'; choose sigreg" in error and error.count("\n") == 1
