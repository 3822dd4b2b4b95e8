"""What becomes of a goal, from distances alone."""

from __future__ import annotations

import pytest

from planner_node.episode import Code, Progress, ProgressConfig


def seen(distances: list[float], period_s: float = 0.2) -> Progress:
    progress = Progress(ProgressConfig())
    for number, distance in enumerate(distances):
        progress.see(number * period_s, distance)
        progress.planned(number * period_s, sent=True)
    return progress


def test_a_goal_is_near_once_it_has_stayed_near() -> None:
    assert seen([9.0, 6.0, 2.9]).verdict is Code.PLANNING
    assert seen([9.0, 6.0, 2.9, 2.5, 2.6]).verdict is Code.REACHED_GOAL
    assert seen([9.0, 2.0, 4.0, 2.0, 2.0]).verdict is Code.PLANNING, "it left in between"


def test_a_far_goal_without_progress_is_out_of_reach_and_a_near_one_is_not() -> None:
    assert seen([15.0] * 10).verdict is Code.PLANNING, "patience is 2 s"
    assert seen([15.0] * 11).verdict is Code.UNREACHABLE
    assert seen([15.0 - 0.3 * k for k in range(25)]).verdict is Code.PLANNING, "slow progress is progress"
    assert seen([15.0, 10.0, 7.0, *([5.0] * 20)]).verdict is Code.PLANNING, "not far"
    assert seen([15.0, 8.0, *([20.0] * 9)]).verdict is Code.PLANNING
    assert seen([15.0, 8.0, *([20.0] * 10)]).verdict is Code.UNREACHABLE


def test_a_distance_that_is_no_number_is_not_near() -> None:
    assert seen([9.0, *([float("nan")] * 4)]).verdict is Code.PLANNING


def test_no_plan_that_may_be_sent_is_blocked() -> None:
    progress = Progress(ProgressConfig())
    for number in range(11):
        progress.see(0.2 * number, 20.0 - 1.5 * number)
        progress.planned(0.2 * number, sent=number < 2)
    assert progress.verdict is Code.PLANNING
    progress.see(2.2, 1.0)
    assert progress.blocked and progress.verdict is Code.BLOCKED


@pytest.mark.parametrize("wrong", [{"near_steps": 7.0}, {"near_steps": 0.0}, {"patience_s": 0.0}])
def test_thresholds_that_make_no_sense_are_said(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        ProgressConfig(**wrong)
