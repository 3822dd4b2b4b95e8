"""What replay.launch.py plays of a bag: what it holds, and what was asked for by name."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from bag_writing import START_NS, bag, image, joint_state, msg
from latent_mpc.bag import BagError
from latent_mpc.launch_bag import played_topics
from latent_mpc.offline_bag import ReplayTopics

ASKED = {"joint_states": "", "camera_image": "", "camera_info": ""}
IMAGE, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"


def holding(folder, *topics):
    """A bag with one message on each of ``topics``, of the type that the last part of its name tells."""
    with bag(folder) as write:
        for topic in topics:
            if topic.endswith("camera_info"):
                write(topic, "std_msgs/msg/String", START_NS, msg("std_msgs/msg/String", data=""))
            elif "joint" in topic:
                for _ in range(2):
                    write(topic, JOINTS, START_NS, joint_state(START_NS, ["a"], [0.0], [0.0]))
            else:
                for _ in range(2):
                    write(topic, IMAGE, START_NS, image(START_NS, np.zeros((4, 4, 3), np.uint8)))
    return folder


@pytest.mark.parametrize(
    ("topics", "heard"),
    [
        (
            ("/camera/image_raw", "/camera/camera_info", "/joint_states", "/goal/image"),
            ("/camera/image_raw", "/camera/camera_info", "/joint_states", "/goal/image"),
        ),
        (("/camera/image_raw", "/joint_states", "/goal/image"), ("/camera/image_raw", "", "/joint_states", "/goal/image")),
        (("/camera/image_raw", "/joint_states"), ("/camera/image_raw", "", "/joint_states", "")),
        (
            ("/usb/image", "/usb/camera_info", "/ur/joint_states", "/goal/image"),
            ("/usb/image", "/usb/camera_info", "/ur/joint_states", "/goal/image"),
        ),
        (("/usb/image", "/camera/camera_info", "/joints", "/overview/image_raw"), ("/usb/image", "/camera/camera_info", "/joints", "")),
        (
            ("/arm1/camera/image_raw", "/arm1/joint_states", "/arm1/goal/image"),
            ("/arm1/camera/image_raw", "", "/arm1/joint_states", "/arm1/goal/image"),
        ),
    ],
)
def test_what_is_played_is_found_by_names_and_types(tmp_path, topics, heard):
    named = zip(heard, ("/camera/image_raw", "/camera/camera_info", "/joint_states", "/goal/image"), strict=True)
    assert played_topics(holding(tmp_path / "bag", *topics), ASKED) == {recorded: topic for recorded, topic in named if recorded}


def test_the_calibration_of_another_camera_is_not_played(tmp_path):
    recorded = holding(tmp_path / "bag", "/wrist/image", "/camera/image_raw", "/camera/camera_info", "/joint_states")
    assert "/camera/camera_info" not in played_topics(recorded, {**ASKED, "camera_image": "/wrist/image"})


def test_what_is_asked_for_is_played(tmp_path):
    recorded = holding(tmp_path / "bag", "/left/image", "/right/image", "/a/joints", "/b/joints", "/other/camera_info", "/right/camera_info")
    named = played_topics(recorded, {"camera_image": "/right/image", "camera_info": "/other/camera_info", "joint_states": "/b/joints"})
    assert named == {"/right/image": "/camera/image_raw", "/other/camera_info": "/camera/camera_info", "/b/joints": "/joint_states"}


@pytest.mark.parametrize(
    ("topics", "asked", "why"),
    [
        (("/left/image", "/right/image", "/joint_states"), {}, "several topics for camera; say camera_image:= one of /left/image, /right/image"),
        (("/camera/image_raw", "/a/joints", "/b/joints"), {}, "several topics for joint states; say joint_states:= one of /a/joints, /b/joints"),
        (("/camera/image_raw",), {}, "holds no joint states: no topic of type sensor_msgs/msg/JointState"),
        (("/overview/image_raw", "/joint_states"), {}, "holds no camera: only /overview/image_raw"),
        (
            ("/usb/image", "/joint_states"),
            {"camera_image": "/usb/img"},
            "no camera of type sensor_msgs/msg/Image on /usb/img; say camera_image:= one of /usb/image",
        ),
        (("/usb/image", "/joint_states"), {"camera_info": "/usb/info"}, "holds no topic /usb/info"),
    ],
)
def test_what_cannot_be_played_is_one_line(tmp_path, topics, asked, why):
    with pytest.raises(BagError, match=why):
        played_topics(holding(tmp_path / "bag", *topics), ASKED | asked)


def test_what_is_no_bag_is_one_line(tmp_path):
    with pytest.raises(BagError, match="no bag folder"):
        played_topics(tmp_path / "nowhere", ASKED)


def test_diagnostics_are_everybodys_and_lie_in_no_namespace():
    topics = ReplayTopics(namespace="arm1")
    assert topics.held("/planner/plan") == "/arm1/planner/plan" and topics.held("/diagnostics") == "/diagnostics"
