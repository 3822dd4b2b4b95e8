"""Impossible events happen as they should, and the shipped model is surprised by each more than by ordinary pushing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from latent_mpc.surprise_runs import FRAMES_AFTER, FRAMES_BEFORE, Script, play

from sim.arm_world import BlockPose
from sim.disturbances import EVENTS, DisturbedScene, EventSizes, UnknownEventError, bumped, events_of
from sim.tasks import make_env, task_named
from world_model.runtime import OnnxModel
from world_model.surprise import SurpriseCalibration, calibrate, run_scores, run_terms

MODELS = Path(__file__).resolve().parents[1] / "models"


@pytest.fixture(scope="module")
def push():
    env = make_env("push")
    yield env
    env.close()


def scene(env, seed: int = 0) -> DisturbedScene:
    env.place(np.array([0.5, 0.18, 0.02]), BlockPose(0.54, -0.03, 0.3))
    opened = DisturbedScene(env, np.random.default_rng(seed))
    opened.frame()
    return opened


def test_a_block_jumps_within_its_range_and_not_onto_the_tool(push):
    for seed in range(20):
        disturbed = scene(push, seed)
        before = push.world.block()
        disturbed.strike("teleport")
        after, tool = push.world.block(), push.world.tool()
        assert 0.05 <= np.hypot(after.x - before.x, after.y - before.y) <= 0.12 and after.yaw == pytest.approx(before.yaw)
        assert np.hypot(after.x - tool[0], after.y - tool[1]) > 0.08
        push.world.advance(20)
        assert np.hypot(push.world.block().x - after.x, push.world.block().y - after.y) < 1e-3, "it stays where it jumped"


def test_a_block_that_vanished_or_changed_colour_is_back_with_the_next_placement(push):
    disturbed = scene(push)
    whole = disturbed.frame()
    reddish = (whole[..., 0].astype(int) - whole[..., 1:].max(-1) > 60).sum()
    assert reddish > 30
    for event in ("vanish", "colour"):
        disturbed = scene(push)
        disturbed.strike(event)
        frame = disturbed.frame()
        assert (frame[..., 0].astype(int) - frame[..., 1:].max(-1) > 60).sum() < 0.5 * reddish
        assert (push.world.block() is None) == (event == "vanish")
        assert np.array_equal(scene(push).frame(), whole)


def test_a_frozen_camera_shows_its_last_picture_until_it_thaws(push):
    disturbed = scene(push)
    last = disturbed.frame()
    disturbed.strike("freeze")
    push.move(np.array([1.0, 0.0]))
    assert np.array_equal(disturbed.frame(), last) and not np.array_equal(push.render(), last)
    disturbed.thaw()
    assert np.array_equal(disturbed.frame(), push.render())


def test_a_bumped_camera_has_moved_and_turned_as_far_as_asked(push):
    camera = push.task.camera
    for seed in range(20):
        moved = bumped(camera, np.random.default_rng(seed), EventSizes())
        assert 0.01 <= np.linalg.norm(np.subtract(moved.eye, camera.eye)) <= 0.03
        # The rotation between the two views' frames, from the trace.
        axes = []
        for each in (camera, moved):
            forward = np.subtract(each.target, each.eye) / np.linalg.norm(np.subtract(each.target, each.eye))
            right = np.cross(forward, each.up)
            right /= np.linalg.norm(right)
            axes.append(np.stack([forward, right, np.cross(right, forward)]))
        angle = np.degrees(np.arccos((np.trace(axes[0] @ axes[1].T) - 1) / 2))
        assert angle < 3.0 + 1e-6
    disturbed = scene(push)
    before = disturbed.frame()
    disturbed.strike("camera")
    assert not np.array_equal(disturbed.frame(), before) and np.array_equal(push.render(), before), "the event is the scene's, not the task's"


def test_what_cannot_happen_in_a_task_is_refused(push):
    assert events_of(task_named("reach")) == ("freeze", "camera") and set(events_of(push.task)) == set(EVENTS)
    with pytest.raises(UnknownEventError, match="no event 'flood' in task push; choose among teleport"):
        scene(push).strike("flood")


def test_the_shipped_model_is_surprised_by_what_cannot_happen_more_than_by_ordinary_contact(push):
    """Few runs, and a wide margin: the figures are for `latent-mpc surprise`. It looks with its witness, who sees colours and camera too."""
    model = OnnxModel(MODELS / "push")

    def terms(script: Script):
        run = play(push, 4242, script)
        return run, run_terms(model, model.witness(run.frames), run.actions, (1, 2, 3))

    ordinary = [terms(Script("ordinary", number)) for number in range(3)]
    assert sum(run.contact.sum() for run, _ in ordinary) > 15, "contact is among the ordinary frames"
    draft = calibrate([t for _, t in ordinary], frame_rate=0.05, run_rate=0.4)
    high = np.nanquantile(np.concatenate([run_scores(t, draft) for _, t in ordinary]), 0.9)
    for event in ("teleport", "vanish", "freeze", "camera"):
        scores = []
        for number in range(2):
            run, happened = terms(Script("event", number, event))
            assert run.struck == FRAMES_BEFORE and len(run.frames) == FRAMES_BEFORE + FRAMES_AFTER == len(run.actions) + 1
            scores.append(run_scores(happened, SurpriseCalibration(scale=draft.scale))[run.struck + 2])
        assert np.mean(scores) > high, event


def test_the_same_seed_plays_the_same_run_and_an_event_changes_nothing_before_it(push):
    one, again = (play(push, 7, Script("event", 3, "vanish")) for _ in range(2))
    assert np.array_equal(one.frames, again.frames) and np.array_equal(one.actions, again.actions)
    other = play(push, 7, Script("event", 4, "vanish"))
    assert not np.array_equal(one.frames[0], other.frames[0])
