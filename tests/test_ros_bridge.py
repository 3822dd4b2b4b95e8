"""Messages become arrays only if they are what they say they are."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from array import array

import numpy as np
import pytest
from conftest import REPOSITORY, NodeProcess, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Duration
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ros_bridge.diagnostics import ERROR, Latencies, status, status_values
from ros_bridge.images import ImageError, ReusedImage, array_to_image, image_to_array, image_to_latent, latent_to_image
from ros_bridge.joints import JointError, Trajectory, joint_state_message, read_joint_state, read_trajectory, trajectory_message
from ros_bridge.stamps import header_at, stamp_ns, stamp_of

NAMES = ("a", "b", "c")
HEADER = header_at(1_700_000_000_123_456_789, "camera")


def over_the_wire(msg):
    return deserialize_message(serialize_message(msg), type(msg))


def test_pixels_survive_the_wire():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    msg = over_the_wire(array_to_image(pixels, HEADER))
    assert (msg.encoding, msg.width, msg.height, msg.step) == ("rgb8", 64, 48, 192)
    assert stamp_ns(msg.header.stamp) == 1_700_000_000_123_456_789
    assert np.array_equal(image_to_array(msg), pixels)


def test_one_message_that_is_filled_anew_carries_each_picture():
    picture = ReusedImage(48, 64)
    for seed in (1, 2):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        picture.pixels[...] = pixels
        sent = picture.message(header_at(seed, "camera"))
        assert over_the_wire(sent) == over_the_wire(array_to_image(pixels, header_at(seed, "camera")))
        assert sent is picture.message(HEADER)


def test_padded_rows_are_read_without_their_padding():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    padded = np.zeros((2, 16), dtype=np.uint8)
    padded[:, :9] = pixels.reshape(2, 9)
    msg = Image(height=2, width=3, encoding="rgb8", step=16, data=array("B", padded.tobytes()))
    assert np.array_equal(image_to_array(msg), pixels)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoding": "16UC1"}, "encoding is '16UC1', a depth image"),
        ({"encoding": "rgb16"}, "encoding is 'rgb16'"),
        ({"step": 191}, "step is 191"),
        ({"step": 200}, "holds 9216 bytes"),
        ({"height": 47}, "holds 9216 bytes"),
        ({"width": 65}, "step is 192"),
        ({"width": 0, "step": 0}, "empty"),
        ({"height": 0}, "empty"),
        ({"is_bigendian": 1}, "big-endian"),
        ({"data": array("B", bytes(9210))}, "holds 9210 bytes"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "step is 192"),
    ],
)
def test_an_image_that_lies_about_itself_is_refused_in_one_line(change, reason):
    msg = array_to_image(np.zeros((48, 64, 3), dtype=np.uint8), HEADER)
    for field, value in change.items():
        setattr(msg, field, value)
    with pytest.raises(ImageError, match=reason) as caught:
        image_to_array(msg)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_pixels_of_another_shape_or_type_are_not_sent(pixels):
    with pytest.raises(ImageError, match="expected uint8"):
        array_to_image(pixels, HEADER)


def test_a_latent_survives_the_wire():
    latent = np.random.default_rng(0).normal(size=32).astype(np.float32)
    msg = over_the_wire(latent_to_image(latent, HEADER))
    assert (msg.encoding, msg.width, msg.height) == ("32FC32", 1, 1)
    assert np.array_equal(image_to_latent(msg, size=32), latent)
    with pytest.raises(ImageError, match="expected 16"):
        image_to_latent(msg, size=16)


@pytest.mark.parametrize("encoding", ["32FC", "32FC0", "32FC-4", "32FC4x", "16FC4", "32FC²", "rgb8", ""])
def test_a_latent_with_another_encoding_is_refused(encoding):
    msg = latent_to_image(np.ones(4, dtype=np.float32), HEADER)
    msg.encoding = encoding
    with pytest.raises(ImageError, match="encoding"):
        image_to_latent(msg)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_latent_that_is_not_finite_is_neither_sent_nor_read(bad):
    latent = np.array([0.0, bad], dtype=np.float32)
    with pytest.raises(ImageError, match="finite"):
        latent_to_image(latent, HEADER)
    msg = latent_to_image(np.zeros(2, dtype=np.float32), HEADER)
    msg.data = array("B", latent.tobytes())
    with pytest.raises(ImageError, match="finite"):
        image_to_latent(msg)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=8) | st.just("rgb8") | st.integers(0, 99).map(lambda n: f"32FC{n}"),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 20),
    st.integers(0, 2),
    st.binary(max_size=60),
)
def test_no_image_message_raises_anything_else(encoding, width, height, step, endian, data):
    msg = Image(encoding=encoding, width=width, height=height, step=step, is_bigendian=endian, data=array("B", data))
    for read in (image_to_array, image_to_latent):
        try:
            read(msg)
        except ImageError as error:
            assert "\n" not in str(error) or "\n" in encoding


def joint_state(names, position, velocity=()):
    return JointState(header=HEADER, name=list(names), position=list(position), velocity=list(velocity))


def test_joints_come_in_the_order_that_was_asked_for():
    reading = read_joint_state(joint_state(["c", "gripper", "a", "b"], [3.0, 9.0, 1.0, 2.0], [30.0, 90.0, 10.0, 20.0]), NAMES)
    assert reading.position.tolist() == [1.0, 2.0, 3.0]
    assert reading.velocity.tolist() == [10.0, 20.0, 30.0]
    assert read_joint_state(joint_state(NAMES, [1.0, 2.0, 3.0]), NAMES).velocity is None


def test_a_joint_that_nobody_asked_for_may_be_not_finite():
    assert read_joint_state(joint_state(["a", "b", "c", "d"], [1.0, 2.0, 3.0, float("nan")]), NAMES).position.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("names", "position", "velocity", "reason"),
    [
        (["a", "b"], [1.0, 2.0], [], "missing: c"),
        (["a", "b", "c", "a"], [1.0, 2.0, 3.0, 4.0], [], "given twice: a"),
        (NAMES, [1.0, 2.0], [], "2 values for 3 joints"),
        (NAMES, [1.0, 2.0, 3.0], [1.0], "1 values for 3 joints"),
        (NAMES, [1.0, float("nan"), 3.0], [], "position holds a value that is not finite"),
        (NAMES, [1.0, 2.0, 3.0], [0.0, float("inf"), 0.0], "velocity holds a value that is not finite"),
        ([], [], [], "missing: a, b, c"),
    ],
)
def test_a_joint_state_that_cannot_be_used_is_refused(names, position, velocity, reason):
    with pytest.raises(JointError, match=reason):
        read_joint_state(joint_state(names, position, velocity), NAMES)


def test_a_joint_state_survives_the_wire():
    position, velocity = np.array([0.1, -0.2, 0.3]), np.array([1.0, 2.0, 3.0])
    reading = read_joint_state(over_the_wire(joint_state_message(NAMES, position, velocity, HEADER)), NAMES)
    assert np.array_equal(reading.position, position) and np.array_equal(reading.velocity, velocity)
    assert reading.stamp_ns == 1_700_000_000_123_456_789


def trajectory(points=4):
    rng = np.random.default_rng(0)
    return Trajectory(123_456_789_000, 0.01 * np.arange(1, points + 1), *(rng.normal(size=(points, 3)) for _ in range(3)))


def test_a_trajectory_survives_the_wire_in_any_order():
    sent = trajectory()
    msg = over_the_wire(trajectory_message(sent, NAMES))
    reordered = read_trajectory(msg, ("c", "a", "b"))
    assert reordered.stamp_ns == sent.stamp_ns
    assert reordered.times == pytest.approx(sent.times, abs=1e-9)
    for block in ("positions", "velocities", "accelerations"):
        assert np.array_equal(getattr(reordered, block), getattr(sent, block)[:, [2, 0, 1]])


def point(seconds, positions, velocities=(0.0, 0.0, 0.0)):
    nanoseconds = round(seconds * 1e9)
    at = Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    return JointTrajectoryPoint(time_from_start=at, positions=list(positions), velocities=list(velocities))


@pytest.mark.parametrize(
    ("names", "points", "reason"),
    [
        (NAMES, [], "no points"),
        (["a", "b", "x"], [point(0, [1.0, 2.0, 3.0])], "missing: c"),
        (["a", "b", "c", "d"], [point(0, [1.0, 2.0, 3.0, 4.0], [0.0] * 4)], "unknown joints: d"),
        (["a", "b", "b"], [point(0, [1.0, 2.0, 3.0])], "given twice: b"),
        (NAMES, [point(0, [1.0, 2.0])], "positions holds 2 values"),
        (NAMES, [point(0, [1.0, 2.0, 3.0], [])], "velocities holds 0 values"),
        (NAMES, [point(0, [1.0, 2.0, float("nan")])], "positions holds a value that is not finite"),
        (NAMES, [point(0, [1.0, 2.0, 3.0], [0.0, float("-inf"), 0.0])], "velocities holds a value that is not finite"),
        (NAMES, [point(0.1, [0.0] * 3), point(0.1, [0.0] * 3)], "do not increase"),
        (NAMES, [point(0.2, [0.0] * 3), point(0.1, [0.0] * 3)], "do not increase"),
        (NAMES, [point(-0.1, [0.0] * 3)], "negative"),
    ],
)
def test_a_trajectory_that_cannot_be_used_is_refused(names, points, reason):
    with pytest.raises(JointError, match=reason):
        read_trajectory(JointTrajectory(header=HEADER, joint_names=list(names), points=points), NAMES)


def test_a_trajectory_that_is_not_finite_is_never_sent():
    bad = trajectory()
    bad.velocities[2, 1] = np.nan
    with pytest.raises(JointError, match="finite"):
        trajectory_message(bad, NAMES)
    with pytest.raises(JointError, match="shapes"):
        trajectory_message(trajectory(), NAMES[:2])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 200))
def test_a_damaged_payload_is_refused_or_read_as_finite_numbers(seed, damage):
    rng = np.random.default_rng(seed)
    payload = bytearray(serialize_message(trajectory_message(trajectory(), NAMES)))
    for _ in range(damage % 8):
        payload[int(rng.integers(4, len(payload)))] = int(rng.integers(256))
    try:
        msg = deserialize_message(bytes(payload[: len(payload) - damage]), JointTrajectory)
    except Exception:
        return  # refused by the middleware
    try:
        read = read_trajectory(msg, NAMES)
    except JointError:
        return
    assert all(np.isfinite(block).all() for block in (read.times, read.positions, read.velocities))


def test_stamps_are_exact():
    for ns in (0, 1, 999_999_999, 1_000_000_000, 1_763_000_000_123_456_789):
        assert stamp_ns(stamp_of(ns)) == ns
    assert Header(stamp=stamp_of(5)) == header_at(5)


def test_latencies_forget_the_oldest_and_are_never_nan():
    latencies = Latencies(capacity=100)
    assert (latencies.p50, latencies.p99, latencies.count) == (0.0, 0.0, 0)
    for value in range(1, 201):
        latencies.add(float(value))
    assert latencies.count == 200
    assert latencies.p50 == pytest.approx(150.5) and latencies.p99 > 198.0


def test_a_status_carries_its_values_as_text():
    msg = over_the_wire(status("guard", "TRACKING", {"n": 3, "x": 0.123456789, "ok": True, "why": "late"}, ERROR))
    assert (msg.level, msg.name, msg.message) == (ERROR, "guard", "TRACKING")
    assert status_values(msg) == {"n": "3", "x": "0.123457", "ok": "true", "why": "late"}


NODE = """
    import sys
    from dataclasses import dataclass
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from ros_bridge.parameters import declare, parameter
    from ros_bridge.process import run_node

    @dataclass(frozen=True)
    class Parameters:
        speed: float = parameter(1.0, "m/s", at_least=0.0, at_most=2.0)
        gains: tuple[float, ...] = parameter((1.0, 2.0), "gains", at_least=0.0)
        mode: str = parameter("slow", "mode", choices=("slow", "fast"))

        def __post_init__(self) -> None:
            if self.mode == "slow" and self.speed > 1.5:
                raise ValueError("too fast for slow mode")

    class Example(Node):
        def __init__(self) -> None:
            super().__init__("example")
            print(declare(self, Parameters, self.change), flush=True)
            tries = [("speed", 0.5), ("speed", 3.0), ("gains", [-1.0]), ("mode", "odd"), ("speed", 1.6), ("speed", float("nan"))]
            print([self.set_parameters([Parameter(name, value=value)])[0].successful for name, value in tries], flush=True)
            self.set_parameters_atomically([Parameter("speed", value=0.5), Parameter("gains", value=[3.0])])
            print(*self.now, flush=True)

        def change(self, parameters: Parameters, names: frozenset[str]) -> None:
            self.now = parameters, sorted(names)

    sys.exit(run_node(Example))
"""


def run_example(*arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NODE), *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-p", "speed:=5.0"], "speed"),
        (["-p", "speed:=1"], "DOUBLE"),
        (["-p", "speed:=.nan"], "speed"),
        (["-p", "gains:=[1.0, -1.0]"], "'gains' is -1.0, must be at least 0"),
        (["-p", "mode:=odd"], "must be one of: slow, fast"),
        (["-p", "speed:=1.6"], "too fast for slow mode"),
    ],
)
def test_a_bad_parameter_ends_the_process_with_one_line(arguments, reason):
    done = run_example("--ros-args", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_missing_parameter_file_ends_the_process_without_a_traceback():
    done = run_example("--ros-args", "--params-file", "missing.yaml")
    assert done.returncode == 2 and "missing.yaml" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_cleanly(number, tmp_path):
    node = NodeProcess(("-c", textwrap.dedent(NODE)), tmp_path / "log")
    try:
        wait_until(lambda: node.output.count("Parameters(") == 2, what="the example node's start", timeout_s=60.0)
        assert "[True, False, False, False, False, False]" in node.output
        assert "Parameters(speed=0.5, gains=(3.0,), mode='slow') ['gains', 'speed']" in node.output, "what is set to what it was is named, too"
    finally:
        exit_status = node.stop(number, timeout_s=60.0)
    assert exit_status == 0 and "Traceback" not in node.output


SLOW_START = """
    import os, signal, sys, time
    import rclpy
    from rclpy.lifecycle import LifecycleNode
    from ros_bridge.process import autostart, run_node

    def start() -> LifecycleNode:
        node = LifecycleNode("slow_starter")
        os.kill(os.getpid(), signal.SIGINT)
        while rclpy.ok():
            time.sleep(0.01)
        autostart(node)
        return node

    sys.exit(run_node(start))
"""


def test_a_signal_in_the_middle_of_the_start_is_no_bad_input():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SLOW_START)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr


ASLEEP = """
    import sys, threading
    import rclpy
    from rclpy.node import Node
    from ros_bridge.process import run_node

    def start() -> Node:
        # What rclpy's signal handler does after it woke the executor; here without having woken it.
        threading.Timer(1.0, lambda: rclpy.get_default_context().handle.shutdown()).start()
        return Node("sleeper")

    sys.exit(run_node(start))
"""


def test_an_executor_that_was_woken_too_early_by_a_signal_still_ends():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(ASLEEP)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr
