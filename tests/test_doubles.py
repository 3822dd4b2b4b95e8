"""The doubles of ros2_control's controllers: they refuse what the originals refuse, and move as they do."""

from __future__ import annotations

import numpy as np
import pytest
from latent_mpc.commissioning.double_controllers import ForwardControllerDouble, Point, RefusedError, TrajectoryControllerDouble
from latent_mpc.commissioning.spline import Knot, interpolate

JOINTS = ("a", "b")
MS = 1_000_000
NOW = 1_000_000_000_000


def controller(**options):
    return TrajectoryControllerDouble(JOINTS, np.array([0.1, 0.2]), **options)


def good(**changed):
    return {"time_ns": 100 * MS, "positions": [0.3, 0.4], "velocities": [0.0, 0.0], **changed}


@pytest.mark.parametrize(
    ("names", "points", "stamp", "reason"),
    [
        (["a"], [good(positions=[0.3], velocities=[0.0])], 0, "don't match the controller joints"),
        ([], [good()], 0, "don't match"),
        (["a", "c"], [good()], 0, "Incoming joint c"),
        (["a", "b"], [], 0, "Empty trajectory"),
        (["a", "b"], [good(velocities=[0.0, 0.1])], 0, "joint b is not zero"),
        (["a", "b"], [good()], NOW - 101 * MS, "ends in the past"),
        (["a", "b"], [good(), good()], 0, "not strictly increasing"),
        (["a", "b"], [good(positions=[0.3])], 0, "positions (1) at point #0"),
        (["a", "b"], [good(positions=[])], 0, "positions (0) at point #0"),
        (["a", "b"], [good(velocities=[0.0])], 0, "velocities (1)"),
        (["a", "b"], [good(accelerations=[0.0, 0.0, 0.0])], 0, "accelerations (3)"),
        (["a", "b"], [good(effort=[1.0, 1.0])], 0, "effort"),
    ],
)
def test_it_refuses_what_joint_trajectory_controller_refuses(names, points, stamp, reason):
    double = controller()
    with pytest.raises(RefusedError) as refused:
        double.accept(stamp, names, [Point(**point) for point in points], NOW)
    assert reason in str(refused.value)
    assert double.counts == {"refused": 1} and double.late == ("past" in reason)
    assert double.update(NOW + 200 * MS).position == pytest.approx([0.1, 0.2])


def test_it_takes_what_the_original_takes():
    double = controller()
    double.accept(NOW - 100 * MS, ["b", "a"], [Point(**good(positions=[0.4, 0.3]))], NOW)  # ends now: not in the past
    assert double.update(NOW + MS).position == pytest.approx([0.3, 0.4])
    double.accept(0, ["a", "b"], [Point(**good(positions=[np.nan, 0.4]))], NOW)
    assert double.counts == {"accepted": 2, "not finite": 1} and np.isnan(double.update(NOW + 200 * MS).position[0])
    partial = controller(allow_partial_joints_goal=True)
    partial.accept(0, ["b"], [Point(100 * MS, [0.9])], NOW)
    assert partial.update(NOW + 200 * MS).position == pytest.approx([0.1, 0.9])
    with pytest.raises(RefusedError, match="Empty joint names"):
        partial.accept(0, [], [Point(100 * MS, [])], NOW)
    moving = controller(allow_nonzero_end=True)
    moving.accept(0, ["a", "b"], [Point(**good(velocities=[0.5, 0.5]))], NOW)


def test_a_new_trajectory_goes_on_from_what_the_arm_was_told():
    double = controller()
    double.accept(0, JOINTS, [Point(100 * MS, [1.1, 0.2])], NOW)
    assert double.update(NOW + 50 * MS).position == pytest.approx([0.6, 0.2])
    double.accept(0, JOINTS, [Point(100 * MS, [0.6, 0.2])], NOW + 50 * MS)
    assert double.update(NOW + 50 * MS).position == pytest.approx([0.6, 0.2])
    assert double.update(NOW + 100 * MS).position == pytest.approx([0.6, 0.2])
    assert double.update(NOW + 900 * MS).velocity == pytest.approx([0.0, 0.0])


@pytest.mark.parametrize("orders", [1, 2, 3])
def test_segments_are_the_polynomials_of_the_original(orders):
    """The polynomial of degree ``2 orders - 1`` with the given ends is unique: ends, degree and derivatives are looked at one by one."""
    generator = np.random.default_rng(orders)
    ends = generator.normal(size=(2, orders, 3))
    duration = 0.4
    a, b = (Knot(*(list(rows) + [None] * (3 - orders))) for rows in ends)
    for rows, t in zip(ends, (0.0, duration), strict=True):
        seen = interpolate(a, b, duration, t)
        for expected, values in zip(rows, (seen.position, seen.velocity, seen.acceleration), strict=False):
            assert values == pytest.approx(expected, abs=1e-8)
    times = np.linspace(0.0, duration, 2 * orders + 5)
    positions = np.array([interpolate(a, b, duration, t).position for t in times])
    assert np.abs(np.diff(positions, n=2 * orders, axis=0)).max() < 1e-9 < np.abs(np.diff(positions, n=2 * orders - 1, axis=0)).max()
    h = 1e-5
    before, here, after = (interpolate(a, b, duration, 0.13 + shift) for shift in (-h, 0.0, h))
    assert here.velocity == pytest.approx((after.position - before.position) / (2 * h), abs=1e-5)
    if orders > 1:
        assert here.acceleration == pytest.approx((after.velocity - before.velocity) / (2 * h), abs=1e-4)


def test_from_rest_to_rest_it_is_the_known_curve():
    still = np.zeros(1)
    s = 0.3
    cubic = interpolate(Knot(np.array([0.0]), still), Knot(np.array([2.0]), still), 0.5, 0.5 * s)
    assert cubic.position == pytest.approx([2.0 * (3 * s**2 - 2 * s**3)])
    quintic = interpolate(Knot(np.array([0.0]), still, still), Knot(np.array([2.0]), still, still), 0.5, 0.5 * s)
    assert quintic.position == pytest.approx([2.0 * (10 * s**3 - 15 * s**4 + 6 * s**5)])


def test_a_forward_controller_checks_the_size_and_never_times_out():
    double = ForwardControllerDouble(JOINTS)
    assert double.update() is None
    double.accept([0.5, -0.5])
    for _ in range(1000):
        assert double.update() == pytest.approx([0.5, -0.5])
    with pytest.raises(RefusedError, match="Non-finite"):
        double.accept([np.nan, 0.0])
    assert double.update() == pytest.approx([0.5, -0.5])
    double.accept([0.0, 0.0, 0.0])
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"command size \(3\) does not match number of interfaces \(2\)"):
            double.update()
    older = ForwardControllerDouble(JOINTS, drops_non_finite=False)
    older.accept([np.nan, 0.0])
    assert np.isnan(older.update()[0]) and older.counts["not finite"] == 1
