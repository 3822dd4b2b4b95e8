"""Streams that fall silent: what counts as silence, when plans are held, when the arm comes to rest."""

from __future__ import annotations

import numpy as np
import pytest
from test_guard import Scene

from planner_node.guard import State
from planner_node.plan_gate import PlanRejectedError
from planner_node.staleness import Staleness, StalenessConfig, StalenessError


def test_a_stream_counts_from_its_first_message_on():
    streams = Staleness(StalenessConfig())
    assert streams.held(1e9) == streams.stopped(1e9) == ""
    streams.heard("the camera", 5, 10.0)
    assert streams.held(10.09) == ""
    assert streams.held(10.11) == "the camera shows nothing new for 100 ms"
    assert streams.stopped(10.29) == "" and "300 ms" in streams.stopped(10.31)


@pytest.mark.parametrize("stamp", [5, 4, 0])
def test_a_repeated_or_older_stamp_is_silence(stamp):
    streams = Staleness(StalenessConfig())
    for cycle in range(100):
        streams.heard("the camera", 5 if cycle == 0 else stamp, 10.0 + 0.01 * cycle)
    assert streams.stopped(10.99) != ""
    streams.heard("the camera", 6, 11.0)
    assert streams.held(11.05) == ""


def test_after_a_clock_jump_older_stamps_are_new():
    streams = Staleness(StalenessConfig())
    streams.heard("the camera", 10**18, 10.0)
    streams.forget_stamps()
    streams.heard("the camera", 5, 10.4)
    assert streams.held(10.45) == ""


def test_a_stamp_from_the_far_future_silences_a_stream_only_until_the_guard_is_armed_again():
    scene = Scene()
    streams = scene.guard.streams
    scene.arm()
    streams.heard("the camera", 10**19, scene.steady_s)
    for _ in range(40):
        streams.heard("the camera", scene.ros_ns, scene.steady_s)
        scene.tick()
    assert "the camera" in scene.guard.reason
    scene.guard.stop("enough")
    scene.tick(2)
    scene.guard.reset()
    scene.arm()
    scene.tick()
    streams.heard("the camera", scene.ros_ns, scene.steady_s)
    scene.tick()
    assert scene.guard.reason == ""


@pytest.mark.parametrize(("hold", "stop"), [(0.3, 0.1), (0.0, 0.1), (float("nan"), 0.3), (0.1, float("inf"))])
def test_times_that_make_no_sense_are_refused(hold, stop):
    with pytest.raises(StalenessError):
        StalenessConfig(hold, stop)


def test_a_silent_camera_holds_the_plan_in_force_and_then_ramps_to_a_stop():
    scene = Scene()
    scene.arm()
    scene.tick(2)
    scene.guard.streams.heard("the camera", scene.ros_ns, scene.steady_s)
    scene.plan(seconds=2.0)
    silent_s = scene.steady_s
    refused_after = stopped_after = None
    for _ in range(40):
        scene.tick()
        silence = scene.steady_s - silent_s
        times = np.arange(0.0, 2.0, 0.05)
        positions = scene.position + np.outer(0.3 * times, np.ones(len(scene.position)))
        from planner_node.plan_gate import Proposal

        try:
            scene.guard.propose(Proposal(scene.ros_ns, times, positions, np.full_like(positions, 0.3)), scene.ros_ns, scene.steady_s)
        except PlanRejectedError:
            refused_after = refused_after or silence
        if scene.guard.state is State.BRAKING:
            stopped_after = stopped_after or silence
        elif stopped_after is None:
            assert scene.guard.state is State.TRACKING, "the plan in force is held meanwhile"
            assert ("the camera" in scene.guard.reason) == (silence > 0.1)
    assert refused_after == pytest.approx(0.11, abs=0.011)
    assert stopped_after == pytest.approx(0.31, abs=0.011)
    scene.tick(60)
    assert scene.guard.state is State.HOLDING and "the camera" in scene.guard.reason
    # When it comes back the plan from before does not move the arm; a new one does.
    scene.guard.streams.heard("the camera", scene.ros_ns, scene.steady_s)
    assert scene.tick(2).braking.at_rest
    scene.plan()
    scene.tick(2)
    assert scene.guard.state is State.TRACKING
    scene.check_limits()
