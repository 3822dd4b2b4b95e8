"""The bench of the guardrail's loop, on the real nodes."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from latent_mpc.guard_loop import run_guard_loop


def test_the_loop_is_measured_by_its_own_clock_and_by_what_arrives():
    measured = run_guard_loop(2.0, load=1, priority="none")
    assert measured.load == 1 and measured.priority == "as any other process"
    assert measured.cycles > 50
    assert 0.0 < measured.jitter_ms_p50 <= measured.jitter_ms_p99 <= measured.jitter_ms_max
    assert measured.met == (measured.late == 0) and measured.to_json()["met"] == measured.met
