"""What a callback learns of a message's reception, also from an rclpy that tells nothing of it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy")

from rclpy.subscription import Subscription

from ros_bridge.reception import RECEIVED, with_reception


def test_a_humble_that_tells_nothing_of_a_message_and_calls_its_events_otherwise_will_do(monkeypatch):
    told = []
    assert with_reception(lambda payload, info: told.append((payload, info)))(b"new", {RECEIVED: 1}) is None
    monkeypatch.delattr(Subscription, "CallbackType")
    before = time.time_ns()
    with_reception(lambda payload, info: told.append((payload, info)))(b"old")
    assert told[0] == (b"new", {RECEIVED: 1})
    assert told[1][0] == b"old" and before <= told[1][1][RECEIVED] <= time.time_ns()
    humble = """
import sys, rclpy.node, rclpy.event_handler
sys.modules["rclpy.qos_event"], sys.modules["rclpy.event_handler"] = rclpy.event_handler, None
from ros_bridge.publisher_watch import PublisherWatch
"""
    subprocess.run([sys.executable, "-c", humble], check=True)
