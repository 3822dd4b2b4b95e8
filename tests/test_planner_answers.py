"""A planner that searches for long answers meanwhile, and leaves off searching for who waits. Over DDS, and by the order of events alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from bundles import write_bundle
from conftest import wait_until

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from following import LATENT_DIM, Follower
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from test_planner_node import MODULE, follower

from planner_node.journal import Kind
from planner_node.planner_node import PlannerNode
from world_model.surprise import Reading

__all__ = ["follower"]

# Far more than any machine gets through in a deadline: every search is cut.
SOLVER = "{solver: cem, solvers: {cem: {samples: 200, elites: 20, iterations: 1000000, horizon: 4}}}"
DEADLINE_S = 0.6
# A search that nobody calls off ends where another iteration, as long as its last, would end after the deadline: never before half of it.
HALF_S = 0.5 * DEADLINE_S
# A machine that stands still takes away the frames of a pursuit, the time in which an answer might have come, or the one in which a search might end.
ATTEMPTS = 8


def answers_between_plans(follower: Follower) -> tuple[int, int]:
    """How many answers come between the first three plans of a new pursuit, one after the other; none in one that ends before that."""
    stamp, counts = follower.show(np.full(LATENT_DIM, 2.0)), [0, 0, 0]

    def plans() -> int:
        return sum(plan.stamp_ns >= stamp for plan in follower.plans)

    def ask() -> bool:
        if (made := plans()) < 3:
            assert follower.get("steps").integer_value == 1000
            counts[min(plans(), 2)] += made == plans()
        return made >= 3 or bool(follower.results_of(stamp))

    wait_until(ask, timeout_s=60.0, what="three plans of a pursuit, or its end")
    return (counts[1], counts[2]) if plans() >= 3 else (0, 0)


def searches_until_cancelled(follower: Follower) -> list[float]:
    """Cancel the goal that is pursued; how long its searches took until then, s. None where there was none any more."""
    stamp = int(follower.values["goal_stamp_ns"])
    given_up, word = follower.cancel()
    if not given_up:
        return []
    assert word == "CANCELED"
    wait_until(lambda: len(follower.results_of(stamp)) == 1, what="the result of the goal")
    assert follower.results_of(stamp)[0].message == "CANCELED"
    follower.wait_for("CANCELED")

    def ended() -> int | None:
        begun = next(number for number, entry in enumerate(follower.entries) if entry.kind is Kind.GOAL and entry.what == stamp)
        return next((number for number, entry in enumerate(follower.entries) if number > begun and entry.kind is Kind.CANCEL), None)

    wait_until(lambda: ended() is not None, what="the journal of the cancel")
    entries = follower.entries[: ended()]
    entries = entries[next(number for number, entry in enumerate(entries) if entry.kind is Kind.GOAL and entry.what == stamp) :]
    assert all(entry.what > 0 for entry in entries if entry.kind is Kind.SEARCH), "each was cut, and says after how many iterations"
    # A search is noted after the two readings of the clock between which it ran.
    noted = zip(entries, entries[1:], entries[2:], strict=False)
    return [done.at.steady_s - begun.at.steady_s for begun, done, search in noted if search.kind is Kind.SEARCH]


def test_services_answer_during_a_search_and_a_cancel_ends_it(start_node, follower, tmp_path):
    planner_file = tmp_path / "long.yaml"
    planner_file.write_text(SOLVER)
    bundle = write_bundle(tmp_path / "untrained")
    searching = (f"planner_file:={planner_file}", "steps:=1000", f"deadline_s:={DEADLINE_S}")
    options = (f"model:={bundle}", *searching, "frame_timeout_s:=3.0", "resync_m:=1.0")
    node = start_node(MODULE, *(word for option in options for word in ("-p", option)))
    follower.meet()
    between, took = [], []
    for _ in range(ATTEMPTS):
        between.append(answers_between_plans(follower))
        if min(between[-1]) < 3:
            continue
        took.append(searches_until_cancelled(follower))
        if len(took[-1]) >= 3 and took[-1][-1] < HALF_S:
            break
    assert max(map(min, between)) >= 3, f"{between} answers between one plan and the next: a planner that is deaf while it searches gives one or two"
    assert len(took[-1]) >= 3 and took[-1][-1] < HALF_S < min(took[-1][:-1]), f"searches took {took} s: the last did not end for who waited"
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

    def levels() -> list[bytes]:
        told = [status.level for status in said[before:]]
        return told[told.index(DiagnosticStatus.WARN) :] if DiagnosticStatus.WARN in told else []  # one that was on its way says all is well

    until(lambda: len(levels()) >= 2, "two reports")
    assert levels() == [DiagnosticStatus.WARN, DiagnosticStatus.OK] and any("9.50" in status.message for status in said[before:])


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
