"""``latent-mpc bench-nodes`` on the real nodes: what it says agrees with itself, and with what the kernel says of a process."""

from __future__ import annotations

import json
import os
import time

import pytest

pytest.importorskip("rclpy")

from latent_mpc.cli import run
from latent_mpc.frame_log import HOPS
from latent_mpc.node_loop import NodeLoopError, run_node_loop
from latent_mpc.process_cost import cores_used, most_memory_mb, read_cost


def test_frames_become_commands_hop_by_hop_and_what_is_counted_adds_up(tmp_path, capsys):
    file = tmp_path / "nodes.json"
    assert run(["bench-nodes", "--minutes", "0.05", "--rate", "10", "--task", "reach", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["rates"]
    assert row["period_ms"] == pytest.approx(100.0) and row["episodes"] >= 1
    assert 0.5 * 10 * row["seconds"] < row["frames"] < 1.5 * 10 * row["seconds"]
    assert 0 < row["plans"] <= row["frames"] and row["plans_per_second"] == pytest.approx(row["plans"] / row["seconds"])
    assert row["without_command"] <= row["deadline_misses"] <= row["frames"]
    assert 0 < row["delivered_percent"] <= 100
    medians = [row["hops"][hop]["p50"] for hop in HOPS]
    assert medians == sorted(medians) and medians[0] > 0, "a frame becomes one thing after the other"
    assert row["frame_to_command_ms"] == row["hops"]["command"]
    assert row["planner_answer_ms"]["p50"] <= row["planner_answer_ms"]["max"]
    assert set(row["cores"]) == set(row["memory_mb"]) == {"sim_node", "perception_node", "planner_node", "guardrail_node"}
    assert all(0 < cores < os.cpu_count() for cores in row["cores"].values())
    assert row["lost_journal_pages"] == 0
    assert "plans/s; frame to command" in capsys.readouterr().out


def test_what_no_camera_does_is_bad_input(capsys):
    assert run(["bench-nodes", "--rate", "1000"]) == 2
    assert "between 1 and 100 Hz" in capsys.readouterr().err
    with pytest.raises(NodeLoopError, match="unknown task 'dance'"):
        run_node_loop(1.0, [10.0], task="dance")


def test_a_process_that_does_nothing_but_compute_takes_about_what_python_counts():
    before, counted = read_cost(os.getpid()), time.process_time()
    while time.process_time() - counted < 0.5:
        sum(range(1000))
    after = read_cost(os.getpid())
    assert after.cpu_s - before.cpu_s == pytest.approx(time.process_time() - counted, abs=0.03)
    assert cores_used(before, after) == pytest.approx((after.cpu_s - before.cpu_s) / (after.at_s - before.at_s))
    assert 10 < most_memory_mb(os.getpid()) < 100_000
