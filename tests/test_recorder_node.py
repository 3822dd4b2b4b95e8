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
from latent_mpc.bag import TYPES, pixels, read_messages, read_topics
from latent_mpc.bags.profiles import chosen
from latent_mpc.bags.qos import OfferedQos
from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.recording import Recording, Ring
from latent_mpc.bags.storage import Channel, RawMessage

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import ListParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from ros_bridge.diagnostics import status_values
from ros_bridge.images import array_to_image
from ros_bridge.qos import CAMERA, COMMAND, GOAL, STATUS
from ros_bridge.stamps import stamp_ns

MODULE = "latent_mpc.recorder_node"


class Onlooker(Node):
    """Hears what the recorder says of itself once a second: that a message was written is known by nothing else."""

    def __init__(self):
        super().__init__("recorder_test")
        self.said = []
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, STATUS)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def destroy_node(self):
        self._executor.shutdown()
        super().destroy_node()

    def _on_report(self, msg):
        self.said += [(stamp_ns(msg.header.stamp), entry) for entry in msg.status if entry.name == "recorder_node"]

    def until(self, condition, what):
        wait_until(lambda: self._executor.spin_once(timeout_sec=0.02) or condition(), what=what)

    def counts(self, name, since_ns=0):
        return [int(status_values(entry)[name]) for at_ns, entry in self.said if at_ns >= since_ns]

    def written(self, number):
        """Wait until so many are written: whoever is interrupted before writes fewer."""
        self.until(lambda: max(self.counts("written"), default=0) >= number, f"{number} messages written")

    def written_after(self, publish):
        """Publish until that is written, since a best-effort reader may find its writer late; then how many are, once all that was sent has come."""
        self.until(lambda: self.counts("written"), "a report")
        before = self.counts("written")[-1]
        self.until(lambda: publish() or self.counts("written")[-1] > before, "a message of a best-effort publisher written")
        now_ns = time.time_ns()
        self.until(lambda: len(counts := self.counts("written", now_ns)) > 1 and counts[-1] == counts[-2], "two reports alike")
        return self.counts("written")[-1]

    def answer(self, client, request):
        self.until(client.service_is_ready, f"service {client.srv_name}")
        future = client.call_async(request)
        self._executor.spin_until_future_complete(future, timeout_sec=4.0)
        return future.result()


@pytest.fixture
def node(ros_context):
    made = Onlooker()
    yield made
    made.destroy_node()


def recorder(start_node, output, *topics, queue_mb=64.0, **more):
    names = ", ".join(f"'{topic}'" for topic in topics)
    given = [part for name, value in more.items() for part in ("-p", f"{name}:={value}")]
    return start_node(MODULE, "-p", f"topics:=[{names}]", "-p", f"output:={output}", "-p", f"queue_mb:={queue_mb}", *given)


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
    node.written(1)
    already = node.written_after(lambda: camera.publish(array_to_image(picture[:4, :4], Header(frame_id="marker"))))
    sent = []
    for index in range(100):
        sent.append(time.time_ns())
        command.publish(JointState(name=["a"], position=[float(index)]))
        if index % 5 == 0:
            camera.publish(array_to_image(picture, Header()))
        time.sleep(0.01)
    node.written(already + 120)
    assert process.stop(number) == 0, process.output
    assert process.output == f"{tmp_path / 'bag'}: {already + 120} messages, 0 dropped\n"
    assert read_topics(tmp_path / "bag") == {
        "/goal/image": "sensor_msgs/msg/Image",
        "/camera/image_raw": "sensor_msgs/msg/Image",
        "/command": "sensor_msgs/msg/JointState",
    }
    entries = list(read_messages(tmp_path / "bag", ["/command"]))
    assert [entry.message.position[0] for entry in entries] == list(range(100))
    received = np.array([entry.time_ns for entry in entries])
    late = received - sent
    assert np.diff(received).min() >= 0 and late.min() >= 0
    assert np.median(late) < np.ptp(sent) / 10, "each when it came, however long the machine stood still now and then"
    (shown,) = read_messages(tmp_path / "bag", ["/goal/image"])
    assert shown.message.header.frame_id == "shown before anyone listened"
    assert np.array_equal(pixels(shown.message), picture)
    frames = [entry.message.header.frame_id for entry in read_messages(tmp_path / "bag", ["/camera/image_raw"])]
    assert frames == ["marker"] * (already - 1) + [""] * 20


def test_a_profile_follows_the_names_that_a_launch_file_gives(tmp_path, node, start_node):
    renamed = {"/joint_states": "/arm1/joint_states", "/camera/image_raw": "/framed/image_raw", "/planner/status": "/arm1/planner/status"}
    reliable = QoSProfile(depth=100)  # what a reader that finds it late is given nevertheless
    ours = [
        node.create_publisher(JointState, renamed["/joint_states"], reliable),
        node.create_publisher(Image, renamed["/camera/image_raw"], reliable),
    ]
    stranger = node.create_publisher(JointState, "/joint_states", reliable)
    remaps = [part for old, new in renamed.items() for part in ("-r", f"{old}:={new}")]
    process = start_node(MODULE, "-p", "profile:=evaluation", "-p", f"output:={tmp_path / 'bag'}", *remaps)
    for publisher in ours:
        heard_by_recorder(publisher)
    for _ in range(10):
        ours[0].publish(JointState(name=["ours"], position=[1.0]))
        ours[1].publish(array_to_image(np.zeros((8, 8, 3), np.uint8), Header()))
        stranger.publish(JointState(name=["theirs"], position=[2.0]))
    node.written(20)
    assert process.stop() == 0, process.output
    topics = read_topics(tmp_path / "bag")
    assert {"/arm1/joint_states", "/framed/image_raw"} <= topics.keys() and not {"/joint_states", "/camera/image_raw"} & topics.keys()
    assert {tuple(entry.message.name) for entry in read_messages(tmp_path / "bag", ["/arm1/joint_states"])} == {("ours",)}


def test_what_does_not_fit_the_queue_is_dropped_and_counted(tmp_path, node, start_node):
    camera = node.create_publisher(Image, "/camera/image_raw", STATUS)
    # 1 kB of queue and pictures of 12 kB: none can ever wait.
    process = recorder(start_node, tmp_path / "bag", "/camera/image_raw", queue_mb=0.001)
    heard_by_recorder(camera)
    for _ in range(5):
        camera.publish(array_to_image(np.zeros((64, 64, 3), np.uint8), Header()))
    node.until(lambda: 5 in node.counts("dropped"), "five drops on /diagnostics")
    (_, last) = node.said[-1]
    assert last.level == b"\x01" and last.message == "messages dropped"
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


def positions(bag):
    return [int(entry.message.position[0]) for entry in read_messages(bag, ["/joint_states"])]


def statement(message):
    return DiagnosticStatus(name="guardrail", message=message)


def test_a_ring_keeps_what_led_to_a_stop_and_what_followed(tmp_path, node, start_node):
    """A guardrail that stops, one that still stands, and a snapshot by service; in between nothing is written."""
    joints = node.create_publisher(JointState, "/joint_states", QoSProfile(depth=100))
    goal = node.create_publisher(Image, "/goal/image", GOAL)
    goal.publish(array_to_image(np.zeros((4, 4, 3), np.uint8), Header(frame_id="long ago")))
    guardrail = node.create_publisher(DiagnosticStatus, "/guardrail/status", STATUS)
    process = recorder(start_node, tmp_path / "bag", "/joint_states", "/goal/image", before_s=1.0, after_s=0.5)
    for publisher in (joints, goal, guardrail):
        heard_by_recorder(publisher)
    snapshot = node.create_client(Trigger, "/recorder_node/snapshot")
    # A server drops its answer to a client that it has not found yet; once it answers one that was made later it has found the first, too.
    harmless = node.create_client(ListParameters, "/recorder_node/list_parameters")
    node.until(lambda: node.answer(harmless, ListParameters.Request()), "an answer")
    sent = {}

    def move(seconds):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            sent[len(sent)] = time.time_ns()
            joints.publish(JointState(name=["a"], position=[float(len(sent) - 1)]))
            time.sleep(0.01)

    guardrail.publish(statement("TRACKING"))
    move(2.5)
    stopped_ns = time.time_ns()
    guardrail.publish(statement("STOPPED"))
    move(2.5)
    guardrail.publish(statement("STOPPED"))
    move(1.0)
    asked_ns = time.time_ns()
    assert node.answer(snapshot, Trigger.Request()).success
    answered_ns = time.time_ns()
    move(1.5)
    assert process.stop() == 0, process.output
    kept = positions(tmp_path / "bag")
    gaps = [index for index in range(1, len(kept)) if kept[index] != kept[index - 1] + 1]
    assert len(gaps) == 1, "two stretches, each without a hole"
    for first_ns, last_ns, stretch in ((stopped_ns, stopped_ns, kept[: gaps[0]]), (asked_ns, answered_ns, kept[gaps[0] :])):
        # By what was sent; 0.35 s between sending and receiving are the machine's.
        must = {index for index, at_ns in sent.items() if last_ns - 650_000_000 <= at_ns <= first_ns + 150_000_000}
        may = {index for index, at_ns in sent.items() if first_ns - 1_350_000_000 <= at_ns <= last_ns + 850_000_000}
        assert must and must <= set(stretch) <= may, [(sent[index] - first_ns) / 1e9 for index in (stretch[0], stretch[-1])]
    (first, second) = read_messages(tmp_path / "bag", ["/goal/image"])
    assert first.message.header.frame_id == second.message.header.frame_id == "long ago"
    assert len(list((tmp_path / "bag").glob("*.mcap"))) == 2
    assert "/guardrail/status" not in read_topics(tmp_path / "bag")


def test_every_stretch_of_a_ring_begins_with_the_goal_that_held_then(tmp_path):
    """A goal that came within a stretch, or while what followed a trigger was written, is latched for the next one, too."""
    goal = Channel("/goal", "std_msgs/msg/String", qos=(OfferedQos(durability="transient_local"),))
    joints = Channel("/joints", "std_msgs/msg/String")
    recording = Recording(tmp_path / "bag", 10**6, ring=Ring(before_s=1.0, after_s=1.0))
    for tenth in range(150):
        time_ns = 10**12 + tenth * 10**8
        if tenth in (38, 45):
            recording.put(RawMessage(goal, time_ns, b"goal %d" % tenth, time_ns))
        recording.put(RawMessage(joints, time_ns, b"joints", time_ns))
        if tenth in (40, 80, 120):
            recording.trigger(time_ns)
    recording.close()
    assert recording.failure is None and recording.triggers == 3
    stretches = []
    for number in range(3):
        with BagReader(tmp_path / "bag" / f"bag_{number}.mcap") as reader:
            stretches.append([message.data for message in reader.raw()])
    assert [[data for data in stretch if data != b"joints"] for stretch in stretches] == [[b"goal 38", b"goal 45"], [b"goal 45"], [b"goal 45"]]
    assert all(stretch[0] == b"goal 45" for stretch in stretches[1:])


def test_whatever_ends_the_writing_is_said(tmp_path):
    """Not only a full disk: a recorder whose writing ended must not look whole."""
    recording = Recording(tmp_path / "bag", 10**6)
    recording.put(RawMessage(Channel("/joints", "std_msgs/msg/String"), 1 << 70, b"no such time", 0))
    recording.close()
    assert recording.failure is not None and "it is incomplete" in recording.failure and "\n" not in recording.failure
    assert recording.written == 0 and not (tmp_path / "bag" / "metadata.yaml").exists()


def test_what_publishers_offer_is_kept_and_a_weaker_one_that_comes_later_is_heard(tmp_path, node, start_node):
    strong = node.create_publisher(JointState, "/joint_states", QoSProfile(depth=100))
    process = recorder(start_node, tmp_path / "bag", "/joint_states", compression="zstd", split_s=0.4)
    heard_by_recorder(strong)
    strong.publish(JointState(name=["a"], position=[0.0]))
    node.written(1)  # what a reader has not taken is gone with it
    weak = node.create_publisher(JointState, "/joint_states", CAMERA)
    heard_by_recorder(weak)
    already = node.written_after(lambda: weak.publish(JointState(name=["a"], position=[-1.0])))
    for number in range(1, 61):
        weak.publish(JointState(name=["a"], position=[float(number)]))
        time.sleep(0.02)
    node.written(already + 60)
    assert process.stop() == 0, process.output
    assert positions(tmp_path / "bag") == [0] + [-1] * (already - 1) + list(range(1, 61))
    assert len(list((tmp_path / "bag").glob("*.mcap"))) >= 3
    with BagReader(tmp_path / "bag") as reader:
        (channel,) = reader.channels
    assert channel.qos[0].reliability == "reliable" and channel.qos[0].durability == "volatile"
    assert channel.digest == TYPES.hash_rihs01("sensor_msgs/msg/JointState")


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("everything", {"/camera/image_raw", "/planner/plan", "/own/topic", "/wrist/joint_states", "/perception/latent"}),
        ("training", {"/camera/image_raw", "/wrist/joint_states"}),
        ("evaluation", {"/camera/image_raw", "/planner/plan", "/perception/latent"}),
    ],
)
def test_profiles(profile, expected):
    published = {
        "/camera/image_raw": "sensor_msgs/msg/Image",
        "/perception/latent": "sensor_msgs/msg/Image",
        "/planner/plan": "trajectory_msgs/msg/JointTrajectory",
        "/own/topic": "std_msgs/msg/String",
        "/wrist/joint_states": "sensor_msgs/msg/JointState",
        "/rosout": "rcl_interfaces/msg/Log",
        "/arm/_hidden/image": "sensor_msgs/msg/Image",
    }
    chosen_profile = chosen(profile, ("",))
    assert {topic for topic, msgtype in published.items() if chosen_profile.wants(topic, msgtype)} == expected


def test_the_command_records_until_it_is_interrupted(tmp_path, node, start_node):
    joints = node.create_publisher(JointState, "/joint_states", QoSProfile(depth=100))
    command = [sys.executable, "-m", "latent_mpc.cli", "bag", "record", "--profile", "training", "--out", str(tmp_path / "a 'bag'")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        heard_by_recorder(joints)
        for number in range(20):
            joints.publish(JointState(name=["a"], position=[float(number)]))
        node.written(20)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == str(tmp_path / "a 'bag'") + ": 20 messages, 0 dropped\n"
    finally:
        process.kill()
    assert process.returncode == 0 and positions(tmp_path / "a 'bag'") == list(range(20))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--profile", "some"], "parameter 'profile' is 'some', must be one of: everything, training, evaluation"),
        (["--compression", "zip"], "parameter 'compression' is 'zip', must be one of: none, zstd, lz4"),
        (["--topic", "joint_states"], "topic 'joint_states' does not begin with '/'"),
        (["--queue-mb", "-1"], "parameter 'queue_mb'"),
    ],
)
def test_bad_options_of_the_command_are_one_line(tmp_path, arguments, reason):
    command = [sys.executable, "-m", "latent_mpc.cli", "bag", "record", "--out", str(tmp_path / "bag"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and reason in ended.stderr and ended.stderr.count("\n") == 1
    assert not (tmp_path / "bag").exists()
