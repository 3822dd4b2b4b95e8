"""Camera frames and goal pictures to latents."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from ros_bridge.diagnostics import ERROR, OK, WARN, DiagnosticsReport, Latencies, Value, status
from ros_bridge.images import ImageError, image_to_array, latent_to_image
from ros_bridge.joints import JointError, read_joint_state
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import run_node
from ros_bridge.qos import GOAL, JOINT_HISTORY, LATENT
from ros_bridge.scheduling import WISHES, read_cores, schedule
from ros_bridge.stamps import stamp_ns
from world_model.framing import Framing, FramingError, read_crop
from world_model.perception import Perception, PictureError
from world_model.precision.tolerance import doubts
from world_model.protocol import F32
from world_model.runtimes import PRECISIONS, RUNTIMES, RuntimeConfig, open_model
from world_model.runtimes.config import PERCEPTION_GRAPHS

# Slower than any camera that a plan could be made from.
_SILENCE_S = 2.0


@dataclass(frozen=True)
class PerceptionParameters:
    """Which encoder runs, and on what."""

    model: str = parameter("models/reach", "folder of the model bundle")
    threads: int = parameter(1, "threads of the encoder", at_least=1, at_most=64)
    runtime: str = parameter("auto", "what runs the encoder: auto tries TensorRT, CUDA and the CPU; see docs/runtimes.md", choices=RUNTIMES)
    precision: str = parameter("fp32", "precision of the encoder, where the bundle has it", choices=PRECISIONS)
    engine_cache: str = parameter("", "folder of TensorRT's engines; by default latent-mpc/engines in the user's cache")
    joints_tolerance: float = parameter(
        0.05, "s that joint states may be older than a picture, for a model that asks for them", at_least=0.0, at_most=1.0
    )
    framing: bool = parameter(False, "crop and scale pictures of another size than the model's, as framing_node does, but without a hop more")
    crop: str = parameter(
        "", "[x, y, width, height] in pixels of what the model sees, with framing; by default the largest part of its shape in the middle"
    )
    cpu_affinity: str = parameter("", "cores that it may run on, such as 1 or 0,2-3; empty: any")
    priority: str = parameter("none", "what it asks the scheduler for, behind the guardrail; auto: the first that is permitted", choices=WISHES)

    def __post_init__(self) -> None:
        read_cores(self.cpu_affinity)
        if read_crop(self.crop) is not None and not self.framing:
            raise FramingError(f"crop is {self.crop}, but framing is false: no picture would be cropped")

    def runtime_config(self) -> RuntimeConfig:
        """What the encoder and the witness are to run on."""
        return RuntimeConfig(self.threads, self.precision, self.runtime, self.engine_cache, PERCEPTION_GRAPHS)


class PerceptionNode(Node):
    """Encodes the newest camera frame and every goal picture. A picture that the model cannot take is refused, counted and named.

    None is resized, unless ``framing`` asks for it: then those of another size than the model's are, goal pictures like frames.

    A model with proprioception is told where the joints were when the camera frame was taken, and of a goal picture that it is unknown.
    """

    def __init__(self) -> None:
        super().__init__("perception_node")
        parameters = declare(self, PerceptionParameters)
        self._model = open_model(parameters.model, parameters.runtime_config())
        self._perception = Perception(self._model, parameters.joints_tolerance)
        height, width, _ = self._model.manifest.frame
        self._framing = Framing(width, height, read_crop(parameters.crop)) if parameters.framing else None
        self._encode_ms = Latencies()
        self._witness_ms = Latencies()
        self._goals = 0
        self._refused = 0
        self._refused_before = 0
        self._dropped = 0
        self._without_joints_before = 0
        self._newest: tuple[object, int] | None = None
        self._heard_s = time.monotonic()
        self._latent = self.create_publisher(Image, "/perception/latent", LATENT)
        self._witness = self.create_publisher(Image, "/perception/witness", LATENT) if self._perception.has_witness else None
        self._goal_latent = self.create_publisher(Image, "/goal/latent", GOAL)
        self._doubts = doubts(parameters.model, self._model.manifest, self._model.choice)
        self._report = DiagnosticsReport(self, lambda: [self._describe_runtime(), *self._describe()])
        # Depth 1: while a frame is being encoded the middleware keeps the newest one only.
        self._frames = self.create_subscription(Image, "/camera/image_raw", self._on_frame, LATENT)
        if self._perception.asks_for_joints:
            self._joint_states = self.create_subscription(JointState, "/joint_states", self._on_joint_state, JOINT_HISTORY)
        self.create_subscription(Image, "/goal/image", self._on_goal, GOAL)
        for line in self._model.choice.lines(self._model.first_run_ms):
            self.get_logger().info(line)
        for line in self._doubts:
            self.get_logger().warning(line)
        self._scheduling = schedule(parameters.cpu_affinity, parameters.priority, self.get_logger().warning)

    def _on_frame(self, msg: Image, info: Mapping[str, Any]) -> None:
        self._heard_s = time.monotonic()
        self._count_drops(info)
        try:
            joints, picture = self._joints_at(msg), self._picture(msg)
            # The plan waits for the latent, nobody for the witness: it comes second.
            self._latent.publish(self._encode(picture, msg.header, joints))
            if self._witness is not None:
                self._witness.publish(self._testify(picture, msg.header, joints))
        except (ImageError, FramingError, PictureError) as error:
            self._refused += 1
            self.get_logger().error(f"refused a camera frame: {error}", throttle_duration_sec=1.0)

    def _on_goal(self, msg: Image) -> None:
        try:
            latent = self._encode(self._picture(msg), msg.header, None)
        except (ImageError, FramingError, PictureError) as error:
            self._refused += 1
            self.get_logger().error(f"refused a goal picture, the arm keeps holding: {error}", throttle_duration_sec=1.0)
            return
        self._goals += 1
        self._goal_latent.publish(latent)

    def _on_joint_state(self, msg: JointState) -> None:
        try:
            reading = read_joint_state(msg, self._model.manifest.joints)
        except JointError as error:
            self.get_logger().error(f"refused a joint state: {error}", throttle_duration_sec=1.0)
            return
        self._perception.hear(reading.position, reading.stamp_ns)

    def _joints_at(self, frame: Image) -> F32 | None:
        """Joint positions ``(1, J)`` when ``frame`` was taken, NaN where nobody said, None for a model that does not ask."""
        if self._perception.asks_for_joints:
            # What came while the last picture was encoded still waits, and the executor hands over one message between two pictures.
            waiting = self._joint_states.handle
            with waiting:
                while (taken := waiting.take_message(JointState, False)) is not None:
                    self._on_joint_state(taken[0])
        return self._perception.joints_at(stamp_ns(frame.header.stamp))

    def _picture(self, msg: Image) -> NDArray[np.uint8]:
        """The pixels ``(H, W, 3)`` of a message, framed if that was asked for and its size is not the model's.

        Raises:
            ImageError: the message is malformed.
            FramingError: the part that the model is to see does not lie in the picture.
        """
        if self._framing is None or (msg.width, msg.height) == (self._framing.width, self._framing.height):
            return image_to_array(msg)
        return image_to_array(msg, self._framing)

    def _encode(self, picture: NDArray[np.uint8], header: Header, joints: F32 | None) -> Image:
        """The latent message of a picture ``(H, W, 3)``, with the picture's own header; ``joints (1, J)`` rad.

        Raises:
            PictureError: the picture is not of the model's size, or the model makes nothing finite of it.
        """
        started = time.perf_counter()
        latent = self._perception.encode(picture, joints)
        self._encode_ms.add((time.perf_counter() - started) * 1e3)
        return latent_to_image(latent, header)

    def _testify(self, picture: NDArray[np.uint8], header: Header, joints: F32 | None) -> Image:
        """What the witness makes of a picture that the encoder took, for surprise.

        Raises:
            PictureError: it makes nothing finite of it.
        """
        started = time.perf_counter()
        latent = self._perception.testify(picture, joints)
        self._witness_ms.add((time.perf_counter() - started) * 1e3)
        return latent_to_image(latent, header)

    def _count_drops(self, info: Mapping[str, Any]) -> None:
        """Count the frames that a camera published and nobody encoded, by the gaps in its sequence numbers."""
        source, sequence = info.get("publisher_gid"), info.get("publication_sequence_number")
        if self._newest is not None and self._newest[0] == source and sequence is not None:
            self._dropped += max(0, sequence - self._newest[1] - 1)
        self._newest = (source, sequence or 0)

    def _describe_runtime(self) -> DiagnosticStatus:
        choice = self._model.choice
        message = "; ".join([f"networks on {choice.runs_on}", *self._doubts])
        return status("perception_node: runtime", message, choice.values(self._model.first_run_ms), WARN if self._doubts else OK)

    def _describe(self) -> Sequence[DiagnosticStatus]:
        refused = self._refused - self._refused_before
        self._refused_before = self._refused
        values: dict[str, Value] = {
            "model": self._model.manifest.name,
            "scheduling": self._scheduling,
            "frames": self._encode_ms.count - self._goals,
            "goals": self._goals,
            "dropped_frames": self._dropped,
            "refused_pictures": self._refused,
            "encode_ms_p50": self._encode_ms.p50,
            "encode_ms_p99": self._encode_ms.p99,
        }
        if self._witness is not None:
            values |= {"witness_ms_p50": self._witness_ms.p50, "witness_ms_p99": self._witness_ms.p99}
        if self._perception.asks_for_joints:
            values["frames_without_joints"] = self._perception.without_joints
        without_joints = self._perception.without_joints - self._without_joints_before
        self._without_joints_before = self._perception.without_joints
        silence_s = time.monotonic() - self._heard_s
        if silence_s > _SILENCE_S:
            message = f"no picture on {self._frames.topic_name} for {silence_s:.0f} s: nothing is planned, the arm holds"
            self.get_logger().error(message, throttle_duration_sec=5.0)
            return [status("perception_node", message, values, ERROR)]
        if refused:
            return [status("perception_node", f"refused {refused} pictures in the last second", values, WARN)]
        if without_joints:
            message = f"no joint states at the time of {without_joints} pictures in the last second: the model was told that they are unknown"
            return [status("perception_node", message, values, WARN)]
        return [status("perception_node", "encoding", values, OK)]


def main() -> int:
    """Run the node; the exit status of the process."""
    return run_node(PerceptionNode)


if __name__ == "__main__":
    sys.exit(main())
