"""``latent-mpc bench-nodes`` on the real nodes: what it says agrees with itself, and with what the kernel says of a process."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from conftest import wait_until

pytest.importorskip("rclpy")

from latent_mpc import frame_listener, node_loop
from latent_mpc.cli import run
from latent_mpc.frame_log import HOPS, pursuits
from latent_mpc.node_loop import NodeLoopError, run_node_loop
from latent_mpc.process_cost import cores_used, most_memory_mb, read_cost


def test_frames_become_commands_hop_by_hop_and_what_is_counted_adds_up(tmp_path, capsys, monkeypatch):
    file, seen = tmp_path / "nodes.json", []
    monkeypatch.setattr(node_loop, "pursuits", lambda log: seen.extend(pursuits(log)) or seen)
    assert run(["bench-nodes", "--minutes", "0.05", "--rate", "10", "--task", "reach", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["rates"]
    assert row["period_ms"] == pytest.approx(100.0) and row["episodes"] >= 1
    assert 0.5 * 10 * row["seconds"] < row["frames"] < 1.5 * 10 * row["seconds"]
    assert 0 < row["plans"] <= row["frames"] and row["plans_per_second"] == pytest.approx(row["plans"] / row["seconds"])
    assert row["without_command"] <= row["deadline_misses"] <= row["frames"]
    assert 0 < row["delivered_percent"] <= 100
    # Of the same frames: not every frame becomes a command, and one that comes late never does.
    whole = [times for pursuit in seen for frame in pursuit.frames if None not in (times := [frame.ms[hop] for hop in HOPS])]
    medians = np.median(whole, axis=0).tolist()
    assert medians == sorted(medians) and medians[0] > 0, "a frame becomes one thing after the other"
    assert all(row["hops"][hop]["p50"] == np.median([ms for p in seen for f in p.frames if (ms := f.ms[hop]) is not None]) for hop in HOPS)
    assert row["frame_to_command_ms"] == row["hops"]["command"]
    assert row["planner_answer_ms"]["p50"] <= row["planner_answer_ms"]["max"]
    assert set(row["cores"]) == set(row["memory_mb"]) == {"sim_node", "perception_node", "planner_node", "guardrail_node"}
    assert all(0 < cores < os.cpu_count() for cores in row["cores"].values())
    assert row["lost_journal_pages"] == 0
    assert "plans/s; frame to command" in capsys.readouterr().out


def test_an_answer_counts_for_its_own_question_and_none_before_planner_and_listener_have_found_each_other(ros_context, monkeypatch):
    monkeypatch.setattr(frame_listener, "_NO_ANSWER_S", 0.0)
    listener = frame_listener.FrameListener(int(os.environ["ROS_DOMAIN_ID"]))
    with listener:
        monkeypatch.setattr(listener._asked, "service_is_ready", lambda: False)
        listener._question_s = 1.0
        wait_until(lambda: listener._question_s is None, what="a question that is given up")
        assert listener.answers_ms == [], "nothing was ever answered: that the planner is deaf is not known"
        listener.answers_ms.append(3.0)
        listener._question_s = time.monotonic()
        wait_until(lambda: listener._question_s is None, what="another one")
        assert len(listener.answers_ms) == 2
        monkeypatch.setattr(frame_listener, "_NO_ANSWER_S", 1e9)
        listener._question_s = asked_s = time.monotonic()
        listener._on_answer(asked_s - 1.0)  # of the one before, late
        assert len(listener.answers_ms) == 2 and listener._question_s == asked_s
        listener._on_answer(asked_s)
        assert len(listener.answers_ms) == 3 and listener.answers_ms[-1] < 1000.0


def test_what_no_camera_does_is_bad_input(capsys):
    assert run(["bench-nodes", "--rate", "1000"]) == 2
    assert "between 1 and 100 Hz" in capsys.readouterr().err
    with pytest.raises(NodeLoopError, match="unknown task 'dance'"):
        run_node_loop(1.0, [10.0], task="dance")


def test_a_process_that_does_nothing_but_compute_takes_about_what_python_counts():
    def reading():
        """What Python counts before and after what the kernel does: other threads of this process go on."""
        return time.process_time(), read_cost(os.getpid()), time.process_time()

    before_s, before, counted = reading()
    while time.process_time() - counted < 0.5:
        sum(range(1000))
    counted_again, after, after_s = reading()
    assert counted_again - counted - 0.03 <= after.cpu_s - before.cpu_s <= after_s - before_s + 0.03, "to within a tick at either end"
    assert cores_used(before, after) == pytest.approx((after.cpu_s - before.cpu_s) / (after.at_s - before.at_s))
    assert 10 < most_memory_mb(os.getpid()) < 100_000
