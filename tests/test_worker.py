"""The thread that works while the executor listens: order, what is left alone meanwhile, what it raises, how it ends."""

from __future__ import annotations

import threading
import time

import pytest
from conftest import wait_until

pytest.importorskip("rclpy")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Int64MultiArray

from ros_bridge import qos
from ros_bridge.worker import Worker, WorkerEndedError


@pytest.fixture
def node(ros_context):
    made = rclpy.create_node("listener")
    yield made
    made.destroy_node()


def test_things_are_done_in_the_order_in_which_they_were_posted_and_answers_wait_for_them(node):
    worker, done, gate = Worker(node, "worker"), [], threading.Event()
    worker.post(gate.wait)
    for number in range(50):
        worker.post(lambda number=number: done.append(number))
    assert not done and not worker.awaited
    threading.Timer(0.05, gate.set).start()
    assert worker.ask(lambda: len(done)) == 50 and done == list(range(50))
    assert worker.ask(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ValueError, match="not that"):
        worker.ask(lambda: (_ for _ in ()).throw(ValueError("not that")))
    assert worker.ask(lambda: 7) == 7, "what somebody asked for may fail, and others go on"
    worker.close()
    with pytest.raises(WorkerEndedError):
        worker.ask(lambda: 7)


def test_who_asks_is_seen_by_what_is_being_done_and_is_told_when_the_worker_ends(node):
    worker, seen = Worker(node, "worker"), []
    worker.post(lambda: (wait_until(lambda: worker.awaited, what="somebody who waits"), seen.append("hurried")))
    assert worker.ask(lambda: tuple(seen)) == ("hurried",) and not worker.awaited
    begun, gate, told = threading.Event(), threading.Event(), []
    worker.post(lambda: (begun.set(), gate.wait()))
    begun.wait()

    def ask() -> None:
        try:
            worker.ask(lambda: told.append("done"))
        except WorkerEndedError:
            told.append("ended")

    asking, closing = threading.Thread(target=ask, daemon=True), threading.Thread(target=worker.close, daemon=True)
    asking.start()
    wait_until(lambda: worker.awaited, what="a question")
    closing.start()
    try:
        wait_until(lambda: told, what="word to who asked, although what is being done goes on")
        assert told == ["ended"] and closing.is_alive()
    finally:
        gate.set()
    closing.join()
    asking.join()
    assert told == ["ended"]


def test_while_it_is_busy_messages_wait_the_newest_is_taken_and_others_are_heard(node, ros_context):
    """Depth 1: of what came while the worker was busy the last is read, and it is read without another message."""
    worker, heard, other, gate = Worker(node, "worker"), [], [], threading.Event()

    def on_number(msg: Int64MultiArray) -> None:
        heard.append(msg.data[0])
        worker.post(gate.wait, keep_away=True)

    node.create_subscription(Int64MultiArray, "/numbers", on_number, qos.LATENT, callback_group=worker.when_free)
    node.create_subscription(Int64MultiArray, "/numbers", lambda msg: other.append(msg.data[0]), 10)
    publisher = node.create_publisher(Int64MultiArray, "/numbers", 10)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        wait_until(lambda: publisher.get_subscription_count() == 2, what="a match")

        def until(condition, what):
            wait_until(lambda: executor.spin_once(timeout_sec=0.02) or condition(), what=what)

        # Best effort: said again until it is heard. Of what is said too often the newest waits, and is replaced by what comes after it.
        until(lambda: heard or publisher.publish(Int64MultiArray(data=[0])), "the first")
        until(lambda: heard == [0] and set(other) == {0}, "the first, by both")
        for number in range(1, 6):
            publisher.publish(Int64MultiArray(data=[number]))
            until(lambda number=number: other[-1] == number, "what is heard by who is not kept away")
        assert heard == [0] and not worker.free
        gate.set()
        until(lambda: heard == [0, 5], "the newest")
    finally:
        executor.shutdown()
        worker.close()


def test_where_more_comes_than_can_be_done_what_must_be_heard_is(node, ros_context):
    """The first one's messages keep the worker away for longer than it takes the next one to come; what is left out is heard."""
    worker, done = Worker(node, "worker"), []

    def plan(_: Int64MultiArray) -> None:
        worker.post(lambda: (time.sleep(0.02), done.append("first")), keep_away=True)

    node.create_subscription(Int64MultiArray, "/first", plan, qos.LATENT, callback_group=worker.when_free)
    node.create_subscription(Int64MultiArray, "/second", lambda _: worker.post(lambda: done.append("second")), qos.LATENT)
    publishers = [node.create_publisher(Int64MultiArray, f"/{name}", qos.LATENT) for name in ("first", "second")]
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ended = threading.Event()

    def publish() -> None:
        while not ended.wait(0.002):
            for publisher in publishers:
                publisher.publish(Int64MultiArray(data=[0]))

    publishing = threading.Thread(target=publish)
    try:
        wait_until(lambda: all(publisher.get_subscription_count() for publisher in publishers), what="a match")
        publishing.start()
        wait_until(lambda: executor.spin_once(timeout_sec=0.02) or done.count("first") >= 20, what="twenty jobs")
        assert done.count("second") >= 20, done
    finally:
        ended.set()
        publishing.join()
        executor.shutdown()
        worker.close()


def test_how_long_it_has_been_at_one_thing_is_known_and_closing_hurries_it(node):
    worker, begun, hurried = Worker(node, "worker"), threading.Event(), []
    assert worker.busy_s == 0.0
    worker.post(lambda: (begun.set(), wait_until(lambda: worker.awaited, what="the end"), hurried.append(True)))
    begun.wait()
    time.sleep(0.05)
    assert worker.busy_s >= 0.05 and not worker.awaited
    worker.close()
    assert hurried and worker.busy_s == 0.0


def test_a_worker_that_failed_says_so_to_whoever_comes_although_the_executor_was_not_woken(node):
    """The trigger of a guard condition that is being read is lost; nobody may go on as if the worker were there."""
    worker = Worker(node, "worker")
    worker.post(lambda: 1 / 0)
    wait_until(lambda: worker.failure is not None and not worker.busy_s, what="the failure")
    with pytest.raises(ZeroDivisionError):
        worker.post(lambda: None)
    with pytest.raises(WorkerEndedError) as ended:
        worker.ask(lambda: None)
    assert isinstance(ended.value.__cause__, ZeroDivisionError)
    worker.close()


def test_what_a_job_raises_comes_out_of_the_executor_and_nothing_more_is_done(node):
    worker, done = Worker(node, "worker"), []
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        gate = threading.Event()
        worker.post(lambda: (gate.wait(), 1 / 0))
        worker.post(lambda: done.append("after"))
        gate.set()
        with pytest.raises(ZeroDivisionError):
            for _ in range(100):
                executor.spin_once(timeout_sec=0.1)
        time.sleep(0.05)
        assert not done and isinstance(worker.failure, ZeroDivisionError)
    finally:
        executor.shutdown()
        worker.close()
