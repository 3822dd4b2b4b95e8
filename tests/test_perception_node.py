import signal
import time

import numpy as np
import pytest
import rclpy
from bundles import LATENT_DIM, write_bundle
from conftest import wait_until
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState

from ros_bridge.diagnostics import status_values
from ros_bridge.images import array_to_image, image_to_latent
from ros_bridge.joints import joint_state_message
from ros_bridge.qos import CAMERA, GOAL, JOINT_STATES, LATENT, STATUS
from ros_bridge.stamps import header_at, stamp_ns
from world_model.bundle import read_manifest
from world_model.framing import Crop, frame
from world_model.runtime import OnnxModel
from world_model.runtimes.sessions import this_machine


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
        wait_until(lambda: self.executor.spin_once(timeout_sec=0.02) or condition(), timeout_s=60.0, what=what)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()

    def show(self, publisher, brightness, ns, size=64):
        publisher.publish(array_to_image(np.full((size, size, 3), brightness, np.uint8), header_at(ns, "camera")))

    def values(self):
        """What the node said last of itself; what runs its networks is another report."""
        return next((status_values(report) for report in reversed(self.reports) if report.name == "perception_node"), {})


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
        return int(camera.values().get("refused_pictures", "0")) >= 2 and "goal picture" in node.output

    camera.until(short_ones_until_refused, "two refusals")
    assert len(camera.goal_latents) == 1
    line = next(line for line in node.output.splitlines() if "goal picture" in line)
    assert "ERROR" in line and "32 x 32" in line and "64 x 64" in line
    assert camera.values()["goals"] == "1" and float(camera.values()["encode_ms_p50"]) > 0

    camera.until(lambda: any(report.name == "perception_node: runtime" for report in camera.reports), "a report on the runtime")
    runs = status_values(next(report for report in reversed(camera.reports) if report.name == "perception_node: runtime"))
    device = this_machine()
    for runtime in ("tensorrt", "cuda"):
        assert runs["runtime_encoder"].startswith(runtime) or runs[f"runtime_not_{runtime}"], "what it is not, and why"
        assert device.why_not(runtime) in runs.get(f"runtime_not_{runtime}", "") and device.why_not(runtime) in node.output
    assert "first run" in runs["runtime_encoder"] and runs["runtime_asked"] == "auto" and "runtime 'auto' on" in node.output
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


def test_a_model_with_proprioception_hears_where_the_joints_were_when_the_frame_was_taken(start_node, camera, tmp_path_factory):
    """In the bundle's order, whatever the driver's; of a goal picture, and where no driver said, they are unknown."""
    bundle = write_bundle(tmp_path_factory.mktemp("models") / "with-joints", proprioception=True)
    names = list(read_manifest(bundle).joints)
    start_node("world_model.perception_node", "-p", f"model:={bundle}")
    states = camera.node.create_publisher(JointState, "/joint_states", JOINT_STATES)
    camera.until(lambda: states.get_subscription_count() and camera.frames.get_subscription_count(), "perception")
    shuffled = ["gripper", *reversed(names)]
    ms, now = 1_000_000, 10_000_000_000

    def told(at_ms, first):
        """All joints stand at ``first``, ``first + 0.1``, ... rad, in the bundle's order."""
        position = np.array([99.0, *reversed([first + 0.1 * k for k in range(7)])])
        states.publish(joint_state_message(shuffled, position, None, header_at(now + at_ms * ms)))

    def latent_of(frame_ms, *joint_states):
        def again():
            for at_ms, first in joint_states:
                told(at_ms, first)
                time.sleep(0.002)  # best effort, and each of them may be lost: that is why this is repeated
            camera.show(camera.frames, 50, now + frame_ms * ms)
            return camera.latents and stamp_ns(camera.latents[-1].header.stamp) == now + frame_ms * ms and wanted(camera.latents[-1])

        return again

    def joints_of(latent):
        values = image_to_latent(latent, LATENT_DIM)
        assert values[0] == pytest.approx(50.0)
        return values[1:]

    def wanted(latent):
        return joints_of(latent) == pytest.approx(expected)

    expected = np.full(7, -9.0)
    camera.until(latent_of(0), "joints that nobody said")
    expected = 1.0 + 0.1 * np.arange(7)
    camera.until(latent_of(100, (80, 1.0), (105, 2.0)), "those before the frame, not those after it")
    expected = 2.0 + 0.1 * np.arange(7)
    camera.until(latent_of(110, (80, 1.0), (105, 2.0)), "those that were after the last frame")
    expected = np.full(7, -9.0)
    camera.until(latent_of(400), "joints that are too old")
    camera.show(camera.goals, 200, now + 400 * ms)
    camera.until(lambda: camera.goal_latents, "a goal latent")
    assert image_to_latent(camera.goal_latents[-1], LATENT_DIM) == pytest.approx([200.0, *[-9.0] * 7])

    def complains():
        camera.show(camera.frames, 50, now + 500 * ms)
        return any("no joint states at the time of" in report.message for report in camera.reports)

    camera.until(complains, "a warning")
    assert int(camera.values()["frames_without_joints"]) > 0


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
    assert node.process.wait(60) == 2
    assert "SHA-256 of heads.onnx" in node.output and len(node.output.splitlines()) == 1


@pytest.mark.skipif(not this_machine().why_not("tensorrt"), reason="TensorRT is here, so nobody is refused it")
def test_a_runtime_that_cannot_be_had_is_one_line_and_status_2(start_node, bundle):
    node = start_node("world_model.perception_node", "-p", f"model:={bundle}", "-p", "runtime:=tensorrt")
    assert node.process.wait(60) == 2
    assert "runtime 'tensorrt' cannot be had for encoder" in node.output and len(node.output.splitlines()) == 1


def test_no_bundle_is_one_line_and_status_2(start_node, tmp_path):
    node = start_node("world_model.perception_node", "-p", f"model:={tmp_path}")
    assert node.process.wait(60) == 2
    assert "not a model bundle" in node.output and len(node.output.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["bgr8", "mono8"])
def test_pictures_of_other_colour_encodings_are_encoded(start_node, camera, bundle, encoding):
    """usb_cam sends bgr8 or yuyv, RealSense rgb8; tests/test_bag_images.py checks the colours of each."""
    start_node("world_model.perception_node", "-p", f"model:={bundle}")
    channels = 1 if encoding == "mono8" else 3
    msg = Image(height=64, width=64, step=64 * channels, encoding=encoding, data=bytes([50]) * (64 * 64 * channels))

    def latent():
        camera.frames.publish(msg)
        return camera.latents

    camera.until(latent, "a latent")
    assert image_to_latent(camera.latents[-1], LATENT_DIM) == pytest.approx(np.full(LATENT_DIM, 50.0))


def test_with_framing_pictures_of_a_camera_are_what_they_are_through_the_framing_node(start_node, camera, bundle):
    """Frames and goals of 96 x 72 in blue-green-red; a goal of the model's own size is taken as it is."""
    pixels = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    crop = Crop(10, 4, 64, 64)
    start_node("world_model.perception_node", "-p", f"model:={bundle}", "-p", "framing:=true", "-p", "crop:='[10, 4, 64, 64]'")
    camera.until(lambda: camera.frames.get_subscription_count() and camera.node.count_publishers("/perception/latent"), "perception")

    def sent(publisher, stamp):
        msg = array_to_image(np.ascontiguousarray(pixels[..., ::-1]), header_at(stamp, "camera"))
        msg.encoding = "bgr8"
        publisher.publish(msg)

    camera.until(lambda: sent(camera.frames, 5) or camera.latents, "a latent")
    sent(camera.goals, 6)
    camera.until(lambda: camera.goal_latents, "a goal latent")
    expected = OnnxModel(bundle).encode(frame(pixels, crop, 64, 64)[None])[0]
    for msg in (camera.latents[-1], camera.goal_latents[-1]):
        assert image_to_latent(msg, LATENT_DIM) == pytest.approx(expected, abs=1e-5)
    camera.show(camera.goals, 200, 77)
    camera.until(lambda: stamp_ns(camera.goal_latents[-1].header.stamp) == 77, "a goal of the model's size")
    assert image_to_latent(camera.goal_latents[-1], LATENT_DIM) == pytest.approx(np.full(LATENT_DIM, 200.0))


def test_a_crop_without_framing_would_do_nothing_and_is_refused(start_node, bundle):
    node = start_node("world_model.perception_node", "-p", f"model:={bundle}", "-p", "crop:='[10, 4, 64, 64]'")
    assert node.process.wait(60) == 2
    assert "framing is false" in node.output and "Traceback" not in node.output
