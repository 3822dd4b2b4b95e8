"""Records topics as they come, undecoded, into an MCAP rosbag2 folder."""

from __future__ import annotations

import importlib
import queue
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import TypesysError

from latent_mpc.bag import TYPES
from ros_bridge.diagnostics import ERROR, OK, WARN, DiagnosticsReport, Value, status
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import BAD_INPUT_STATUS, run_node
from ros_bridge.stamps import now_ns

_LOOK_FOR_TOPICS_S = 0.1
# Deep enough for the bursts that arrive while Python is busy elsewhere.
_DEPTH = 200
EVERYTHING = (
    "/camera/camera_info",
    "/camera/image_raw",
    "/diagnostics",
    "/forward_velocity_controller/commands",
    "/goal/image",
    "/goal/latent",
    "/guardrail/journal",
    "/guardrail/settings",
    "/guardrail/status",
    "/joint_states",
    "/joint_trajectory_controller/joint_trajectory",
    "/overview/image_raw",
    "/perception/latent",
    "/perception/witness",
    "/planner/imagined",
    "/planner/journal",
    "/planner/plan",
    "/planner/result",
    "/planner/settings",
    "/planner/status",
    "/planner/surprise",
    "/planner/zones",
    "/sim/goal_image",
    "/sim/ground_truth",
)


class RecorderError(ValueError):
    """The bag cannot be written, with the reason in one line."""


@dataclass(frozen=True)
class RecorderParameters:
    """What is recorded, and where to."""

    topics: tuple[str, ...] = parameter(EVERYTHING, "topics to record; those that nobody publishes yet are waited for")
    output: str = parameter("", "folder of the bag; must not exist yet")
    queue_mb: float = parameter(64.0, "what may wait for the disk, in MB; messages beyond it are dropped and counted", at_least=0.001, at_most=4096.0)


@dataclass(frozen=True)
class _Sample:
    topic: str
    msgtype: str
    time_ns: int
    data: bytes


class BagWriter:
    """Writes samples to a bag in a thread of its own, so that a slow disk never holds up whoever hands them over.

    ``failure`` is None, or why the bag is incomplete. ``written`` and ``dropped`` count messages.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        """Create the bag.

        Raises:
            RecorderError: the folder exists or cannot be made.
        """
        self.folder = folder
        self.failure: str | None = None
        self.written = 0
        self.dropped = 0
        self._capacity = capacity_bytes
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Sample | None] = queue.SimpleQueue()
        try:
            self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except (OSError, WriterError) as error:
            raise RecorderError(f"cannot write bag {folder}: {_reason(error)}") from error
        self._connections: dict[str, Connection] = {}
        self._thread = threading.Thread(target=self._run, name="bag-writer", daemon=True)
        self._thread.start()

    def put(self, topic: str, msgtype: str, time_ns: int, data: bytes) -> None:
        """Hand over one serialized message received at ``time_ns``; drops and counts it when too much is waiting already."""
        with self._lock:
            if self.failure is not None or self._waiting_bytes + len(data) > self._capacity:
                self.dropped += 1
                return
            self._waiting_bytes += len(data)
        self._queue.put(_Sample(topic, msgtype, time_ns, data))

    def close(self) -> None:
        """Write what is waiting and the metadata. Sets ``failure`` when that fails."""
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (sample := self._queue.get()) is not None:
            if self.failure is None:
                try:
                    self._write(sample)
                    self.written += 1
                except (OSError, WriterError) as error:
                    self._fail(error)
            with self._lock:
                self._waiting_bytes -= len(sample.data)
        # Without metadata.yaml nobody takes an incomplete bag for a complete one.
        if self.failure is None:
            try:
                self._writer.close()
            except (OSError, WriterError) as error:
                self._fail(error)

    def _write(self, sample: _Sample) -> None:
        if sample.topic not in self._connections:
            self._connections[sample.topic] = self._writer.add_connection(sample.topic, sample.msgtype, typestore=TYPES)
        self._writer.write(self._connections[sample.topic], sample.time_ns, sample.data)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self.failure = self.failure or f"cannot write bag {self.folder}: {_reason(error)}; it is incomplete"


class RecorderNode(Node):
    """Subscribes to each topic with the quality of service of its publishers as soon as there is one."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self._writer: BagWriter | None = None
        parameters = declare(self, RecorderParameters)
        if not parameters.output:
            raise RecorderError("parameter 'output' is not set: which folder shall the bag go to?")
        self._waiting = sorted(set(parameters.topics))
        self._refused: dict[str, str] = {}
        self._writer = BagWriter(Path(parameters.output), int(parameters.queue_mb * 1e6))
        self._report = DiagnosticsReport(self, self._describe)
        self.create_timer(_LOOK_FOR_TOPICS_S, self._look)
        self._look()

    @property
    def failure(self) -> str | None:
        """Why the bag is incomplete, or None."""
        return self._writer.failure if self._writer is not None else None

    @property
    def tally(self) -> str:
        """What the bag holds, in one line."""
        return f"{self._writer.folder}: {self._writer.written} messages, {self._writer.dropped} dropped" if self._writer is not None else "nothing"

    def destroy_node(self) -> None:
        """Close the bag, also when the constructor did not get to its end."""
        if self._writer is not None:
            self._writer.close()
        super().destroy_node()

    def _look(self) -> None:
        """Subscribe to what has appeared; end the process when the bag cannot be written any more."""
        if self.failure is not None:
            self.context.try_shutdown()
            return
        if not self._waiting:
            return
        types = dict(self.get_topic_names_and_types())
        for topic in [name for name in self._waiting if name in types]:
            publishers = self.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            self._waiting.remove(topic)
            if len(types[topic]) != 1:
                self._refuse(topic, f"published with several types: {', '.join(types[topic])}")
                continue
            self._subscribe(topic, types[topic][0], [info.qos_profile for info in publishers])

    def _subscribe(self, topic: str, msgtype: str, offered: Sequence[QoSProfile]) -> None:
        try:
            TYPES.generate_msgdef(msgtype, ros_version=2)
            message_class = _message_class(msgtype)
        except (TypesysError, ImportError, AttributeError):
            self._refuse(topic, f"unknown type {msgtype}")
            return

        def record(data: bytes) -> None:
            assert self._writer is not None
            self._writer.put(topic, msgtype, now_ns(self), data)

        self.create_subscription(message_class, topic, record, _matching(offered), raw=True)

    def _refuse(self, topic: str, reason: str) -> None:
        self._refused[topic] = reason
        self.get_logger().error(f"{topic} is not recorded: {reason}")

    def _describe(self) -> list[DiagnosticStatus]:
        writer = self._writer
        assert writer is not None
        level, message = (ERROR, writer.failure) if writer.failure is not None else (OK, "recording")
        if level == OK and (writer.dropped or self._refused):
            level, message = WARN, "messages dropped" if writer.dropped else "topics refused"
        values: dict[str, Value] = {
            "bag": str(writer.folder),
            "written": writer.written,
            "dropped": writer.dropped,
            "waiting_for": " ".join(self._waiting),
            "refused": "; ".join(f"{topic}: {reason}" for topic, reason in self._refused.items()),
        }
        return [status("recorder_node", message, values, level=level)]


def main() -> int:
    """Record until SIGINT or SIGTERM. Exit status 2 with one line on stderr when the bag cannot be written or is incomplete."""
    made: list[RecorderNode] = []

    def create() -> RecorderNode:
        node = RecorderNode()
        made.append(node)
        return node

    exit_status = run_node(create)
    for node in made:
        if node.failure is not None:
            print(node.failure, file=sys.stderr)
            return BAD_INPUT_STATUS
        print(node.tally)
    return exit_status


def _message_class(msgtype: str) -> type:
    package, _, name = msgtype.split("/")
    found: type = getattr(importlib.import_module(f"{package}.msg"), name)
    return found


def _matching(offered: Sequence[QoSProfile]) -> QoSProfile:
    """A profile that every publisher is compatible with, as strong as that allows."""
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
