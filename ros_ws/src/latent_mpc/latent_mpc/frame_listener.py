"""Somebody who only looks on: writes down when each node published what, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Int64MultiArray
from trajectory_msgs.msg import JointTrajectory

from latent_mpc.frame_log import FrameLog
from latent_mpc.guard_loop import COMMANDS
from planner_node.journal import COLUMNS
from ros_bridge.cdr import CdrReader
from ros_bridge.qos import JOURNAL

_ASK_EVERY_S = 0.087  # in step with no camera
_NO_ANSWER_S = 5.0
_PUBLISHED = "source_timestamp"
# Read late is as good: what counts stands in the message.
_ALL = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=500, reliability=ReliabilityPolicy.RELIABLE)
_ALL_BEST_EFFORT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=500, reliability=ReliabilityPolicy.BEST_EFFORT)


class FrameListener:
    """Fills ``log`` while it is entered. Use as a context manager."""

    def __init__(self, domain: int) -> None:
        self.log = FrameLog()
        self.lost_journal_pages = 0
        self.answers_ms: list[float] = []
        self._next_row: dict[str, int] = {}
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("frame_listener", context=self._context)
        log, create = self.log, self._node.create_subscription
        create(CameraInfo, "/camera/camera_info", _noting(log.pictures), _ALL_BEST_EFFORT, raw=True)
        create(Image, "/perception/latent", _noting(log.latents), _ALL_BEST_EFFORT, raw=True)
        create(JointTrajectory, "/planner/plan", _noting(log.plans), _ALL, raw=True)
        create(JointTrajectory, COMMANDS, _noting(log.commands), _ALL, raw=True)
        create(Int64MultiArray, "/planner/journal", lambda msg: self._on_journal("planner", msg), JOURNAL)
        create(Int64MultiArray, "/guardrail/journal", lambda msg: self._on_journal("guardrail", msg), JOURNAL)
        self._asked = self._node.create_client(GetParameters, "/planner_node/get_parameters")
        self._question_s: float | None = None
        self._node.create_timer(_ASK_EVERY_S, self._ask)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin)

    def __enter__(self) -> FrameListener:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _ask(self) -> None:
        """Have the planner answer what costs it nothing, and note how long that takes: it is how long it listens to nobody."""
        if self._question_s is not None and time.monotonic() - self._question_s > _NO_ANSWER_S:
            if self.answers_ms:
                self._on_answer(self._question_s)  # it counts with what was waited for it
            else:
                self._question_s = None  # the planner's side drops what it answers to somebody whom it has not found yet
        if self._question_s is not None or not self._asked.service_is_ready():
            return
        asked_s = self._question_s = time.monotonic()
        self._asked.call_async(GetParameters.Request(names=["rate_hz"])).add_done_callback(lambda _: self._on_answer(asked_s))

    def _on_answer(self, asked_s: float) -> None:
        """The question of then has been answered; one that was given up before counts no more."""
        if self._question_s == asked_s:
            self.answers_ms.append(1e3 * (time.monotonic() - asked_s))
            self._question_s = None

    def _on_journal(self, whose: str, msg: Int64MultiArray) -> None:
        rows = np.array(msg.data, dtype=np.int64).reshape(-1, COLUMNS)
        first = int(msg.layout.data_offset)
        self.lost_journal_pages += self._next_row.get(whose, first) != first
        self._next_row[whose] = (first + len(rows)) % 2**32
        journal = self.log.planner_journal if whose == "planner" else self.log.guardrail_journal
        journal.append(rows)


def _noting(times: dict[int, int]) -> Callable[[bytes, Mapping[str, Any]], None]:
    """A callback for raw messages that begin with a header: when each was published, by its stamp. Of a stamp that comes twice the first counts."""

    def note(payload: bytes, info: Mapping[str, Any]) -> None:
        times.setdefault(CdrReader(payload).stamp_ns(), int(info[_PUBLISHED]))

    return note
