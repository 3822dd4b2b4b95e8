import signal

import numpy as np
import pytest
import rclpy
from bundles import LATENT_DIM, write_bundle
from conftest import wait_until
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from ros_bridge.diagnostics import status_values
from ros_bridge.images import array_to_image, image_to_latent
from ros_bridge.qos import CAMERA, GOAL, LATENT, STATUS
from ros_bridge.stamps import header_at, stamp_ns


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("models") / "untrained")


class Camera:
    """A camera and a user in front of the node, and what comes out of it."""

    def __init__(self):
        self.node = rclpy.create_node("camera")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.frames = self.node.create_publisher(Image, "/camera/image_raw", CAMERA)
        self.goals = self.node.create_publisher(Image, "/goal/image", GOAL)
        self.latents, self.goal_latents, self.reports = [], [], []
        self.node.create_subscription(Image, "/perception/latent", self.latents.append, LATENT)
        self.node.create_subscription(Image, "/goal/latent", self.goal_latents.append, GOAL)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", lambda msg: self.reports.extend(msg.status), STATUS)

    def until(self, condition, what="condition"):
        wait_until(lambda: self.executor.spin_once(timeout_sec=0.02) or condition(), what=what)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()

    def show(self, publisher, brightness, ns, size=64):
        publisher.publish(array_to_image(np.full((size, size, 3), brightness, np.uint8), header_at(ns, "camera")))

    def values(self):
        return status_values(self.reports[-1]) if self.reports else {}


@pytest.fixture
def camera(ros_context):
    camera = Camera()
    yield camera
    camera.close()


def test_encodes_frames_and_goals_with_the_stamp_of_the_picture(start_node, camera, bundle):
    node = start_node("world_model.perception_node", "-p", f"model:={bundle}")
    camera.until(lambda: camera.frames.get_subscription_count() and camera.node.count_publishers("/perception/latent"), "perception")

    def frames_until(condition, what):
        def step():
            camera.show(camera.frames, 50, 1_000_000_000 + camera.node.get_clock().now().nanoseconds % 1_000_000_000)
            return condition()

        camera.until(step, what)

    frames_until(lambda: camera.latents, "a latent")
    assert image_to_latent(camera.latents[-1], LATENT_DIM) == pytest.approx(np.full(LATENT_DIM, 50.0))
    assert camera.latents[-1].header.frame_id == "camera" and camera.latents[-1].header.stamp.sec == 1

    camera.show(camera.goals, 200, 77)
    camera.until(lambda: camera.goal_latents, "a goal latent")
    assert image_to_latent(camera.goal_latents[-1], LATENT_DIM) == pytest.approx(np.full(LATENT_DIM, 200.0))
    assert stamp_ns(camera.goal_latents[-1].header.stamp) == 77

    # Pictures that the model cannot take: of another size, and one that is not what it says.
    camera.show(camera.goals, 10, 78, size=32)
    short = Image(height=64, width=64, step=192, encoding="rgb8", data=[0] * 10)

    def short_ones_until_refused():
        camera.frames.publish(short)  # best effort: one alone may be lost
        return int(camera.values().get("refused_pictures", "0")) >= 2

    camera.until(short_ones_until_refused, "two refusals")
    assert len(camera.goal_latents) == 1
    line = next(line for line in node.output.splitlines() if "goal picture" in line)
    assert "ERROR" in line and "32 x 32" in line and "64 x 64" in line
    assert camera.values()["goals"] == "1" and float(camera.values()["encode_ms_p50"]) > 0
    assert node.stop(signal.SIGINT) == 0, node.output


def test_frames_that_came_while_it_was_busy_are_dropped_and_counted(start_node, camera, bundle):
    start_node("world_model.perception_node", "-p", f"model:={bundle}")
    camera.until(lambda: camera.frames.get_subscription_count() and camera.node.count_publishers("/perception/latent"), "perception")
    sent = 0

    def burst():
        nonlocal sent
        for _ in range(20):
            sent += 1
            camera.show(camera.frames, 50, sent)
        return int(camera.values().get("dropped_frames", "0")) > 0

    camera.until(burst, "drops")
    values = camera.values()
    assert int(values["frames"]) + int(values["dropped_frames"]) <= sent


def test_a_missing_camera_is_said_in_one_line_and_on_diagnostics(start_node, camera, bundle):
    start_node("world_model.perception_node", "-p", f"model:={bundle}")
    camera.until(lambda: any("no picture on /camera/image_raw" in report.message for report in camera.reports), "the complaint")
    assert camera.reports[-1].level == DiagnosticStatus.ERROR

    def complaint_ends():
        camera.show(camera.frames, 50, camera.node.get_clock().now().nanoseconds)
        return camera.reports[-1].message == "encoding"

    camera.until(complaint_ends, "encoding once pictures come")


def test_a_damaged_bundle_is_one_line_and_status_2(start_node, tmp_path):
    folder = write_bundle(tmp_path / "untrained")
    with (folder / "heads.onnx").open("ab") as file:
        file.write(b"x")
    node = start_node("world_model.perception_node", "-p", f"model:={folder}")
    assert node.process.wait(20) == 2
    assert "SHA-256 of heads.onnx" in node.output and len(node.output.splitlines()) == 1


def test_no_bundle_is_one_line_and_status_2(start_node, tmp_path):
    node = start_node("world_model.perception_node", "-p", f"model:={tmp_path}")
    assert node.process.wait(20) == 2
    assert "not a model bundle" in node.output and len(node.output.splitlines()) == 1
