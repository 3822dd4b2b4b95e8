"""What replay.launch.py plays of a bag: what it holds, and what was asked for by name."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from bag_writing import START_NS, bag, image, msg
from latent_mpc.bag import BagError
from latent_mpc.launch_bag import played_topics
from latent_mpc.offline_bag import ReplayTopics

USUAL = {"joint_states": "", "camera_image": "", "camera_info": ""}
ALL = {topic: topic for topic in ("/joint_states", "/camera/image_raw", "/camera/camera_info", "/goal/image")}


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_calibration_is_played_where_there_is_one_or_one_was_asked_for(tmp_path, calibrated):
    recorded = tmp_path / "bag"
    with bag(recorded) as write:
        write("/camera/image_raw", "sensor_msgs/msg/Image", START_NS, image(START_NS, np.zeros((4, 4, 3), np.uint8)))
        if calibrated:
            write("/camera/camera_info", "std_msgs/msg/String", START_NS, msg("std_msgs/msg/String", data=""))
    expected = ALL if calibrated else {topic: name for topic, name in ALL.items() if topic != "/camera/camera_info"}
    assert played_topics(recorded, USUAL) == expected
    named = played_topics(recorded, {**USUAL, "camera_info": "/other/info", "joint_states": "/arm/joints"})
    assert named["/other/info"] == "/camera/camera_info" and named["/arm/joints"] == "/joint_states" and len(named) == 4


def test_what_is_no_bag_is_one_line(tmp_path):
    with pytest.raises(BagError, match="no bag folder"):
        played_topics(tmp_path / "nowhere", USUAL)


def test_diagnostics_are_everybodys_and_lie_in_no_namespace():
    topics = ReplayTopics(namespace="arm1")
    assert topics.held("/planner/plan") == "/arm1/planner/plan" and topics.held("/diagnostics") == "/diagnostics"
