"""Which plans are let in, and what they ask for at a given time."""

from __future__ import annotations

import numpy as np
import pytest

from planner_node.plan_gate import PlanGate, PlanGateConfig, PlanRejectedError, Proposal

MS = 1_000_000
NOW_NS = 1_700_000_000_000 * MS
JOINTS = 3


def plan(stamp_ns=NOW_NS, points=11, speed=1.0, ends_at_rest=False):
    times = 0.05 * np.arange(points)
    positions = np.outer(speed * times, np.ones(JOINTS))
    velocities = np.full((points, JOINTS), speed)
    if ends_at_rest:
        velocities[-1] = 0.0
    return Proposal(stamp_ns, times, positions, velocities)


def test_a_fresh_plan_is_followed_in_ros_time():
    gate = PlanGate(PlanGateConfig())
    gate.offer(plan(), NOW_NS + 100 * MS, 5.0)
    target = gate.target(NOW_NS + 130 * MS, 5.01)
    assert target.position == pytest.approx(np.full(JOINTS, 0.13))
    assert target.velocity == pytest.approx(np.ones(JOINTS))
    assert target.acceleration == pytest.approx(np.zeros(JOINTS), abs=1e-9)


@pytest.mark.parametrize(
    ("stamp_ms", "reason"),
    [(-301, "301 ms old"), (+60, "60 ms in the future"), (-150, "older frame than the plan in force"), (-250, "older than the arming")],
)
def test_a_plan_from_the_wrong_time_is_rejected_and_counted(stamp_ms, reason):
    gate = PlanGate(PlanGateConfig())
    gate.clear(since_ns=NOW_NS - 200 * MS)
    gate.offer(plan(NOW_NS - 100 * MS), NOW_NS, 5.0)
    in_force = gate.plan
    with pytest.raises(PlanRejectedError, match=reason):
        gate.offer(plan(NOW_NS + stamp_ms * MS), NOW_NS, 5.0)
    assert gate.rejected == 1 and reason in gate.last_rejection
    assert gate.plan is in_force


@pytest.mark.parametrize(
    ("times", "positions", "velocities", "reason"),
    [
        ([0.0, 0.05], np.full((2, JOINTS), np.nan), np.zeros((2, JOINTS)), "not finite"),
        ([0.0, 0.05], np.zeros((2, JOINTS)), np.full((2, JOINTS), np.inf), "not finite"),
        ([0.0, np.nan], np.zeros((2, JOINTS)), np.zeros((2, JOINTS)), "not finite"),
        ([0.05, 0.05], np.zeros((2, JOINTS)), np.zeros((2, JOINTS)), "do not increase"),
        ([0.0, 0.05], np.zeros((3, JOINTS)), np.zeros((3, JOINTS)), "2 times"),
        ([0.0, 0.05], np.zeros((2, JOINTS)), np.zeros((2, JOINTS - 1)), "2 times"),
        ([], np.zeros((0, JOINTS)), np.zeros((0, JOINTS)), "0 times"),
    ],
)
def test_a_malformed_plan_cannot_be_made(times, positions, velocities, reason):
    with pytest.raises(PlanRejectedError, match=reason):
        Proposal(NOW_NS, np.array(times), positions, velocities)


def test_silence_ends_a_plan_whatever_ros_time_says():
    gate = PlanGate(PlanGateConfig(plan_timeout_s=0.35))
    gate.offer(plan(points=100), NOW_NS, 5.0)
    assert gate.target(NOW_NS, 5.34) is not None
    assert gate.target(NOW_NS, 5.36) is None
    assert gate.plan is None and gate.expired == "no new plan in time"


def test_a_plan_that_ends_in_motion_is_not_followed_beyond_its_horizon():
    gate = PlanGate(PlanGateConfig())
    gate.offer(plan(points=3), NOW_NS, 5.0)
    assert gate.target(NOW_NS + 100 * MS, 5.1) is not None
    assert gate.target(NOW_NS + 101 * MS, 5.1) is None
    assert gate.expired == "plan is beyond its horizon"


def test_a_plan_that_ends_at_rest_is_held_until_it_times_out():
    gate = PlanGate(PlanGateConfig())
    gate.offer(plan(points=3, ends_at_rest=True), NOW_NS, 5.0)
    target = gate.target(NOW_NS + 200 * MS, 5.2)
    assert target.position == pytest.approx(np.full(JOINTS, 0.1))
    assert not target.velocity.any()
    assert gate.target(NOW_NS + 200 * MS, 5.4) is None


def test_the_curve_passes_through_its_points_and_its_derivatives_agree():
    rng = np.random.default_rng(0)
    curve = Proposal(NOW_NS, np.array([0.0, 0.05, 0.12, 0.2]), rng.normal(size=(4, JOINTS)), rng.normal(size=(4, JOINTS)))
    for index, time in enumerate(curve.times):
        assert curve.at(time).position == pytest.approx(curve.positions[index])
        assert curve.at(time).velocity == pytest.approx(curve.velocities[index])
    h = 1e-6
    for time in (0.01, 0.06, 0.13, 0.19):
        before, here, after = curve.at(time - h), curve.at(time), curve.at(time + h)
        assert (after.position - before.position) / (2 * h) == pytest.approx(here.velocity, rel=1e-5, abs=1e-5)
        assert (after.velocity - before.velocity) / (2 * h) == pytest.approx(here.acceleration, rel=1e-5, abs=1e-3)


def test_a_plan_of_one_point_is_a_place_to_be():
    point = Proposal(NOW_NS, np.zeros(1), np.ones((1, JOINTS)), np.zeros((1, JOINTS)))
    for time in (-0.1, 0.0, 0.1):
        assert point.at(time).position == pytest.approx(np.ones(JOINTS))
