"""What the guard does when a driver, a planner or its own cycles are lost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from test_guard import ARM, JOINTS, LIMITS, STILL, Scene, scene  # noqa: F401  (a fixture)

from planner_node.grid import CYCLE_NS
from planner_node.guard import GuardConfig, State, Unheard
from planner_node.plan_gate import PlanRejectedError, Proposal


def test_a_driver_whose_stamps_begin_anew_means_braking_and_an_explicit_arming(scene):  # noqa: F811
    scene.arm()
    scene.tick(3)
    scene.plan()
    scene.tick(20)
    assert scene.guard.state is State.TRACKING
    for index in range(60):
        scene.slot += 1
        scene.position = scene.commands[-1][1][-1]
        scene.guard.measured(scene.position, STILL, 1 + index * CYCLE_NS, scene.steady_s)
        command = scene.guard.cycle(scene.slot, scene.steady_s)
        scene.commands += [(command.slot, command.braking.positions)] if command is not None else []
    assert scene.guard.state is State.DISARMED and "another time" in scene.guard.reason
    assert scene.guard.joints.refused > 40
    scene.check_limits()


def test_missed_cycles_count_for_an_arm_that_does_not_follow(scene):  # noqa: F811
    scene.arm()
    scene.tick(3)
    scene.position = scene.position + 0.16
    scene.guard.config = GuardConfig(tracking_tolerance_rad=0.1, jump_rad=1.0)
    scene.measure()
    begun = scene.slot
    while scene.guard.state is not State.STOPPED:
        scene.slot += 2
        scene.measure()
        scene.guard.cycle(scene.slot, scene.steady_s)
    assert "away from its command" in scene.guard.reason
    assert scene.slot - begun <= scene.guard.config.tracking_cycles + 5, "twice as long at half the rate"


def test_a_planner_that_is_gone_means_braking_at_once_until_a_plan_comes(scene):  # noqa: F811
    scene.arm()
    scene.tick(3)
    scene.plan()
    scene.tick(20)
    scene.guard.lose_planner("the planner shows no sign of life")
    command = scene.tick()
    assert scene.guard.state is State.BRAKING and "no sign of life" in scene.guard.reason
    assert command.braking.positions == pytest.approx(scene.sent[-2].braking.after(1).positions)
    scene.tick(60)
    assert scene.guard.state is State.HOLDING and scene.gate.plan is None
    times = np.arange(0.0, 1.0, 0.05)
    positions = scene.position + np.outer(0.1 * times, np.ones(JOINTS))
    scene.guard.propose(Proposal(scene.ros_ns, times, positions, np.full_like(positions, 0.1)), scene.ros_ns, scene.steady_s)
    scene.tick(5)
    assert scene.guard.state is State.TRACKING and not scene.guard.planner_gone
    scene.check_limits()


@pytest.mark.parametrize("unheard", [Unheard.STANDS, Unheard.GOES_ON])
def test_after_missed_cycles_arrays_go_on_within_the_limits_from_where_their_controller_is(unheard):
    """A controller of positions stood meanwhile, one of velocities went on: told 1 ms apart, both move within every limit."""
    stage, rng = Scene(unheard=unheard, tracking_tolerance_rad=3.0, jump_rad=100.0), np.random.default_rng(0)
    stage.arm()
    stage.tick(3)
    sent = []
    for index in range(150):
        if index % 10 == 0:
            stage.plan(speed=float(rng.uniform(-0.5, 0.5)), seconds=2.0)
        slots = int(rng.integers(2, 12)) if rng.random() < 0.15 else 1
        stage.slot += slots
        stage.measure()
        command = stage.guard.cycle(stage.slot, stage.steady_s)
        stage.position = command.braking.positions[0]
        sent.append((slots, command))
    assert max(slots for slots, _ in sent) > 5
    for (_, before), (slots, after) in itertools.pairwise(sent):
        last, first = before.braking.motion(0), after.start
        step = last.position - before.start.position
        if slots > 1 and unheard is Unheard.STANDS:
            assert first.position == pytest.approx(last.position, abs=1e-12) and not first.velocity.any()
        if slots > 1 and unheard is Unheard.GOES_ON:
            assert first.position == pytest.approx(last.position + (slots - 1) * step, abs=1e-12)
            assert first.velocity == pytest.approx(step / 0.01, abs=1e-9)
        # One cycle on, from wherever that is: nobody can have gained more than acceleration and jerk allow.
        gained = after.braking.motion(0).velocity - first.velocity
        assert (np.abs(gained) <= 0.01 * LIMITS.acceleration * (1 + 1e-6)).all()
        assert (np.abs(after.braking.motion(0).acceleration - first.acceleration) <= 0.01 * LIMITS.jerk * (1 + 1e-6)).all()
        assert (np.abs(after.braking.motion(0).position - first.position) <= 0.01 * LIMITS.velocity * (1 + 1e-6)).all()


def test_a_plan_from_before_the_request_is_refused_whatever_the_driver_stamps():
    for age_ns in (None, 10**9):
        fresh = Scene()
        stamp_ns = 0 if age_ns is None else fresh.ros_ns - age_ns
        fresh.guard.arm(fresh.steady_s, fresh.ros_ns)
        fresh.guard.measured(fresh.position, STILL, stamp_ns, fresh.steady_s)
        assert fresh.guard.state is State.HOLDING
        with pytest.raises(PlanRejectedError, match="older than the arming"):
            fresh.plan(age_s=0.05)
        fresh.plan()


@pytest.mark.parametrize("speed", [0.0, 0.3])
def test_a_driver_that_sends_zeros_for_velocities_does_not_arm_an_arm_that_moves(scene, speed):  # noqa: F811
    scene.measure()
    scene.guard.arm(scene.steady_s)
    for cycle in range(1, 60):
        scene.slot += 1
        scene.guard.measured(ARM.home + 0.01 * speed * cycle, STILL, scene.ros_ns, scene.steady_s)
        scene.guard.cycle(scene.slot, scene.steady_s)
    assert scene.guard.state is (State.DISARMED if speed else State.HOLDING)
    assert not scene.guard.arming
    if speed:
        scene.position = ARM.home + 0.01 * speed * 59
        scene.arm()
        scene.tick(2)
        assert scene.guard.state is State.HOLDING, "once it stands it is armed"


def test_a_refusal_to_arm_says_since_when_no_joint_state_was_heard(scene):  # noqa: F811
    scene.joints_alive = False
    scene.measure()
    scene.tick(100)
    scene.guard.arm(scene.steady_s)
    scene.tick(60)
    assert scene.guard.state is State.DISARMED and scene.guard.reason == "no joint state to arm at: the last was heard 1.5 s ago"
