"""Solvers and critics by name: what YAML may say, and what is said of what it may not."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from linear_world import FLAT, DescendableWorld, problem

from planner_node.assembly import MODES, PlannerConfig, build_solver
from planner_node.critics.registry import CRITICS, Sources, build_critics
from planner_node.planner_file import PlannerFileError, planner_config, with_planner_file, with_planner_text
from planner_node.settings import SettingsError
from planner_node.solvers.registry import SOLVERS, UnknownSolverError, configured
from planner_node.solvers.solver import Deadline

SHIPPED = Path(__file__).resolve().parents[1] / "launch/config/objective.yaml"


class Tidiness:
    name = "tidy"

    def values(self, latents: np.ndarray) -> np.ndarray:
        return latents[:, :1] * 2.0


SOURCES = Sources(DescendableWorld(), DescendableWorld(), (Tidiness(),))


def test_the_shipped_file_says_what_the_defaults_are():
    config = with_planner_file(PlannerConfig(), str(SHIPPED))
    assert config.solver == "actor_rollouts" and config.pace == PlannerConfig().pace and config.batch == 0
    for name in config.solvers:
        assert configured(name, config.solvers) == configured(name, {})
    asked, plans = problem(DescendableWorld(spread=0.8), (0.4, 0.0), (0.6, 0.1)), []
    for each in (PlannerConfig(), config):
        plans.append(build_solver(DescendableWorld(spread=0.8), FLAT, (), each).plan(asked, Deadline.after(60.0)))
    assert np.array_equal(plans[0].actions, plans[1].actions) and plans[0].terms == plans[1].terms


def test_a_file_chooses_solver_critics_and_settings():
    text = """
    solver: icem
    critics: {temporal_distance: 2, effort: {weight: 0.5}, smoothness: 0}
    solvers: {icem: {samples: 40, exponent: 1}, mppi: {}}
    batch: 16
    pace: 0.7
    """
    config = with_planner_text(PlannerConfig(seed=4), text)
    assert (config.solver, config.batch, config.pace, config.seed) == ("icem", 16, 0.7, 4)
    assert configured("icem", config.solvers).samples == 40 and configured("icem", config.solvers).exponent == 1.0
    plan = build_solver(DescendableWorld(), FLAT, (), config).plan(problem(DescendableWorld(), (0.4, 0.0), (0.6, 0.1)), Deadline.after(60.0))
    assert plan.solver == "icem" and set(plan.terms) == {"temporal_distance", "effort"}, "a weight of 0 leaves a critic out"


def test_who_asks_by_name_outweighs_the_file():
    text = "solver: icem"
    assert with_planner_text(PlannerConfig("cem"), text).solver == "cem"
    assert with_planner_text(PlannerConfig(), text).solver == "icem"
    assert with_planner_text(PlannerConfig(), "").solver == "actor_rollouts"


def test_parameters_of_a_node_become_a_configuration(tmp_path):
    file = tmp_path / "objective.yaml"
    file.write_text("solver: mppi\ncritics: {effort: 1.0}\n")
    assert planner_config("planner", "", "", seed=3) == PlannerConfig("planner", 3)
    assert planner_config("cem", "", str(file)).solver == "cem"
    assert planner_config("planner", "", str(file)).solver == "mppi"
    config = planner_config("planner", "gradient", str(file), clearance_m=0.02)
    assert (config.solver, config.clearance_m, config.critics) == ("gradient", 0.02, {"effort": 1.0})
    with pytest.raises(UnknownSolverError, match=r"unknown solver 'icme'; there are .*did you mean 'icem'"):
        planner_config("planner", "icme", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("solver: fly", "unknown solver 'fly'; there are actor_rollouts, actor, cem, icem, mppi, predictive_sampling, gradient, mixture"),
        ("solvers: {fly: {}}", "unknown solver 'fly'"),
        ("critics: {temporal_distanse: 1}", "unknown critic 'temporal_distanse'; there are .* \\(did you mean 'temporal_distance'\\?\\)"),
        ("critics: {effort: -0.1}", "critic 'effort': weight is -0.1, must be a finite number of at least 0"),
        ("critics: {effort: {weight: .inf}}", "critic 'effort': weight is inf"),
        ("critics: {effort: {weight: .nan}}", "critic 'effort': weight is nan"),
        ("critics: {effort: much}", "critic 'effort': weight is 'much'"),
        ("critics: [effort]", "'critics' must be a mapping by name"),
        ("solvers: {icem: {sampels: 3}}", "unknown setting 'sampels' of solver 'icem'; it has samples, .*did you mean 'samples'"),
        ("solvers: {icem: {samples: many}}", "samples of solver 'icem' must be a whole number, not 'many'"),
        ("solvers: {icem: {samples: true}}", "samples of solver 'icem' must be a whole number, not True"),
        ("solvers: {icem: {samples: 4}}", "solver 'icem': samples is 4, must be at least 16"),
        ("solvers: {icem: 7}", "the settings of solver 'icem' must be a mapping, not 7"),
        ("solvers: {mppi: {temperature: 0}}", "solver 'mppi': temperature is 0.0, must be positive and finite"),
        ("solvers: {icem: {exponent: .nan}}", "exponent of solver 'icem' must be a number, not nan"),
        ("solvers: {cem: {elites: 500}}", "CEM needs 1 <= elites < samples"),
        ("solvers: {mixture: {members: [mixture]}}", "solver 'mixture': members are mixture; name at least one other solver"),
        ("solvers: {mixture: {members: []}}", "members are none"),
        ("weights: {}", "unknown entry 'weights'; there are solver, critics, solvers, batch, pace"),
        ("batch: -1", "batch is -1, must be a whole number of at least 0"),
        ("pace: 0", "pace is 0, must be a positive number"),
        ("- solver", "must be a mapping with solver"),
        ("a: b: c", "not YAML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(text, said, tmp_path):
    file = tmp_path / "objective.yaml"
    file.write_text(text)
    with pytest.raises(PlannerFileError, match=said) as raised:
        with_planner_file(PlannerConfig(), str(file))
    assert "\n" not in str(raised.value) and str(raised.value).startswith(str(file))


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(PlannerFileError, match=r"planner_file nowhere.yaml: No such file"):
        with_planner_file(PlannerConfig(), "nowhere.yaml")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fly": 1.0}, "unknown critic 'fly'"),
        ({"effort": {"wait": 1.0}}, "unknown setting 'wait' of critic 'effort'; it has weight \\(did you mean 'weight'\\?\\)"),
        ({"effort": -1}, "critic 'effort': weight is -1.0, must be finite and at least 0"),
        ({"effort": "much"}, "critic 'effort' needs a weight or a mapping of settings, not 'much'"),
        ({"latent_distance": {"over": "sometimes"}}, "critic 'latent_distance': over is 'sometimes'; choose last, summed, weighted"),
        ({"latent_distance": {"growth": 0}}, "critic 'latent_distance': growth is 0.0"),
        ({"terminal_value": {"discount": 1.0}}, "critic 'terminal_value': discount is 1.0, must lie between 0 and 1"),
        ({"temporal_distance": {"head": 3}}, "unknown setting 'head' of critic 'temporal_distance'"),
        ({"goal_cost": {"head": "neat"}}, "critic 'goal_cost' needs a cost head, not 'neat'; there is tidy"),
        ({}, "no critic has a weight"),
        ({"effort": 0, "smoothness": 0.0}, "no critic has a weight"),
    ],
)
def test_a_critic_that_cannot_be_built_is_named(settings, said):
    with pytest.raises(ValueError, match=said):
        build_critics(settings, SOURCES)


def test_a_cost_head_that_is_not_there_is_named():
    with pytest.raises(SettingsError, match="critic 'goal_cost' needs a cost head, not None; there is none: fit one with `latent-mpc head fit`"):
        build_critics({"goal_cost": 1.0}, Sources(DescendableWorld(), DescendableWorld()))


@pytest.mark.parametrize("name", CRITICS)
def test_every_critic_is_built_by_its_weight_and_called_by_its_name(name):
    (critic,) = build_critics({name: 2.5}, SOURCES)
    assert critic.name == name and critic.weight == 2.5


@pytest.mark.parametrize("name", SOLVERS)
def test_every_setting_of_a_solver_can_be_written_in_yaml(name):
    default = configured(name, {})
    written = {item.name: list(value) if isinstance(value := getattr(default, item.name), tuple) else value for item in fields(default)}
    assert configured(name, {name: written}) == default


def test_modes_are_solvers():
    assert [PlannerConfig(mode).solver for mode in MODES] == ["actor_rollouts", "actor", "cem"]
    assert {PlannerConfig(mode).solver for mode in MODES} <= SOLVERS.keys()
