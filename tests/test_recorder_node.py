"""The recorder as a process, over real DDS."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import wait_until
from latent_mpc.bag import pixels, read_messages, read_topics

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from ros_bridge.diagnostics import status_values
from ros_bridge.images import array_to_image
from ros_bridge.qos import CAMERA, COMMAND, GOAL, STATUS

MODULE = "latent_mpc.recorder_node"


@pytest.fixture
def node(ros_context):
    made = Node("recorder_test")
    yield made
    made.destroy_node()


def recorder(start_node, output, *topics, queue_mb=64.0):
    names = ", ".join(f"'{topic}'" for topic in topics)
    return start_node(MODULE, "-p", f"topics:=[{names}]", "-p", f"output:={output}", "-p", f"queue_mb:={queue_mb}")


def heard_by_recorder(publisher):
    wait_until(lambda: publisher.get_subscription_count() > 0, what="recorder subscribed")
    time.sleep(0.2)  # the writer's half of the match may lag behind the reader's


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_message_is_in_the_bag_whatever_its_quality_of_service(tmp_path, node, start_node, number):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    goal = node.create_publisher(Image, "/goal/image", GOAL)
    goal.publish(array_to_image(picture, Header(frame_id="shown before anyone listened")))
    camera = node.create_publisher(Image, "/camera/image_raw", CAMERA)
    command = node.create_publisher(JointState, "/command", QoSProfile(depth=100, reliability=COMMAND.reliability))
    process = recorder(start_node, tmp_path / "bag", "/goal/image", "/camera/image_raw", "/command", "/nobody/publishes/this")
    for publisher in (goal, camera, command):
        heard_by_recorder(publisher)
    for index in range(100):
        command.publish(JointState(name=["a"], position=[float(index)]))
        if index % 5 == 0:
            camera.publish(array_to_image(picture, Header()))
        time.sleep(0.01)
    time.sleep(0.3)
    assert process.stop(number) == 0, process.output
    assert process.output == f"{tmp_path / 'bag'}: 121 messages, 0 dropped\n"
    assert read_topics(tmp_path / "bag") == {
        "/goal/image": "sensor_msgs/msg/Image",
        "/camera/image_raw": "sensor_msgs/msg/Image",
        "/command": "sensor_msgs/msg/JointState",
    }
    entries = list(read_messages(tmp_path / "bag", ["/command"]))
    assert [entry.message.position[0] for entry in entries] == list(range(100))
    spacing = np.diff([entry.time_ns for entry in entries])
    assert spacing.min() >= 0 and 0.8 < spacing.sum() / 1e9 < 10.0
    (shown,) = read_messages(tmp_path / "bag", ["/goal/image"])
    assert shown.message.header.frame_id == "shown before anyone listened"
    assert np.array_equal(pixels(shown.message), picture)
    assert sum(1 for _ in read_messages(tmp_path / "bag", ["/camera/image_raw"])) == 20


def test_what_does_not_fit_the_queue_is_dropped_and_counted(tmp_path, node, start_node):
    heard = []
    node.create_subscription(DiagnosticArray, "/diagnostics", lambda msg: heard.extend(msg.status), STATUS)
    camera = node.create_publisher(Image, "/camera/image_raw", STATUS)
    # 1 kB of queue and pictures of 12 kB: none can ever wait.
    process = recorder(start_node, tmp_path / "bag", "/camera/image_raw", queue_mb=0.001)
    heard_by_recorder(camera)
    for _ in range(5):
        camera.publish(array_to_image(np.zeros((64, 64, 3), np.uint8), Header()))
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def counted():
        executor.spin_once(timeout_sec=0.1)
        return any(entry.name == "recorder_node" and status_values(entry)["dropped"] == "5" for entry in heard)

    wait_until(counted, what="five drops on /diagnostics")
    executor.shutdown()
    assert heard[-1].level == b"\x01" and heard[-1].message == "messages dropped"
    assert process.stop() == 0


def run_to_end(*arguments, **options):
    return subprocess.run([sys.executable, "-m", MODULE, "--ros-args", *arguments], capture_output=True, text=True, timeout=60, **options)


def test_an_existing_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "bag").mkdir()
    ended = run_to_end("-p", f"output:={tmp_path / 'bag'}")
    assert ended.returncode == 2
    assert ended.stderr == f"cannot write bag {tmp_path / 'bag'}: {tmp_path / 'bag'} exists already, not overwriting.\n"


@pytest.mark.parametrize(
    ("arguments", "reason"), [((), "parameter 'output' is not set"), (("-p", "output:=/proc/no/bag"), "cannot write bag /proc/no/bag")]
)
def test_a_bad_output_is_one_line(arguments, reason):
    ended = run_to_end(*arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith(reason) and ended.stderr.count("\n") == 1


def test_a_full_disk_ends_the_recorder_and_is_said(tmp_path, node):
    """A limit on the size of files stands for the disk: writing beyond it fails with an OSError."""
    camera = node.create_publisher(Image, "/camera/image_raw", STATUS)
    picture = array_to_image(np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8), Header())
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, "--ros-args", "-p", "topics:=['/camera/image_raw']", "-p", f"output:={tmp_path / 'bag'}"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)),
    )
    try:
        heard_by_recorder(camera)

        def ended():
            camera.publish(picture)
            time.sleep(0.02)
            return process.poll() is not None

        wait_until(ended, what="recorder ended")
    finally:
        process.kill()
    lines = process.communicate()[1].splitlines()
    assert process.returncode == 2
    assert not (tmp_path / "bag" / "metadata.yaml").exists(), "an incomplete bag must not look complete"
    assert lines == [f"cannot write bag {tmp_path / 'bag'}: File too large; it is incomplete"]
