"""Which frames are planned from: counted over cameras of many rates, with and without the jitter of stamps."""

from __future__ import annotations

import numpy as np
import pytest

from planner_node.cadence import Cadence

MS = 1_000_000
START = 1_700_000_000_000_000_000


def planned(stamps, rate_hz):
    cadence = Cadence()
    return [stamp for stamp in stamps if cadence.due(stamp, rate_hz)]


@pytest.mark.parametrize(("camera_hz", "expected"), [(5, 5), (10, 10), (19, 19), (20, 20), (25, 20), (30, 20), (60, 20), (100, 20)])
def test_a_camera_that_is_faster_is_thinned_to_the_rate_and_no_other_is(camera_hz, expected):
    stamps = [START + round(1e9 * number / camera_hz) for number in range(20 * camera_hz)]
    assert len(planned(stamps, 20.0)) == pytest.approx(20 * expected, abs=1)


def test_stamps_that_are_a_few_ms_off_cost_no_frame():
    jitter = np.random.default_rng(0).uniform(-2.4, 2.4, 400)
    stamps = [START + round((50 * number + off) * MS) for number, off in enumerate(jitter)]
    assert planned(stamps, 20.0) == stamps


def test_what_a_pause_missed_is_not_made_up_for():
    """After a second without frames those of a camera of 100 Hz are thinned as before."""
    stamps = [START, *(START + 1_000 * MS + 10 * MS * number for number in range(100))]
    assert len(planned(stamps, 20.0)) <= 1 + 20 + 2


def test_a_clock_that_is_set_back_and_a_new_goal_begin_anew():
    cadence = Cadence()
    assert cadence.due(START, 20.0) and not cadence.due(START + 10 * MS, 20.0)
    cadence.restart()
    assert cadence.due(START + 20 * MS, 20.0)
    assert cadence.due(START - 500 * MS, 20.0) and not cadence.due(START - 490 * MS, 20.0)
