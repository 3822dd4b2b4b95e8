"""The tasks as Gymnasium environments: repeatable from a seed, reachable, and silent about the truth except in ``info``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sim.tasks import TASKS, Episode, PicturedGoalEnv, UnknownTaskError, make_env, task_named
from sim.tasks.task import State

SEEDS = (1, 2, 3)
START_M = {"reach": (0.12, 1.0), "push": (0.06, 0.4), "push-far": (0.08, 0.18), "push-further": (0.22, 0.34), "push-around": (0.08, 0.18)}


@pytest.fixture(scope="module", params=list(TASKS))
def env(request) -> Iterator[PicturedGoalEnv]:
    opened = make_env(request.param)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def reach() -> Iterator[PicturedGoalEnv]:
    opened = make_env("reach")
    yield opened
    opened.close()


def play_teacher(env: PicturedGoalEnv, seed: int) -> list[dict]:
    """The infos of an episode in which the scripted teacher acts."""
    _, info = env.reset(seed=seed)
    infos, truncated = [info], False
    while not truncated:
        action = env.task.teach(env.state(), env.episode).astype(np.float32)
        _, _, terminated, truncated, info = env.step(action)
        assert not terminated
        infos.append(info)
    return infos


def same_scene(a: dict, b: dict) -> bool:
    return all(np.array_equal(a[key], b[key]) for key in ("image", "goal", "tool"))


@pytest.mark.filterwarnings("ignore:.*observation space.*:UserWarning", "ignore:.*render.*:UserWarning", "ignore:.*spec.*:UserWarning")
def test_gymnasium_accepts_the_environment(env):
    check_env(env, skip_render_check=True)


def test_the_teacher_reaches_the_pictured_goal(env):
    for seed in SEEDS:
        infos = play_teacher(env, seed)
        assert len(infos) == env.task.steps + 1
        assert infos[-1]["success"], f"seed {seed}: {infos[-1]['distance_m']:.3f} m left"


def test_episodes_start_as_far_from_their_goal_as_the_task_says(env):
    least, most = START_M[env.task.name]
    for seed in range(1010, 1018):
        _, info = env.reset(seed=seed)
        assert least < info["distance_m"] < most
        assert not info["success"]


def test_the_same_seed_gives_the_same_pictures_in_another_environment(env):
    other = make_env(env.task.name)
    actions = np.random.default_rng(0).uniform(-1, 1, (4, env.task.tool_step.action_dim)).astype(np.float32)
    here, there = env.reset(seed=5)[0], other.reset(seed=5)[0]
    assert env.episode == other.episode and same_scene(here, there)
    for action in actions:
        assert same_scene(env.step(action)[0], other.step(action)[0])
    other.close()


def test_an_episode_is_the_same_whatever_was_played_before(env):
    first = env.reset(seed=7)[0]
    episode = env.episode
    for action in np.random.default_rng(1).uniform(-1, 1, (6, env.task.tool_step.action_dim)):
        env.step(action.astype(np.float32))
    assert same_scene(env.reset(seed=7)[0], first) and env.episode == episode
    assert same_scene(env.reset(options={"episode": episode})[0], first)


def test_an_episode_without_a_seed_can_be_drawn_again_from_the_one_it_reports(env):
    env.reset(seed=3)
    env.reset()
    unseeded = env.episode
    env.reset(seed=unseeded.seed)
    assert env.episode == unseeded


def test_the_goal_picture_shows_the_goal(env):
    env.reset(seed=4)
    goal = env.episode
    picture = env.reset(options={"episode": goal})[0]["goal"]
    at_goal = Episode(goal.task, goal.seed, goal.goal_tool, goal.goal_block, goal.goal_tool, goal.goal_block)
    observation, info = env.reset(options={"episode": at_goal})
    assert np.array_equal(observation["image"], picture)
    assert info["success"] and info["distance_m"] < 0.01


def test_other_seeds_give_other_episodes(env):
    assert len({env.reset(seed=seed)[1]["episode"].goal_tool for seed in (1, 2, 3)}) == 3


def test_the_truth_is_in_info_and_nowhere_else(env):
    observation, info = env.reset(seed=1)
    assert set(observation) == {"image", "goal", "tool", "joints"}, "joints are measured on any arm"
    assert {"distance_m", "success", "true_tool", "true_block", "episode"} <= info.keys()
    assert (info["true_block"] is None) != env.task.has_block
    if env.task.has_block:
        # Picture and command aside, the observation does not change when the block does.
        assert observation["tool"].shape == (3,) and np.allclose(observation["tool"], env.commanded)


def test_the_reward_is_the_distance_left(reach):
    reach.reset(seed=1)
    _, reward, _, _, info = reach.step(np.zeros(3, np.float32))
    assert reward == -info["distance_m"]


def test_the_tool_follows_its_command(reach):
    reach.reset(seed=1)
    for _ in range(3):
        reach.step(np.array([0.5, 0.5, -0.2], np.float32))
    reach.step(np.zeros(3, np.float32))
    assert np.linalg.norm(reach.state().tool - reach.commanded) < 0.003


def test_success_is_judged_at_the_tolerance(reach):
    reach.reset(seed=1)
    goal = np.array(reach.episode.goal_tool)
    assert reach.task.distance(State(goal + np.array([0.0, 0.0, 0.024]), None), reach.episode) == pytest.approx(0.024)
    assert reach.task.tolerance_m == 0.025


def test_an_episode_of_another_task_is_refused(reach):
    push = make_env("push")
    push.reset(seed=1)
    with pytest.raises(ValueError, match="episode of task 'push' cannot be played as 'reach'"):
        reach.reset(options={"episode": push.episode})
    push.close()


def test_an_unknown_task_lists_those_that_exist():
    with pytest.raises(UnknownTaskError, match="unknown task 'fly'; choose one of reach, push, push-far"):
        task_named("fly")


# Episodes on paper.


def test_an_episode_survives_json(env):
    env.reset(seed=2)
    assert Episode.from_json(json.loads(json.dumps(env.episode.to_json()))) == env.episode


@pytest.mark.parametrize(
    "change",
    [
        {"tool": [0.1, 0.2]},
        {"tool": ["a", 0.2, 0.3]},
        {"goal_tool": 3},
        {"goal_tool": [float("nan"), 0.2, 0.3]},
        {"block": {"x": 1.0}},
        {"block": [1.0, 2.0, 3.0]},
        {"seed": None},
    ],
)
def test_a_malformed_episode_is_refused(change):
    whole = Episode("push", 1, (0.4, 0.0, 0.02), None, (0.5, 0.0, 0.02), None).to_json()
    with pytest.raises(ValueError, match=r".") as caught:
        Episode.from_json(whole | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{}, [], None, "episode"])
def test_what_is_no_episode_is_refused(content):
    with pytest.raises(ValueError, match="not an episode"):
        Episode.from_json(content)
