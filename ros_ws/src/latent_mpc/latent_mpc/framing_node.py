"""Between a camera and perception: ``python -m latent_mpc.framing_node --ros-args --params-file launch/config/framing.yaml``.

Perception takes pictures of the model's size only and resizes none, because a picture of another shape is no picture of the data. A physical camera
has other sizes: here its pictures are cropped and scaled, at one place, with the calibration beside them. Stamps and frame ids stay.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from ros_bridge.diagnostics import ERROR, OK, DiagnosticsReport, Latencies, status
from ros_bridge.images import ImageError, ReusedImage, image_to_array
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import run_node
from ros_bridge.qos import CAMERA, LATENT
from world_model.framing import Framing, FramingError, framed_intrinsics, read_crop


@dataclass(frozen=True)
class FramingParameters:
    """Which camera, and what becomes of its pictures."""

    image_topic: str = parameter("/camera/camera/color/image_raw", "topic of the camera's pictures")
    info_topic: str = parameter("/camera/camera/color/camera_info", "topic of the camera's calibration")
    framed_image_topic: str = parameter("/framed/image_raw", "topic of the framed pictures")
    framed_info_topic: str = parameter("/framed/camera_info", "topic of their calibration")
    width: int = parameter(64, "pixels across of the model's pictures", at_least=1, at_most=8192)
    height: int = parameter(64, "pixels down of the model's pictures", at_least=1, at_most=8192)
    crop: str = parameter("", "[x, y, width, height] in pixels of what the model sees; by default the largest part of its shape in the middle")

    def __post_init__(self) -> None:
        read_crop(self.crop)
        if self.image_topic == self.framed_image_topic or self.info_topic == self.framed_info_topic:
            raise FramingError("the framed pictures would go where the camera's come from")


class FramingNode(Node):
    """Frames every picture and every calibration that comes."""

    def __init__(self) -> None:
        super().__init__("framing_node")
        p = self.parameters = declare(self, FramingParameters)
        self._framing = Framing(p.width, p.height, read_crop(p.crop))
        self._picture = ReusedImage(p.height, p.width)
        self._framed = self._refused = self._refused_before = 0
        self._frame_ms = Latencies()
        self._images = self.create_publisher(Image, p.framed_image_topic, CAMERA)
        self._infos = self.create_publisher(CameraInfo, p.framed_info_topic, CAMERA)
        # Depth 1: a picture that waited is worth less than the one behind it.
        self.create_subscription(Image, p.image_topic, self._on_image, LATENT)
        self.create_subscription(CameraInfo, p.info_topic, self._on_info, CAMERA)
        self._report = DiagnosticsReport(self, lambda: [self._describe()])

    def _on_image(self, msg: Image) -> None:
        started = time.perf_counter()
        try:
            np.copyto(self._picture.pixels, image_to_array(msg, self._framing))
        except (ImageError, FramingError) as error:
            self._refused += 1
            self.get_logger().error(f"refused a picture: {error}", throttle_duration_sec=1.0)
            return
        self._images.publish(self._picture.message(msg.header))
        self._framed += 1
        self._frame_ms.add((time.perf_counter() - started) * 1e3)

    def _on_info(self, msg: CameraInfo) -> None:
        p = self.parameters
        if not msg.width or not msg.height:
            return
        part = self._framing.part(msg.width, msg.height)
        framed = CameraInfo(header=msg.header, width=p.width, height=p.height, distortion_model=msg.distortion_model, d=msg.d, r=msg.r)
        framed.k = framed_intrinsics(np.array(msg.k, dtype=np.float64).reshape(3, 3), part, p.width, p.height).ravel()
        framed.p = framed_intrinsics(np.array(msg.p, dtype=np.float64).reshape(3, 4), part, p.width, p.height).ravel()
        self._infos.publish(framed)

    def _describe(self) -> DiagnosticStatus:
        failing = self._refused > self._refused_before
        self._refused_before = self._refused
        values = {"framed": self._framed, "refused": self._refused, "frame_ms_p50": self._frame_ms.p50, "frame_ms_p99": self._frame_ms.p99}
        return status(self.get_name(), "refuses pictures" if failing else "framing", values, ERROR if failing else OK)


def main() -> int:
    """Run the node; return the exit status of the process."""
    return run_node(FramingNode)


if __name__ == "__main__":
    sys.exit(main())
