"""Closed-loop evaluation: fixed episodes with a fingerprint, references beside the planner, every outcome on disk."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from latent_mpc.episodes import EpisodeManifest, ManifestError, draw_manifest, episode_seed, read_manifest, write_manifest
from latent_mpc.evaluate import Evaluation, EvaluationError, Outcome, evaluate, play, summarise
from latent_mpc.intervals import sign_test, wilson95
from latent_mpc.policies import Delay, PlannerPolicy, RandomPolicy, make_policy
from tiny_runs import tiny_bundle

from planner_node.assembly import PlannerConfig
from planner_node.guardrails.zone import Zone
from sim.tasks import make_env
from world_model.bundle import BundleError, bundle_sha256
from world_model.bundle import read_manifest as read_bundle_manifest
from world_model.runtime import OnnxModel


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return tiny_bundle(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def env():
    opened = make_env("reach")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("untrained") / "reach", "reach")


def silent(done: int, of: int) -> None:
    """Reports go nowhere."""


# The whole path: a trained bundle, closed loop.


@pytest.fixture(scope="module")
def evaluated(bundle, tmp_path_factory) -> tuple[Evaluation, dict, list[dict]]:
    folder = tmp_path_factory.mktemp("evaluated")
    asked = Evaluation(bundle, "reach", episodes=1, seeds=(0, 1), policies=("planner", "random", "oracle"), manifest=folder / "manifest.json")
    summary = evaluate(asked, folder / "deep" / "outcomes.jsonl", silent)
    outcomes = [json.loads(line) for line in (folder / "deep" / "outcomes.jsonl").read_text().splitlines()]
    return asked, summary, outcomes


def test_a_trained_bundle_is_evaluated_in_closed_loop(evaluated, bundle):
    _, summary, outcomes = evaluated
    assert summary["task"] == "reach" and summary["episodes"] == 2 and summary["seeds"] == [0, 1] and len(summary["per_seed"]) == 2
    assert summary["model"] == {"name": bundle.name, "sha256": bundle_sha256(read_bundle_manifest(bundle))}
    assert summary["oracle_success_rate"] == 1.0 and summary["random_success_rate"] == 0.0
    assert 0.0 <= summary["success_rate"] <= 1.0 and summary["ci95"][0] <= summary["success_rate"] <= summary["ci95"][1]
    assert summary["plan_ms"]["p50"] > 0 and summary["final_distance_m"]["median"] > 0
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert [(o["policy"], o["seed"]) for o in outcomes] == [(p, episode_seed(s, 0)) for p in ("planner", "random", "oracle") for s in (0, 1)]
    assert all(len(o["plan_ms"]) == 20 for o in outcomes)
    assert all(o["success"] == (o["final_distance_m"] <= 0.025) for o in outcomes)
    starts = {(o["seed"], o["start_distance_m"]) for o in outcomes}
    assert len(starts) == 2, "every policy starts from the same places"


def test_a_wall_stands_in_the_way_and_touching_it_is_no_success(bundle, tmp_path):
    asked = Evaluation(bundle, "wall", episodes=1, seeds=(0,), policies=("planner", "oracle"), manifest=tmp_path / "manifest.json")
    evaluate(asked, tmp_path / "outcomes.jsonl", silent)
    planner, oracle = (json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines())
    assert planner["clearance_m"] > 0, "the planner keeps out, however badly its model knows the way"
    assert oracle["clearance_m"] < 0 and oracle["final_distance_m"] < 0.025 and not oracle["success"], "straight through is no success"
    assert read_manifest(tmp_path / "manifest.json", "wall").task == "wall"


def test_who_is_not_told_of_a_wall_plays_the_free_scene(bundle, env, tmp_path):
    """The same actions as where there is no wall; told of it, others."""
    model, step = OnnxModel(bundle), env.task.tool_step
    observation, _ = env.reset(seed=4)
    tool = observation["tool"][:2].astype(np.float64)
    around = Zone((float(tool[0]), float(tool[1])), (0.0, 0.0), radius=0.015)
    acts = {}
    for name, zones in (("planner", ()), ("planner", (around,)), ("planner_untold", (around,))):
        policy = make_policy(name, env, model, PlannerConfig(), 60.0, 0)
        policy.start(observation, 20, zones)
        acts[name, len(zones)] = policy.act(observation)
    assert np.array_equal(acts["planner_untold", 1], acts["planner", 0]) and step.action_dim == len(acts["planner", 1])
    assert not np.array_equal(acts["planner_untold", 1], acts["planner", 1])


def test_an_interrupted_evaluation_goes_on_and_plays_nothing_twice(evaluated, tmp_path):
    """Cut off within a line: what was whole is kept as it stands, the rest is played, and another evaluation's rest is not taken up."""
    asked = replace(evaluated[0], policies=("oracle", "random"))
    file = tmp_path / "outcomes.jsonl"
    steps = []

    def stop(done: int, of: int) -> None:
        steps.append((done, of))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(asked, file, stop)
    assert not file.exists()
    partial = tmp_path / "outcomes.jsonl.partial"
    lines = partial.read_text().splitlines()
    marked = json.loads(lines[1]) | {"final_distance_m": 0.123456}
    partial.write_text("\n".join([lines[0], json.dumps(marked), lines[2][: len(lines[2]) // 2]]))
    steps.clear()
    evaluate(asked, file, lambda done, of: steps.append((done, of)))
    assert steps == [(2, 4), (3, 4), (4, 4)] and not partial.exists()
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(o["policy"], o["seed"]) for o in found] == [(p, s) for p in asked.policies for s in (episode_seed(0, 0), episode_seed(1, 0))]
    assert found[0]["final_distance_m"] == 0.123456
    partial.write_text("\n".join([lines[0], json.dumps(marked)]))
    evaluate(replace(asked, deadline_s=0.5, policies=("oracle",)), file, silent)
    assert all(json.loads(line)["final_distance_m"] != 0.123456 for line in file.read_text().splitlines())


def test_a_manifest_that_was_written_is_played_again(evaluated, tmp_path):
    asked, summary, outcomes = evaluated
    again = evaluate(replace(asked, policies=("oracle",)), tmp_path / "outcomes.jsonl", silent)
    assert again["manifest"]["fingerprint"] == summary["manifest"]["fingerprint"] and again["episodes"] == 2
    replayed = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert [o["final_distance_m"] for o in replayed] == [o["final_distance_m"] for o in outcomes if o["policy"] == "oracle"]
    assert again["success_rate"] == again["oracle_success_rate"] == 1.0 and again["random_success_rate"] is None


@pytest.mark.parametrize("change", [{"episodes": 50}, {"seeds": (0,)}])
def test_another_number_of_episodes_than_the_manifest_holds_is_refused(evaluated, tmp_path, change):
    asked, _, _ = evaluated
    with pytest.raises(EvaluationError, match="holds 2 episodes of seeds 0, 1: ask for these, or name a new file"):
        evaluate(replace(asked, policies=("oracle",), **change), tmp_path / "outcomes.jsonl", silent)
    assert not (tmp_path / "outcomes.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"policies": ("planner", "genius")}, EvaluationError, "unknown policy 'genius'; choose among planner, actor, cem, .*icem, .*random, oracle"),
        ({"policies": ()}, EvaluationError, "at least one policy"),
        ({"episodes": 0}, EvaluationError, "at least one policy, seed, episode"),
        ({"seeds": ()}, EvaluationError, "at least one policy, seed, episode"),
        ({"task": "push"}, EvaluationError, "was trained for reach, not for push"),
        ({"task": "fly"}, ValueError, "unknown task 'fly'"),
        ({"model": Path("no/such/bundle")}, BundleError, "is not a model bundle"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(untrained, tmp_path, change, error, reason):
    asked = replace(Evaluation(untrained, "reach", episodes=1, seeds=(0,)), **change)
    with pytest.raises(error, match=reason) as caught:
        evaluate(asked, tmp_path / "outcomes.jsonl", silent)
    assert "\n" not in str(caught.value) and not (tmp_path / "outcomes.jsonl").exists()


def test_a_bundle_with_another_meaning_of_an_action_is_refused(tmp_path):
    bundle = write_bundle(tmp_path / "bundle", "reach")
    content = json.loads((bundle / "manifest.json").read_text())
    content["tool_step"]["length_m"] = 0.02
    (bundle / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match="another meaning of an action"):
        evaluate(Evaluation(bundle, "reach", episodes=1, seeds=(0,)), tmp_path / "outcomes.jsonl", silent)


def test_the_same_episode_is_decided_the_same_way(untrained, env):
    asked = Evaluation(untrained, "reach", episodes=1, seeds=(0,), deadline_s=60.0)
    episode = draw_manifest(env, "reach", (3,), 1).episodes[0]
    model = OnnxModel(untrained)
    for policy in ("planner", "cem", "random"):
        first, again = (play(policy, episode, env, model, asked) for _ in range(2))
        assert first.final_distance_m == again.final_distance_m, policy


def test_a_plan_that_is_not_feasible_is_not_carried_out(untrained, env, monkeypatch):
    model = OnnxModel(untrained)
    policy = make_policy("cem", env, model, PlannerConfig(mode="cem"), 60.0, 0)
    assert isinstance(policy, PlannerPolicy)
    observation, _ = env.reset(seed=1)
    monkeypatch.setattr(model, "rollout", lambda context, actions: np.full((*actions.shape[:2], 8), np.nan, np.float32))
    policy.start(observation, 20, [Zone((0.5, 0.0), (0.01, 0.01))])
    assert np.array_equal(policy.act(observation), np.zeros(3))


def test_with_a_delay_what_is_decided_comes_later(bundle, env):
    """Nothing is done while the first decision is under way, and it is the same decision as without delay, because nothing runs meanwhile."""
    model = OnnxModel(bundle)
    observation, _ = env.reset(seed=1)
    first = {}
    for steps in (0, 2):
        policy = make_policy("planner", env, model, PlannerConfig(), 60.0, 0, delay=Delay(steps))
        policy.start(observation, 20, [])
        first[steps] = [policy.act(observation) for _ in range(steps + 1)]
    assert np.array_equal(first[2][0], np.zeros(3)) and np.array_equal(first[2][1], np.zeros(3))
    assert np.array_equal(first[2][2], first[0][0]) and np.abs(first[0][0]).max() > 0


def test_filters_of_the_actor_s_actions_never_step_into_a_zone(bundle, env):
    """A disc is put where the actor's own next step leads: one filter stands still, the other one bends the step."""
    model = OnnxModel(bundle)
    observation, _ = env.reset(seed=4)
    alone = make_policy("actor", env, model, PlannerConfig(), 60.0, 0)
    alone.start(observation, 20, [])
    step = env.task.tool_step
    tool = observation["tool"].astype(np.float64)
    towards = step.advance(tool, alone.act(observation))
    way = (towards - tool)[:2] / np.linalg.norm((towards - tool)[:2])
    disc = Zone(tuple(tool[:2] + 0.044 * way), (0.0, 0.0), radius=0.03)
    assert disc.signed_distance(towards) < PlannerConfig().clearance_m, "the actor alone would come too near"
    for name in ("actor_stop", "actor_slide"):
        policy = make_policy(name, env, model, PlannerConfig(mode=name), 60.0, 0)
        policy.start(observation, 20, [disc])
        action = policy.act(observation)
        path = tool + np.linspace(0, 1, 50)[:, None] * (step.advance(tool, action) - tool)
        assert disc.signed_distance(path).min() > PlannerConfig().clearance_m - 2e-3
        assert (np.abs(action).max() == 0) == (name == "actor_stop"), f"{name}: {action}"


def test_random_actions_are_seeded_and_bounded():
    actions = np.array([RandomPolicy(3, 5).act({}) for _ in range(2)])
    assert np.array_equal(actions[0], actions[1]) and np.abs(actions).max() <= 1 and actions.dtype == np.float32


# Summaries.


def outcome(policy: str, success: bool, final: float = 0.1) -> Outcome:
    return Outcome(policy, 1, success, 0.2, final, None, (1.0, 3.0))


def test_a_summary_counts_by_seed_and_pairs_episode_with_episode(evaluated):
    asked, _, _ = evaluated
    asked = replace(asked, policies=("planner", "random"), seeds=(0, 1), episodes=2)
    episode = draw_manifest(make_env("reach"), "reach", (0,), 1).episodes[0]
    manifest = EpisodeManifest("reach", (0, 1), (episode,) * 4)
    outcomes = [outcome("planner", s) for s in (True, True, False, True)] + [outcome("random", s) for s in (False, True, True, False)]
    summary = summarise(asked, manifest, outcomes, "0" * 64, Path("outcomes.jsonl"))
    assert summary["success_rate"] == 0.75 and summary["per_seed"] == [1.0, 0.5]
    assert summary["random_success_rate"] == 0.5 and summary["oracle_success_rate"] is None
    assert summary["paired"] == {"random": {"better": 2, "worse": 1, "p": 1.0}}
    assert summary["plan_ms"] == {"p50": 2.0, "p99": pytest.approx(3.0)}


# Manifests.


def test_a_manifest_survives_the_disk_and_knows_its_episodes(env, tmp_path):
    manifest = draw_manifest(env, "reach", (0, 7), 2)
    write_manifest(tmp_path / "m.json", manifest)
    assert read_manifest(tmp_path / "m.json", "reach") == manifest
    assert [e.seed for e in manifest.episodes] == [episode_seed(0, 0), episode_seed(0, 1), episode_seed(7, 0), episode_seed(7, 1)]
    assert draw_manifest(env, "reach", (0, 7), 2).fingerprint == manifest.fingerprint != draw_manifest(env, "reach", (0, 8), 2).fingerprint


def test_seeds_never_share_an_episode():
    assert len({episode_seed(seed, index) for seed in range(20) for index in range(500)}) == 10_000


@pytest.mark.parametrize("damage", ["edited", "of another task", "not JSON", "without episodes", "strange numbers", "missing", "uneven"])
def test_a_manifest_that_is_not_what_it_says_is_refused(env, tmp_path, damage):
    file, task = tmp_path / "m.json", "reach"
    manifest = draw_manifest(env, "reach", (0, 1), 1)
    write_manifest(file, manifest if damage != "uneven" else EpisodeManifest("reach", (0, 1), manifest.episodes[:1]))
    content = json.loads(file.read_text())
    if damage == "edited":
        content["episodes"][0]["goal_tool"][0] += 0.001
    elif damage == "without episodes":
        del content["episodes"]
    elif damage == "strange numbers":
        content["episodes"][0]["tool"] = ["a", "b", "c"]
    file.write_text("{" if damage == "not JSON" else json.dumps(content))
    if damage == "missing":
        file.unlink()
    with pytest.raises(ManifestError) as caught:
        read_manifest(file, "push" if damage == "of another task" else task)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


# How sure a rate is.


@given(st.integers(1, 400), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_wilson_s_interval_is_where_the_score_test_gives_way(trials, share):
    """Its ends are the rates whose own standard error puts the observed rate 1.96 away: that is its definition."""
    successes = round(share * trials)
    rate = successes / trials
    low, high = wilson95(successes, trials)
    assert 0 <= low <= rate + 1e-12 and rate - 1e-12 <= high <= 1
    for end in (low, high):
        if 1e-12 < end < 1 - 1e-12:
            assert abs(rate - end) / math.sqrt(end * (1 - end) / trials) == pytest.approx(1.959964, rel=1e-4)


def test_nothing_tried_says_nothing():
    assert wilson95(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("better", "worse", "p"), [(0, 0, 1.0), (1, 0, 1.0), (7, 1, 0.0703125), (12, 2, 0.01293945), (5, 5, 1.0), (2, 12, 0.01293945)]
)
def test_the_sign_test_is_two_sided_and_exact(better, worse, p):
    assert sign_test(better, worse) == pytest.approx(p, rel=1e-4)
