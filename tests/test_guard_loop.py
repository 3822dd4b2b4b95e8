"""The bench of the guardrail's loop, on the real nodes."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy")

from latent_mpc.bare_ticks import tick
from latent_mpc.guard_loop import run_guard_loop


def test_the_loop_is_measured_by_its_own_clock_and_by_what_arrives():
    measured = run_guard_loop(2.0, load=1, priority="none")
    assert measured.load == 1 and measured.priority == "as any other process"
    assert measured.cycles > 50
    assert 0.0 < measured.jitter_ms_p50 <= measured.jitter_ms_p99 <= measured.jitter_ms_max
    assert 0.0 < measured.bare_jitter_ms_p99 <= measured.bare_jitter_ms_max and measured.gaps_with_bare_late <= measured.command_gaps
    assert measured.met == (measured.late == 0) and measured.to_json()["met"] == measured.met


def test_an_empty_loop_says_when_it_came_too_late(monkeypatch):
    # The first one: a later tick is due the sooner the later the one before it came.
    began, held = time.time_ns(), iter([0.03])
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds + next(held, 0.0)))
    ticks = tick(0.1, 0.03)
    ended = time.time_ns()
    assert ticks.late and began < ticks.late[0] <= ended
    assert ticks.jitter_ms_max > 29.0 and ticks.jitter_ms_p50 <= ticks.jitter_ms_p99 <= ticks.jitter_ms_max
