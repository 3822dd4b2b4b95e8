"""Records topics as they come, undecoded, into an MCAP rosbag2 folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from std_srvs.srv import Trigger

from latent_mpc.bags.listening import Listener
from latent_mpc.bags.profiles import OWN_TOPICS, PROFILES, chosen
from latent_mpc.bags.recording import Recording, Ring
from latent_mpc.bags.storage import BagError
from latent_mpc.bags.writer import COMPRESSIONS, Format
from ros_bridge.diagnostics import ERROR, OK, WARN, DiagnosticsReport, Value, status
from ros_bridge.exit_status import BAD_INPUT_STATUS
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import run_node
from ros_bridge.stamps import now_ns

_LOOK_FOR_TOPICS_S = 0.1
_TAKE_S = 0.05
_STATUS_TYPE = "diagnostic_msgs/msg/DiagnosticStatus"
_STOPPED = "STOPPED"


@dataclass(frozen=True)
class RecorderParameters:
    """What is recorded, where to, and how."""

    profile: str = parameter("evaluation", "which topics are recorded, unless 'topics' names them", choices=tuple(PROFILES))
    topics: tuple[str, ...] = parameter(("",), "topics to record, in the place of the profile's; those that nobody publishes yet are waited for")
    output: str = parameter("", "folder of the bag; must not exist yet")
    queue_mb: float = parameter(64.0, "what may wait for the disk, in MB; messages beyond it are dropped and counted", at_least=0.001, at_most=4096.0)
    compression: str = parameter("none", "of the chunks of the files", choices=tuple(COMPRESSIONS))
    split_mb: float = parameter(0.0, "MB after which the bag goes on in another file; 0: never", at_least=0.0, at_most=1e6)
    split_s: float = parameter(0.0, "s after which the bag goes on in another file; 0: never", at_least=0.0, at_most=1e6)
    flush_s: float = parameter(0.5, "s until what came is safe from the end of the recorder, however sudden", at_least=0.05, at_most=10.0)
    before_s: float = parameter(0.0, "s kept in memory and written when a trigger comes; 0: everything is written", at_least=0.0, at_most=600.0)
    after_s: float = parameter(5.0, "s after a trigger that are written, too", at_least=0.0, at_most=600.0)
    ring_mb: float = parameter(512.0, "MB that the seconds before a trigger may take; beyond it the oldest go", at_least=1.0, at_most=65536.0)
    trigger_topic: str = parameter("/guardrail/status", "DiagnosticStatus that is a trigger when its message becomes STOPPED; so is ~/snapshot")


class RecorderNode(Node):
    """Subscribes to each topic with the quality of service of its publishers as soon as there is one."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self._recording: Recording | None = None
        parameters = declare(self, RecorderParameters)
        if not parameters.output:
            raise BagError("parameter 'output' is not set: which folder shall the bag go to?")
        self._profile = chosen(parameters.profile, parameters.topics)
        # What is here called by our names: remap rules put them into a namespace, or in the place of a driver's.
        self._ours = {self.resolve_topic_name(name): name for name in (*OWN_TOPICS, *self._profile.waits_for)}
        self._trigger_topic = self.resolve_topic_name(parameters.trigger_topic) if parameters.before_s > 0 else ""
        self._stopped = False
        self._listener = Listener(self)
        self._refused: dict[str, str] = {}
        form = Format(parameters.compression, round(parameters.split_mb * 1e6), round(parameters.split_s * 1e9), parameters.flush_s)
        ring = Ring(parameters.before_s, parameters.after_s, round(parameters.ring_mb * 1e6))
        self._recording = Recording(Path(parameters.output), round(parameters.queue_mb * 1e6), form, ring)
        self._report = DiagnosticsReport(self, self._describe)
        self.create_service(Trigger, "~/snapshot", self._on_snapshot)
        self.create_timer(_LOOK_FOR_TOPICS_S, self._look)
        self.create_timer(_TAKE_S, self._take)
        self._look()

    @property
    def failure(self) -> str | None:
        """Why the bag is incomplete, or None."""
        return self._recording.failure if self._recording is not None else None

    @property
    def tally(self) -> str:
        """What the bag holds, in one line."""
        recording = self._recording
        if recording is None:
            return "nothing"
        lost = f", {self._listener.lost} lost on the way" if self._listener.lost else ""
        return f"{recording.folder}: {recording.written} messages, {recording.dropped} dropped{lost}"

    def destroy_node(self) -> None:
        """Close the bag, also when the constructor did not get to its end."""
        if self._recording is not None:
            self._take()
            self._recording.close()
        super().destroy_node()

    def _look(self) -> None:
        """Subscribe to what has appeared; end the process when the bag cannot be written any more."""
        if self.failure is not None:
            self.context.try_shutdown()
            return
        for topic, types in self.get_topic_names_and_types():
            if topic in self._refused or not (self._wanted(topic, types[0]) or topic == self._trigger_topic):
                continue
            if self.resolve_topic_name(topic) != topic:
                continue  # remapped: whoever subscribes to it here hears another topic
            publishers = self.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            if len(types) != 1:
                self._refuse(topic, f"published with several types: {', '.join(types)}")
                continue
            try:
                self._listener.listen(topic, types[0], [info.qos_profile for info in publishers])
            except BagError as error:
                self._refuse(topic, str(error))

    def _take(self) -> None:
        """Hand over what has come."""
        assert self._recording is not None
        for message in self._listener.take():
            channel = message.channel
            if self._wanted(channel.topic, channel.msgtype):
                self._recording.put(message)
            if channel.topic == self._trigger_topic and channel.msgtype == _STATUS_TYPE:
                self._watch(message.data, message.time_ns)

    def _wanted(self, topic: str, msgtype: str) -> bool:
        return self._profile.wants(self._ours.get(topic, topic), msgtype)

    def _watch(self, data: bytes, time_ns: int) -> None:
        """A guardrail that comes to a stop is a trigger; one that still stands is not."""
        assert self._recording is not None
        stopped = deserialize_message(data, DiagnosticStatus).message == _STOPPED
        if stopped and not self._stopped:
            self.get_logger().info(f"{self._trigger_topic} says {_STOPPED}: writing what led to it")
            self._recording.trigger(time_ns)
        self._stopped = stopped

    def _on_snapshot(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        assert self._recording is not None
        self._take()
        self._recording.trigger(now_ns(self))
        response.success, response.message = self.failure is None, self.failure or f"writing to {self._recording.folder}"
        return response

    def _refuse(self, topic: str, reason: str) -> None:
        self._refused[topic] = reason
        self.get_logger().error(f"{topic} is not recorded: {reason}")

    def _describe(self) -> Sequence[DiagnosticStatus]:
        recording = self._recording
        assert recording is not None
        level, message = (ERROR, recording.failure) if recording.failure is not None else (OK, "recording")
        if level == OK and (recording.dropped or self._refused):
            level, message = WARN, "messages dropped" if recording.dropped else "topics refused"
        heard = self._listener.topics
        waiting = [topic for topic in map(self.resolve_topic_name, self._profile.waits_for) if topic not in heard and topic not in self._refused]
        values: dict[str, Value] = {
            "bag": str(recording.folder),
            "written": recording.written,
            "dropped": recording.dropped,
            "lost": self._listener.lost,
            "triggers": recording.triggers,
            "waiting_for": " ".join(waiting),
            "refused": "; ".join(f"{topic}: {reason}" for topic, reason in self._refused.items()),
        }
        return [status("recorder_node", message, values, level=level)]


def main(args: Sequence[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM. Exit status 2 with one line on stderr when the bag cannot be written or is incomplete."""
    made: list[RecorderNode] = []

    def create() -> RecorderNode:
        node = RecorderNode()
        made.append(node)
        return node

    exit_status = run_node(create, args)
    for node in made:
        if node.failure is not None:
            print(node.failure, file=sys.stderr)
            return BAD_INPUT_STATUS
        print(node.tally)
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
