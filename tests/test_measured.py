"""Which joint states count, by their stamps."""

from __future__ import annotations

import numpy as np
import pytest

from planner_node.measured import MeasuredJoints

Q = np.zeros(3)
MS = 1_000_000


def test_older_ones_are_refused_and_counted_until_the_driver_was_silent():
    joints = MeasuredJoints()
    assert joints.take(Q, 1000 * MS, 10.0).seconds == np.inf
    assert joints.take(Q + 0.1, 1010 * MS, 10.01).change == pytest.approx(0.1 + Q)
    assert joints.take(Q + 0.5, 1005 * MS, 10.012) is None, "older, though it came later"
    assert joints.take(Q + 0.5, 1010 * MS, 10.013) is None, "the same again"
    assert joints.refused == 1 and "5 ms older" in joints.last_refusal
    assert joints.heard_s == 10.01 and joints.position == pytest.approx(0.1 + Q)
    assert not joints.take(Q + 0.2, 1020 * MS, 10.02).new_time
    # Ten old ones a moment apart keep the driver as silent as it is.
    assert all(joints.take(Q, 1 * MS + index, 10.03 + 0.04 * index) is None for index in range(10))
    assert joints.take(Q, 5 * MS, 10.6).new_time, "a driver that was started again may have another clock"


def test_a_stamp_that_leaps_ahead_is_refused_but_not_one_after_a_pause():
    joints = MeasuredJoints()
    joints.take(Q, 1000 * MS, 10.0)
    assert joints.take(Q, 4000 * MS, 10.01) is None and "leaps 3.0 s" in joints.last_refusal
    taken = joints.take(Q, 9000 * MS, 18.0)
    assert not taken.new_time and taken.seconds == pytest.approx(8.0)


def test_a_driver_that_does_not_stamp_is_heard_and_said_so_but_stamps_may_not_go_missing():
    joints = MeasuredJoints()
    for index in range(3):
        assert joints.take(Q, 0, 10.0 + 0.01 * index) is not None
    assert not joints.stamped
    assert joints.take(Q, 1000 * MS, 10.03) is not None and joints.stamped
    assert joints.take(Q, 0, 10.04) is None and "without a stamp" in joints.last_refusal
    joints.forget_stamps()
    assert joints.take(Q, 1 * MS, 10.05) is not None, "ROS time was set back"
