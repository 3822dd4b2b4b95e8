"""Any Gymnasium environment: collected, trained in, exported, and played in closed loop from goal pictures, with nothing of it in our code."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import point_environment
import pytest
from latent_mpc.cli import run
from latent_mpc.environment import EnvironmentConfig, PictureEnvironment, PictureEnvironmentError
from latent_mpc.environment_collect import EnvironmentCollection, collect_environment
from latent_mpc.environment_evaluate import EnvironmentEvaluation, evaluate_environment, table
from latent_mpc.environment_goals import AHEAD, RESET, GoalRule, Referee, draw
from latent_mpc.evaluate import EvaluationError
from latent_mpc.named_object import NamedObjectError
from tiny_runs import silent

from world_model.config import parse_config
from world_model.data import DatasetError, EpisodeDataset
from world_model.export import export_bundle
from world_model.training import train

PLANE = "point_environment:Plane-v0"
SETTINGS = {
    "name": "plane",
    "tasks": [PLANE],
    "threads": 1,
    "held_out": 5,
    "model": {"latent_dim": 8, "predictor": {"width": 64, "depth": 1}},
    "jepa": {"steps": 240, "batch": 12, "window": 5, "warmup": 20, "learning_rate": 1.5e-3, "objective": {"directions": 64}},
    "distance": {"steps": 500, "batch": 128, "width": 64, "embedding_dim": 8},
    "actor": {"steps": 500, "batch": 256, "width": 64, "depth": 1, "least_steps": 1, "most_steps": 15},
}


def quiet(done: int, of: int) -> None:
    """Reports go nowhere."""


def collection(out: Path, **changes: object) -> EnvironmentCollection:
    asked = EnvironmentCollection(EnvironmentConfig(PLANE, size=24), shards=2, seed=5, out=out, episodes=2, steps=9)
    return replace(asked, **changes)


def open_environment(name: str, **arguments: object) -> PictureEnvironment:
    return PictureEnvironment(EnvironmentConfig(name, **arguments))


# The whole way.


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A model of the plane from 1,000 random actions."""
    folder = tmp_path_factory.mktemp("plane")
    collect_environment(collection(folder / "data", environment=EnvironmentConfig(PLANE, size=24), shards=2, episodes=25, steps=20), 1, quiet)
    train(parse_config(SETTINGS, "plane"), [folder / "data"], folder / "run", silent)
    export_bundle(folder / "run", folder / "bundle", ("a_joint_that_no_plane_has",))
    return folder / "bundle"


def asked(bundle: Path, **changes: object) -> EnvironmentEvaluation:
    usual = EnvironmentEvaluation(bundle, PLANE, 12, (0,), ("planner", "random"), goal_steps=10, judge="point_environment:NearTheDot")
    return replace(usual, **changes)


def test_a_model_of_a_users_environment_reaches_goal_pictures_and_random_actions_do_not(bundle, tmp_path):
    result = evaluate_environment(asked(bundle, policies=("planner", "actor", "cem", "random")), tmp_path / "outcomes.jsonl", quiet)
    rates = {name: row["success_rate"] for name, row in result["policies"].items()}
    assert rates["random"] <= 0.34 and min(rates["planner"], rates["actor"], rates["cem"]) >= 0.75
    assert result["paired"]["random"]["p"] < 0.02 and result["random_success_rate"] == rates["random"]
    assert result["success_by"] == "point_environment:NearTheDot"
    # The judge says what it says in the environment: the outcomes on disk hold its distances.
    outcomes = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert len(outcomes) == 48
    for outcome in outcomes:
        assert outcome["success"] == (outcome["final"]["state"] <= 0.1) and outcome["start"]["state"] > 0.1 and outcome["steps"] == 20
    assert "planner" in table(result) and "success by point_environment:NearTheDot" in table(result)


def test_the_bundle_says_what_its_actions_are(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["action_space"] == {"low": [-2.0, 0.0], "high": [2.0, 10.0], "dim": 2}
    assert manifest["tool_step"] == {} and manifest["joints"] == [] and manifest["tasks"] == [PLANE]
    assert manifest["provenance"]["probes"] == {}, "nothing is known of the state, so nothing is probed"


def test_results_depend_neither_on_the_workers_nor_on_the_judge(bundle, tmp_path):
    one = evaluate_environment(asked(bundle, policies=("actor",), episodes=5), tmp_path / "one.jsonl", quiet)
    two = evaluate_environment(asked(bundle, policies=("actor",), episodes=5, workers=2), tmp_path / "two.jsonl", quiet)
    assert one["manifest"] == two["manifest"] and one["final_distance_median"] == two["final_distance_median"]


def test_without_any_success_the_distances_are_reported_and_it_is_said(bundle, tmp_path):
    result = evaluate_environment(asked(bundle, judge=None, episodes=6), tmp_path / "outcomes.jsonl", quiet)
    assert result["success_by"] is None and result["success_rate"] is None and result["random_success_rate"] is None
    planner, other = (result["policies"][name]["final_distance_median"] for name in ("planner", "random"))
    assert planner["state"] is None and planner["pixel"] < 0.5 * other["pixel"] and planner["temporal"] < other["temporal"]
    assert "no success is defined: give --judge module:Class" in table(result)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policies": ("oracle",)}, "unknown policy 'oracle'; choose among planner, actor, cem, random"),
        (
            {"env": "point_environment:KnowingPlane-v0"},
            "was trained for point_environment:Plane-v0, not in the environment point_environment:Knowing",
        ),
        ({"judge": "point_environment:to_the_right"}, "judge 'point_environment:to_the_right' cannot be made without arguments"),
        ({"judge": "point_environment:Nobody"}, "has no callable 'Nobody'"),
        ({"judge": "nobody"}, "write module:name"),
        ({"goal": "point_environment:drunk"}, "takes 2 finite numbers as an action"),
        ({"episodes": 0}, "at least one"),
        ({"steps": 0}, "at least one"),
    ],
)
def test_an_evaluation_that_cannot_be_is_one_line(bundle, tmp_path, changes, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        evaluate_environment(asked(bundle, **changes), tmp_path / "outcomes.jsonl", quiet)
    assert "\n" not in str(caught.value)


# Collecting.


def test_two_workers_collect_what_one_does_and_what_was_done_is_what_is_seen(tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        collect_environment(collection(tmp_path / name), workers, quiet)
    files = [sorted((tmp_path / name).rglob("*.npy")) for name in ("one", "two")]
    assert [hashlib.sha256(f.read_bytes()).digest() for f in files[0]] == [hashlib.sha256(f.read_bytes()).digest() for f in files[1]]
    data = EpisodeDataset(tmp_path / "one")
    assert (data.episodes, data.steps, data.frame, data.state()) == (4, 9, (24, 24, 3), None)
    assert data.description["policy"] == "random" and data.description["env"] == PLANE
    # Longer than the environment's own time limit of 7; the dot's place is read off the pictures alone.
    red = data.frames()[..., 0].astype(float) - 40
    axis = (np.arange(24) + 0.5) / 24
    seen = np.stack([(red.sum(2) * axis).sum(-1), (red.sum(3) * axis).sum(-1)], -1) / red.sum((2, 3))[..., None]
    free = (seen[:, 1:] > 0.2) & (seen[:, 1:] < 0.8) & (seen[:, :-1] > 0.2) & (seen[:, :-1] < 0.8)
    wanted = point_environment.REACH * data.actions()
    assert free.sum() > 10 and np.abs(np.diff(seen, axis=1) - wanted)[free].max() < 0.02


def test_a_users_policy_acts_in_the_environments_own_units(tmp_path):
    collect_environment(collection(tmp_path / "set", policy="point_environment:to_the_right"), 1, quiet)
    data = EpisodeDataset(tmp_path / "set")
    assert np.abs(data.actions()[..., 0] - 1).max() < 0.2 and np.abs(data.actions()[..., 1]).max() < 0.2 and np.ptp(data.actions()) > 0
    with pytest.raises(DatasetError, match="holds a collection with policy point_environment:to_the_right, not random"):
        collect_environment(collection(tmp_path / "set"), 1, quiet)


def test_short_episodes_are_dropped_until_enough_are_long_enough(tmp_path):
    asked = collection(tmp_path / "set", environment=EnvironmentConfig("point_environment:SeeingPlane-v0", 24, "back", {"over": 0.8}))
    collect_environment(asked, 1, quiet)
    assert EpisodeDataset(tmp_path / "set").description["camera"] == "back"
    never = replace(asked, out=tmp_path / "never", policy="point_environment:to_the_right")
    with pytest.raises(PictureEnvironmentError, match="ended 100 episodes before step 9: give fewer --episode-steps"):
        collect_environment(never, 1, quiet)


def test_the_command_line_brings_a_module_from_the_folder_it_is_started_in(tmp_path):
    (tmp_path / "my_plane.py").write_text("import gymnasium, point_environment\ngymnasium.register('MyPlane-v0', point_environment.Plane)\n")
    arguments = ["collect", "--env", "my_plane:MyPlane-v0", "--steps", "50", "--episode-steps", "2", "--size", "16", "--out", "set", "--workers", "1"]
    code = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); from latent_mpc.cli import run; sys.exit(run({arguments!r}))"
    ended = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert EpisodeDataset(tmp_path / "set").episodes == 25


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--env", "point_environment:NoPlane-v0"], "environment 'point_environment:NoPlane-v0' cannot be made: AttributeError"),
        (["--env", "Nowhere-v0"], "environment 'Nowhere-v0' cannot be made: NameNotFound"),
        (["--env", "no_such_module:Plane-v0"], "module 'no_such_module' cannot be imported: ModuleNotFoundError"),
        (["--env", "CartPole-v1"], "CartPole-v1 has actions of kind Discrete; a Box is needed"),
        (["--env", "point_environment:SeeingPlane-v0"], "observes several pictures; choose one with --camera: back, front"),
        (["--env", "point_environment:SeeingPlane-v0", "--camera", "dot"], "no picture 'dot' in its observations; pictures are: back, front"),
        (["--env", PLANE, "--camera", "front"], "no picture 'front' in its observations; pictures are: none"),
        (["--env", PLANE, "--policy", "point_environment:nobody"], "module 'point_environment' has no callable 'nobody'"),
        (["--env", PLANE, "--env-args", "[1"], "--env-args '[1' is not a JSON object"),
        (["--env", PLANE, "--env-args", '{"colour": 1}'], "cannot be made: TypeError"),
        (["--env", PLANE, "--size", "2"], "size is 2, must be at least 8 pixels"),
        (["--env", PLANE, "--steps", "0"], "steps is 0, must be at least 1"),
        (["--env", PLANE, "--task", "push"], "say what to collect: either --task or --env"),
        ([], "say what to collect: either --task or --env"),
        (["--task", "push", "--near-block", "1.5"], "near_block is 1.5, must be a share between 0 and 1"),
    ],
)
def test_what_cannot_be_collected_is_one_line(tmp_path, capsys, arguments, reason):
    assert run(["collect", "--out", str(tmp_path / "set"), *arguments]) == 2
    captured = capsys.readouterr()
    assert reason in captured.err and captured.err.count("\n") == 1 and not (tmp_path / "set").exists()


# Pictures and actions.


def test_actions_are_rescaled_to_the_box_and_back():
    env = open_environment(PLANE)
    assert np.allclose(env.native(np.array([-1.0, -1.0])), [-2, 0]) and np.allclose(env.native(np.array([3.0, 0.5])), [2, 7.5])
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    assert np.allclose([env.normalised(env.native(a)) for a in actions], actions, atol=1e-6)


def test_pictures_come_from_the_observation_that_holds_one():
    front = open_environment("point_environment:SeeingPlane-v0", size=48, arguments={"cameras": ["front"]}).reset(3)
    named = open_environment("point_environment:SeeingPlane-v0", size=48, camera="back").reset(3)
    rendered = open_environment(PLANE, size=48).reset(3)
    assert np.array_equal(front.frame, rendered.frame) and np.array_equal(named.frame, rendered.frame[:, ::-1])
    assert np.abs(open_environment(PLANE, size=24).reset(3).frame.astype(float) - rendered.frame.reshape(24, 2, 24, 2, 3).mean((1, 3))).max() <= 0.51


def test_a_box_without_bounds_is_refused():
    class Endless(point_environment.Plane):
        def __init__(self, render_mode=None):
            super().__init__(render_mode)
            self.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))

    gymnasium.register("Endless-v0", Endless)
    with pytest.raises(PictureEnvironmentError, match="Endless-v0 has actions without bounds"):
        open_environment("Endless-v0")


def test_an_environment_without_pictures_is_refused():
    class Blind(point_environment.Plane):
        def __init__(self):
            super().__init__()

    gymnasium.register("Blind-v0", Blind)
    with pytest.raises(PictureEnvironmentError, match=r"Blind-v0 neither observes an RGB picture .* nor renders one"):
        open_environment("Blind-v0")


# Goals and success.


def rule(**changes: object) -> GoalRule:
    return replace(GoalRule(AHEAD, "random", 8), **changes)


def test_a_goal_ahead_is_where_the_collecting_policy_leads_from_the_same_start():
    env = open_environment(PLANE)
    referee = Referee(env, "point_environment:NearTheDot")
    start, goal = draw(env, referee, rule(policy="point_environment:to_the_right", steps=4), 3)
    begin = env.scene.dot.copy()
    assert np.array_equal(start.frame, env.reset(3).frame), "the environment is left at the start"
    assert goal.state[0] == pytest.approx(min(0.9, begin[0] + 4 * point_environment.REACH), abs=0.05) and abs(goal.state[1] - begin[1]) < 0.05
    again = draw(env, referee, rule(policy="point_environment:to_the_right", steps=4), 3)[1]
    assert np.array_equal(again.picture, goal.picture)


def test_a_goal_of_another_reset_is_another_start():
    env = open_environment(PLANE)
    start, goal = draw(env, Referee(env, "point_environment:NearTheDot"), rule(kind=RESET), 3)
    assert np.linalg.norm(goal.state - env.scene.dot) > 0.1 and not np.array_equal(start.frame, goal.picture)


def test_an_environment_may_measure_the_distance_itself():
    env = open_environment("point_environment:KnowingPlane-v0")
    referee = Referee(env, None)
    start, goal = draw(env, referee, rule(), 4)
    verdict = referee.judge(start, goal)
    assert referee.said_by == "goal_distance of the environment"
    assert verdict.success is False and verdict.distance == pytest.approx(np.linalg.norm(env.scene.dot - goal.state))
    env.scene.dot = goal.state.copy()
    assert referee.judge(start, goal).success is True


def test_success_of_the_environments_own_goal_is_what_the_picture_shows():
    env = open_environment("point_environment:SeeingPlane-v0", camera="front", arguments={"over": 0.7})
    referee = Referee(env, None)
    assert referee.said_by == "info of the environment" and referee.by_info
    for seed in range(3):
        start, goal = draw(env, referee, rule(steps=20), seed)
        red = goal.picture[..., 0].astype(float) - 40
        assert (red.sum(0) * (np.arange(64) + 0.5) / 64).sum() / red.sum() > 0.64 and referee.judge(start, goal).success is False
    with pytest.raises(PictureEnvironmentError, match="no goal that shows success was found for seed 1 in 50 draws"):
        draw(env, referee, rule(kind=RESET), 1)


def test_a_judge_without_its_methods_is_refused():
    with pytest.raises(NamedObjectError, match="is no judge: it needs goal_tolerance, goal_state"):
        Referee(open_environment(PLANE), "point_environment:Plane")


def test_an_environment_that_a_seed_does_not_repeat_is_refused(bundle, tmp_path, monkeypatch):
    stream = iter(range(100, 1000))
    original = point_environment.Plane.reset
    monkeypatch.setattr(point_environment.Plane, "reset", lambda self, *, seed=None, options=None: original(self, seed=next(stream)))
    with pytest.raises(EvaluationError, match="shows other pictures when it is reset to the same seed"):
        evaluate_environment(asked(bundle, policies=("actor", "random"), episodes=2), tmp_path / "outcomes.jsonl", quiet)
