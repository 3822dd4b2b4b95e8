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
from sensor_msgs.msg import Image

from ros_bridge.diagnostics import ERROR, OK, WARN, DiagnosticsReport, Latencies, Value, status
from ros_bridge.images import ImageError, image_to_array, latent_to_image
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import run_node
from ros_bridge.qos import GOAL, LATENT
from world_model.runtime import OnnxModel

_WARM_UP_FRAMES = 5
# Slower than any camera that a plan could be made from.
_SILENCE_S = 2.0


@dataclass(frozen=True)
class PerceptionParameters:
    """Which encoder runs, and on how many threads."""

    model: str = parameter("models/reach", "folder of the model bundle")
    threads: int = parameter(1, "threads of the encoder", at_least=1, at_most=64)


class PerceptionNode(Node):
    """Encodes the newest camera frame and every goal picture. A picture that the model cannot take is refused, counted and named; none is resized."""

    def __init__(self) -> None:
        super().__init__("perception_node")
        parameters = declare(self, PerceptionParameters)
        self._model = OnnxModel(parameters.model, parameters.threads)
        self._encode_ms = Latencies()
        self._goals = 0
        self._refused = 0
        self._refused_before = 0
        self._dropped = 0
        self._newest: tuple[object, int] | None = None
        self._heard_s = time.monotonic()
        # The first runs allocate; a goal must not wait for them.
        for _ in range(_WARM_UP_FRAMES):
            self._model.encode(np.zeros((1, *self._model.manifest.frame), np.uint8))
        self._latent = self.create_publisher(Image, "/perception/latent", LATENT)
        self._goal_latent = self.create_publisher(Image, "/goal/latent", GOAL)
        self._report = DiagnosticsReport(self, self._describe)
        # Depth 1: while a frame is being encoded the middleware keeps the newest one only.
        self._frames = self.create_subscription(Image, "/camera/image_raw", self._on_frame, LATENT)
        self.create_subscription(Image, "/goal/image", self._on_goal, GOAL)

    def _on_frame(self, msg: Image, info: Mapping[str, Any]) -> None:
        self._heard_s = time.monotonic()
        self._count_drops(info)
        try:
            latent = self._encode(msg)
        except ImageError as error:
            self._refused += 1
            self.get_logger().error(f"refused a camera frame: {error}", throttle_duration_sec=1.0)
            return
        self._latent.publish(latent)

    def _on_goal(self, msg: Image) -> None:
        try:
            latent = self._encode(msg)
        except ImageError as error:
            self._refused += 1
            self.get_logger().error(f"refused a goal picture, the arm keeps holding: {error}", throttle_duration_sec=1.0)
            return
        self._goals += 1
        self._goal_latent.publish(latent)

    def _encode(self, msg: Image) -> Image:
        """The latent message of a picture, with the picture's own header.

        Raises:
            ImageError: the picture is malformed or not of the model's size, or the model makes nothing finite of it.
        """
        pixels = self._pixels(msg)
        started = time.perf_counter()
        latent = self._model.encode(pixels[None])[0]
        self._encode_ms.add((time.perf_counter() - started) * 1e3)
        return latent_to_image(latent, msg.header)

    def _pixels(self, msg: Image) -> NDArray[np.uint8]:
        pixels = image_to_array(msg)
        if pixels.shape != self._model.manifest.frame:
            height, width, _ = self._model.manifest.frame
            raise ImageError(f"picture is {msg.width} x {msg.height} pixels, the model takes {width} x {height}")
        return pixels

    def _count_drops(self, info: Mapping[str, Any]) -> None:
        """Count the frames that a camera published and nobody encoded, by the gaps in its sequence numbers."""
        source, sequence = info.get("publisher_gid"), info.get("publication_sequence_number")
        if self._newest is not None and self._newest[0] == source and sequence is not None:
            self._dropped += max(0, sequence - self._newest[1] - 1)
        self._newest = (source, sequence or 0)

    def _describe(self) -> Sequence[DiagnosticStatus]:
        refused = self._refused - self._refused_before
        self._refused_before = self._refused
        values: dict[str, Value] = {
            "model": self._model.manifest.name,
            "frames": self._encode_ms.count - self._goals,
            "goals": self._goals,
            "dropped_frames": self._dropped,
            "refused_pictures": self._refused,
            "encode_ms_p50": self._encode_ms.p50,
            "encode_ms_p99": self._encode_ms.p99,
        }
        silence_s = time.monotonic() - self._heard_s
        if silence_s > _SILENCE_S:
            message = f"no picture on {self._frames.topic_name} for {silence_s:.0f} s: nothing is planned, the arm holds"
            self.get_logger().error(message, throttle_duration_sec=5.0)
            return [status("perception_node", message, values, ERROR)]
        message = f"refused {refused} pictures in the last second" if refused else "encoding"
        return [status("perception_node", message, values, WARN if refused else OK)]


def main() -> int:
    """Run the node; the exit status of the process."""
    return run_node(PerceptionNode)


if __name__ == "__main__":
    sys.exit(main())
