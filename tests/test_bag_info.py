"""What `bag info` says about bags whose making is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bag_writing import floats, image, joint_state, trajectory
from latent_mpc.bag import NS_PER_S, TYPES, BagError
from latent_mpc.bag_data.topics import AskedTopics, choose_topics
from latent_mpc.bags.info import summarize, summary_text
from latent_mpc.bags.qos import OfferedQos
from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.roles import CAMERA, COMPRESSED, IMAGE, MEASURED, likely
from latent_mpc.bags.storage import Channel
from latent_mpc.bags.writer import FolderWriter, Format
from latent_mpc.cli import run
from rosbags.rosbag2 import StoragePlugin, Writer
from test_bag_reading import humble

START = 1_700_000_000 * NS_PER_S
JOINTS = "sensor_msgs/msg/JointState"
TRAJECTORY, NUMBERS = "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray"
QOS = (OfferedQos("keep_last", 5, "best_effort", "volatile"),)
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def record(folder, topics, compression="none", split_s=0.0):
    """``topics``: name to type and (time, message) pairs."""
    entries = sorted(((time_ns, topic, msgtype, m) for topic, (msgtype, pairs) in topics.items() for time_ns, m in pairs), key=lambda e: e[0])
    writer = FolderWriter(folder, Format(compression, split_ns=round(split_s * 1e9)))
    for time_ns, topic, msgtype, m in entries:
        definition, _ = TYPES.generate_msgdef(msgtype, ros_version=2)
        channel = Channel(topic, msgtype, definition, "ros2msg", TYPES.hash_rihs01(msgtype), QOS)
        writer.write(channel, time_ns, bytes(TYPES.serialize_cdr(m, msgtype)))
    writer.close()
    return folder


def run_of(seconds=3.0):
    """Camera 20 Hz with a gap of 0.5 s after 1 s, joint states 100 Hz whose stamps jump back once, commands 10 Hz."""
    times = [START + round(t * 1e9) for t in np.arange(0, seconds, 0.05) if not 1.0 < t < 1.45]
    joints = [START + round(t * 1e9) for t in np.arange(0, seconds, 0.01)]
    return {
        "/camera/image_raw": (IMAGE, [(t, image(t, PICTURE)) for t in times]),
        "/joint_states": (JOINTS, [(t, joint_state(t - (NS_PER_S if t > START + 2 * NS_PER_S else 0), ["a"], [0.0], [0.0])) for t in joints]),
        "/joint_trajectory_controller/joint_trajectory": (TRAJECTORY, [(t, trajectory(t, [[0, 0]])) for t in joints[::10]]),
    }


@pytest.mark.parametrize("compression", ["none", "zstd", "lz4"])
@pytest.mark.parametrize("split_s", [0.0, 0.7])
def test_rates_gaps_jumps_and_what_would_train(tmp_path, compression, split_s):
    summary = summarize(record(tmp_path / "bag", run_of(), compression, split_s))
    topics = {topic.topic: topic for topic in summary.topics}
    camera, joints = topics["/camera/image_raw"], topics["/joint_states"]
    assert (camera.count, joints.count, summary.messages) == (52, 300, 382)
    assert joints.rate_hz == pytest.approx(100) and camera.rate_hz == pytest.approx(51 / 2.95)
    assert camera.largest_gap_s == pytest.approx(0.45) and camera.largest_gap_at_s == pytest.approx(1.0)
    assert (joints.backward_stamps, joints.backward_receptions, camera.backward_stamps) == (1, 0, 0)
    assert camera.qos == ("best effort 5",) and camera.unreadable == ""
    assert summary.duration_s == pytest.approx(2.99) and len(summary.files) == (5 if split_s else 1)
    training = summary.training
    assert training.possible and summary.troubles == ()
    assert (training.camera, training.joint_states, training.actions) == tuple(run_of())


def test_a_clock_that_jumps_backward_shows_in_the_times_of_reception(tmp_path):
    times = [START + index * 10_000_000 for index in [*range(100), *range(50, 150)]]
    writer = FolderWriter(tmp_path / "bag", Format())
    channel = Channel("/numbers", NUMBERS, TYPES.generate_msgdef(NUMBERS, ros_version=2)[0], "ros2msg")
    for time_ns in times:
        writer.write(channel, time_ns, bytes(TYPES.serialize_cdr(floats([1.0]), NUMBERS)))
    writer.close()
    (topic,) = summarize(tmp_path / "bag").topics
    assert (topic.count, topic.backward_receptions, topic.backward_stamps) == (200, 1, 0)


def without(topic):
    return {name: entry for name, entry in run_of().items() if name != topic}


def depth_only():
    topics = without("/camera/image_raw")
    pairs = [(t, image(t, PICTURE)) for t in (START, START + 1)]
    for _, picture in pairs:
        picture.encoding = "32FC1"
    return {**topics, "/camera/depth/image": (IMAGE, pairs)}


def one_after_the_other():
    topics = run_of()
    msgtype, pairs = topics["/camera/image_raw"]
    return {**topics, "/camera/image_raw": (msgtype, [(t + 100 * NS_PER_S, m) for t, m in pairs])}


@pytest.mark.parametrize(
    ("topics", "why"),
    [
        (without("/camera/image_raw"), "no camera: no topic of type sensor_msgs/msg/Image or sensor_msgs/msg/CompressedImage"),
        (without("/joint_states"), "no joint states: no topic of type sensor_msgs/msg/JointState"),
        (depth_only(), "no camera: /camera/depth/image: image encoding is '32FC1', a depth image"),
        (one_after_the_other(), "were never recorded at the same time"),
    ],
)
def test_why_a_bag_cannot_train_a_model(tmp_path, topics, why):
    summary = summarize(record(tmp_path / "bag", topics))
    assert not summary.training.possible and any(why in obstacle for obstacle in summary.training.obstacles)
    assert f"cannot train a model: {summary.training.obstacles[0]}" in summary_text(summary)


def test_a_bag_without_commands_can_train_as_the_import_shows(tmp_path, capsys):
    topics = without("/joint_trajectory_controller/joint_trajectory")
    moved = [START + round(t * 1e9) for t in np.arange(0, 3, 0.01)]
    topics["/joint_states"] = (JOINTS, [(t, joint_state(t, ["a"], [(t - START) * 1e-9], [1.0])) for t in moved])
    summary = summarize(record(tmp_path / "bag", topics))
    assert summary.training.possible and summary.training.actions == "" and "from the measured joints" in summary_text(summary)
    asked = ["dataset", "from-bag", str(tmp_path / "bag"), "--out", str(tmp_path / "data"), "--size", "24", "--episode-steps", "4"]
    assert run(asked) == 0, capsys.readouterr().err


def test_a_bag_of_humble_with_a_type_that_nobody_knows(tmp_path):
    humble(tmp_path / "run")
    summary = summarize(tmp_path / "run")
    topics = {topic.topic: topic for topic in summary.topics}
    assert summary.storage == "sqlite3" and summary.metadata_version == 5
    assert topics["/picture"].count == 40 and topics["/picture"].rate_hz == pytest.approx(1 / 0.033)
    assert topics["/own"].unreadable == "the bag does not say what my_msgs/msg/Own looks like"
    assert "/own can be played, but not decoded" in summary_text(summary)


def test_stamps_of_large_pictures_in_sqlite_are_seen(tmp_path):
    """Of a large message only its first bytes are read; small ones come with the row."""
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        made = {name: writer.add_connection(name, IMAGE, typestore=TYPES) for name in ("/large", "/small")}
        for number, stamp in enumerate((0, 1, 2, 1, 2, 3, 0)):
            for name, side in (("/large", 64), ("/small", 8)):
                message = image(START + stamp * NS_PER_S, np.zeros((side, side, 3), np.uint8))
                writer.write(made[name], START + number * 10**8, TYPES.serialize_cdr(message, IMAGE))
    found = {topic.topic: topic for topic in summarize(tmp_path / "bag").topics}
    assert [(found[name].count, found[name].backward_stamps) for name in ("/large", "/small")] == [(7, 2), (7, 2)]


def test_from_the_command_line(tmp_path, capsys):
    record(tmp_path / "bag", run_of())
    assert run(["bag", "info", str(tmp_path / "bag"), "--json", str(tmp_path / "info.json")]) == 0
    assert "can train a model: camera /camera/image_raw" in capsys.readouterr().out
    read = json.loads((tmp_path / "info.json").read_text())
    assert read["can_train"] is True and {topic["topic"]: topic["count"] for topic in read["topics"]}["/joint_states"] == 300
    (tmp_path / "bag" / "metadata.yaml").unlink()
    assert run(["bag", "info", str(tmp_path / "bag")]) == 0
    assert f"`latent-mpc bag recover {tmp_path / 'bag'} --out NEW`" in capsys.readouterr().out
    for wrong in (tmp_path / "nowhere", tmp_path / "info.json"):
        assert run(["bag", "info", str(wrong)]) == 2
        error = capsys.readouterr().err
        assert str(wrong) in error and error.count("\n") == 1


def test_what_it_promises_is_what_the_import_reads(tmp_path):
    """Depth beside colour, compressed beside raw, plans beside commands, a leader beside the arm: the same choice from both commands."""
    topics = run_of()
    _, pictures = topics.pop("/camera/image_raw")
    _, trajectories = topics.pop("/joint_trajectory_controller/joint_trajectory")
    topics |= {"/wrist/color/image_raw": (IMAGE, pictures), "/wrist/depth/image_raw": (IMAGE, pictures), "/goal/image": (IMAGE, pictures)}
    topics |= {"/planner/plan": (TRAJECTORY, trajectories), "/guardrail/shadow": (TRAJECTORY, trajectories), "/arm/go": (TRAJECTORY, trajectories)}
    topics["/leader/joint_command"] = topics["/measured"] = topics.pop("/joint_states")
    topics["/speeds"] = (NUMBERS, [(START, floats([1.0])), (START + NS_PER_S, floats([1.0]))])
    training = summarize(record(tmp_path / "bag", topics)).training
    assert (training.camera, training.joint_states, training.actions) == ("/wrist/color/image_raw", "/measured", "/arm/go")
    assert training.undecided == () and training.other_actions == ("/leader/joint_command", "/speeds")
    read = choose_topics(tmp_path / "bag", AskedTopics())
    assert (read.camera, read.joint_states, read.actions) == ("/wrist/color/image_raw", "/measured", "/arm/go")


def test_what_only_the_user_can_tell_apart_is_asked_for_by_both(tmp_path):
    topics = run_of()
    topics["/left/image"] = topics["/right/image"] = topics.pop("/camera/image_raw")
    topics["/a/go"] = topics["/b/go"] = topics.pop("/joint_trajectory_controller/joint_trajectory")
    summary = summarize(record(tmp_path / "bag", topics))
    assert summary.training.undecided == ("--camera /left/image or /right/image",) and summary.training.actions == ""
    text = summary_text(summary)
    assert "say which in `latent-mpc dataset from-bag`: --camera /left/image or /right/image" in text
    assert "--actions` could read as well: /a/go, /b/go" in text
    with pytest.raises(BagError, match="several topics for --camera: /left/image, /right/image; say which"):
        choose_topics(tmp_path / "bag", AskedTopics())
    assert choose_topics(tmp_path / "bag", AskedTopics(camera="/left/image")).actions is None


@pytest.mark.parametrize(
    ("held", "camera"),
    [
        (("/cam/image_raw", "/cam/image_raw/compressed"), ("/cam/image_raw",)),
        (("/cam/image_raw/compressed",), ("/cam/image_raw/compressed",)),
        (("/other/image_raw", "/cam/image_raw/compressed"), ("/cam/image_raw/compressed", "/other/image_raw")),
        (("/camera/image_raw", "/cam/image_raw"), ("/camera/image_raw",)),
        (("/cam/infra1/image",), ("/cam/infra1/image",)),
        (("/goal/image", "/overview/image_raw"), ()),
        (("/arm1/goal/image", "/arm1/camera/image_raw"), ("/arm1/camera/image_raw",)),
        (("/sim/wrist/image",), ("/sim/wrist/image",)),
        (("/depth_cam/color", "/depth_cam/depth"), ("/depth_cam/color",)),
        (("/cam/image/compressed", "/overview/image_raw/compressed"), ("/cam/image/compressed",)),
    ],
)
def test_the_likely_camera(held, camera):
    assert likely(CAMERA, {topic: COMPRESSED if topic.endswith("compressed") else IMAGE for topic in held}) == camera


@pytest.mark.parametrize(
    ("held", "measured"),
    [
        (("/franka_state_controller/joint_states", "/franka_gripper/joint_states"), 2),  # a namespace is no command
        (("/servo/joint_states", "/gripper/joint_states"), 2),
        (("/leader/joint_command", "/arm/joints"), 1),
        (("/joint_states", "/gripper/joint_states"), 1),
    ],
)
def test_joint_states_that_only_the_user_can_tell_apart_are_not_chosen(held, measured):
    assert len(likely(MEASURED, dict.fromkeys(held, JOINTS))) == measured


def depth(time_ns):
    picture = image(time_ns, PICTURE)
    picture.encoding = "32FC1"
    return picture


def one(entry):
    msgtype, pairs = entry
    return msgtype, pairs[:1]


@pytest.mark.parametrize(
    ("changed", "chosen"),
    [
        ({"/zed/confidence/map": (IMAGE, [(START + k, depth(START)) for k in range(9)]), "/zed/rgb/image": "/camera/image_raw"}, "/zed/rgb/image"),
        ({"/usb/image": "/camera/image_raw", "/camera/image_raw": one}, "/usb/image"),
        (
            {"/gripper/state": (JOINTS, [(START + k, joint_state(START, [], [], [])) for k in range(9)]), "/arm/joints": "/joint_states"},
            "/arm/joints",
        ),
        ({"/arm/go": "/joint_trajectory_controller/joint_trajectory"}, "/arm/go"),
    ],
)
def test_what_its_messages_rule_out_is_read_by_neither(tmp_path, changed, chosen):
    topics = run_of()
    renamed = {topic: topics.pop(other) for topic, other in changed.items() if isinstance(other, str)}
    whole = run_of()
    topics |= renamed | {topic: entry(whole[topic]) if callable(entry) else entry for topic, entry in changed.items() if not isinstance(entry, str)}
    training = summarize(record(tmp_path / "bag", topics)).training
    read = choose_topics(tmp_path / "bag", AskedTopics())
    assert training.possible and training.undecided == ()
    assert (training.camera, training.joint_states, training.actions) == (read.camera, read.joint_states, read.actions or "")
    assert chosen in (read.camera, read.joint_states, read.actions)


def test_a_topic_of_two_types_is_looked_at_by_its_own(tmp_path):
    folder = record(tmp_path / "bag", run_of())
    writer = FolderWriter(tmp_path / "mixed", Format())
    word = Channel("/joint_states", "std_msgs/msg/String", TYPES.generate_msgdef("std_msgs/msg/String", ros_version=2)[0], "ros2msg")
    writer.write(word, START - 1, bytes(TYPES.serialize_cdr(TYPES.types["std_msgs/msg/String"]("hello"), "std_msgs/msg/String")))
    with BagReader(folder) as reader:
        for raw in reader.raw():
            writer.write(raw.channel, raw.time_ns, bytes(raw.data))
    writer.close()
    assert summarize(tmp_path / "mixed").training.joint_states == "/joint_states"


def test_only_pictures_of_our_own_are_named_in_the_reason(tmp_path):
    topics = {("/overview/image_raw" if topic == "/camera/image_raw" else topic): entry for topic, entry in run_of().items()}
    (obstacle,) = summarize(record(tmp_path / "bag", topics)).training.obstacles
    assert obstacle == "no camera: only /overview/image_raw, which this software publishes itself; name it with --camera if it is meant"
    with pytest.raises(BagError, match="no camera: only /overview/image_raw"):
        choose_topics(tmp_path / "bag", AskedTopics())
    assert choose_topics(tmp_path / "bag", AskedTopics(camera="/overview/image_raw")).camera == "/overview/image_raw"
