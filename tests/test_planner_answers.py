"""A planner that searches for long answers meanwhile, and leaves off searching for who waits. Over DDS, and by the order of events alone."""

from __future__ import annotations

import time

import numpy as np
import pytest
from bundles import write_bundle
from conftest import wait_until

pytest.importorskip("rclpy")

from rcl_interfaces.srv import GetParameters
from std_msgs.msg import Int64MultiArray
from test_planner_node import LATENT_DIM, MODULE, follower

from planner_node.journal import COLUMNS, Kind, read_rows
from ros_bridge import qos

__all__ = ["follower"]

# Far more than any machine gets through in a deadline: every search is cut.
SOLVER = "{solver: cem, solvers: {cem: {samples: 200, elites: 20, iterations: 1000000, horizon: 4}}}"


def test_services_answer_during_a_search_and_a_cancel_ends_it(start_node, follower, tmp_path):
    planner_file = tmp_path / "long.yaml"
    planner_file.write_text(SOLVER)
    rows = []
    follower.node.create_subscription(
        Int64MultiArray, "/planner/journal", lambda msg: rows.append(np.array(msg.data).reshape(-1, COLUMNS)), qos.JOURNAL
    )
    bundle = write_bundle(tmp_path / "untrained")
    options = (f"model:={bundle}", f"planner_file:={planner_file}", "steps:=1000", "deadline_s:=0.6", "frame_timeout_s:=3.0", "resync_m:=1.0")
    node = start_node(MODULE, *(word for option in options for word in ("-p", option)))
    follower.wait_for("IDLE")
    client = follower.node.create_client(GetParameters, "/planner_node/get_parameters")
    assert client.wait_for_service(20.0)
    follower.show(np.full(LATENT_DIM, 2.0))
    answered: list[int] = []  # how many plans there were when each answer came
    while len(follower.plans) < 3:
        answer = client.call_async(GetParameters.Request(names=["steps"]))
        wait_until(answer.done, what="an answer")
        assert answer.result().values[0].integer_value == 1000
        answered.append(len(follower.plans))
        time.sleep(0.01)
    between = [answered.count(number) for number in (1, 2)]
    assert min(between) >= 3, f"{between} answers between one plan and the next: a planner that is deaf while it searches gives one or two"

    known = len(rows)
    wait_until(lambda: len(rows) > known, what="the journal of a search")
    assert follower.cancel() == (True, "CANCELED")
    follower.wait_for("CANCELED")
    wait_until(lambda: any(entry.kind is Kind.CANCEL for entry in read_rows(np.concatenate(rows))), what="the journal of the cancel")
    entries = read_rows(np.concatenate(rows))
    ended = next(number for number, entry in enumerate(entries) if entry.kind is Kind.CANCEL)
    searches = [entry for entry in entries[:ended] if entry.kind is Kind.SEARCH]
    assert len(searches) >= 3 and all(entry.what > 0 for entry in searches), "each was cut, and says after how many iterations"
    # A search is noted after the two readings of the clock between which it ran.
    noted = zip(entries, entries[1:], entries[2:ended], strict=False)
    took = [done.at.steady_s - begun.at.steady_s for begun, done, search in noted if search.kind is Kind.SEARCH]
    assert took[-1] < 0.9 * np.median(took[:-1]), f"searches took {took} s: the last did not end for who waited"
    assert node.stop() == 0, node.output
