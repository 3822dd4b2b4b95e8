"""A planner that searches for long answers meanwhile, and leaves off searching for who waits. Over DDS, and by the order of events alone."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from bundles import write_bundle
from conftest import wait_until

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import Int64MultiArray
from test_planner_node import LATENT_DIM, MODULE, follower

from planner_node.journal import COLUMNS, Kind, read_rows
from planner_node.planner_node import PlannerNode
from ros_bridge import qos
from world_model.surprise import Reading

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

    # A server that has not yet found the client drops what it answers, for good; asked again, it answers.
    def heard() -> bool:
        first = client.call_async(GetParameters.Request(names=["steps"]))
        until_s = time.monotonic() + 2.0
        while not first.done() and time.monotonic() < until_s:
            time.sleep(0.01)
        return first.done()

    wait_until(heard, what="the first answer")
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


@pytest.fixture
def planner(ros_context):
    """A planner in this process, with the shipped bundle; what it reports by the name of the entry; and who spins until something holds."""
    node, told = PlannerNode(), {"planner_node": [], "planner_node: surprise": []}
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def hear(msg: DiagnosticArray) -> None:
        for status in msg.status:
            told.get(status.name, []).append(status)

    node.create_subscription(DiagnosticArray, "/diagnostics", hear, 10)
    yield node, told, lambda condition, what: wait_until(lambda: executor.spin_once(timeout_sec=0.1) or condition(), what=what)
    executor.shutdown()
    node.destroy_node()


def test_a_planner_whose_worker_is_stuck_says_so_and_does_not_repeat_that_all_is_well(planner):
    node, told, until = planner
    gate, said = threading.Event(), told["planner_node"]
    until(lambda: said and said[-1].level == DiagnosticStatus.OK, "a report")
    node._worker.post(gate.wait)
    try:
        until(lambda: said[-1].level == DiagnosticStatus.ERROR, "a report of what is wrong")
        assert "nothing is planned" in said[-1].message and said[-1].values
    finally:
        gate.set()
    until(lambda: said[-1].level == DiagnosticStatus.OK, "a report that it goes on")


def test_a_surprise_that_has_passed_before_the_next_report_is_reported_once(planner):
    """The planner says how it goes with every plan, and reports once a second."""
    node, told, until = planner
    said, watch = told["planner_node: surprise"], node._proposer.watch
    until(lambda: said, "a report")

    def surprised() -> None:
        watch._unheard = Reading(1.0, 9.5, 3.0)
        for _ in range(5):
            node._proposer.tick(node.now())

    node._worker.ask(surprised)
    before = len(said)
    until(lambda: len(said) >= before + 2, "two reports")
    assert [status.level for status in said[before:]] == [DiagnosticStatus.WARN, DiagnosticStatus.OK] and "9.50" in said[before].message


def test_an_active_planner_that_is_shut_down_pursues_nothing_any_more(planner):
    node, _, _ = planner
    assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    latent, home = np.zeros(node._latent_dim, np.float32), np.asarray(node._arm.home, float)

    def shown() -> str:
        node._proposer.measured(home, 1, node.now())
        node._proposer.goal(latent, 1, node.now())
        return node._proposer.code.name

    assert node._worker.ask(shown) == "PLANNING"
    assert node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    assert node._worker.ask(lambda: node._proposer.code.name) == "IDLE"
    assert node._worker.ask(shown) == "IDLE", "nor is a goal that comes afterwards"
