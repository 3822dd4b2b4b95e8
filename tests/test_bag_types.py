"""Definitions of types that the wheels do not bring, from installed packages, as rosidl installs them."""

from __future__ import annotations

import numpy as np
import pytest
from latent_mpc.bag import read_messages
from latent_mpc.bags.message_types import MessageTypes, message_class
from latent_mpc.bags.storage import BagError, Channel, RawMessage
from latent_mpc.bags.writer import FolderWriter, Format
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

ARM = "std_msgs/Header header\nPart[] parts  # one each\nfloat64[<=7] load\nuint8 IDLE=0\nuint8 mode\ngeometry_msgs/Pose pose\n"
PART = "string<=20 name\nfloat32 temperature 20.0\nbuiltin_interfaces/Time since\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    folder = tmp_path / "opt" / "share" / "arm_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "Arm.msg").write_text(ARM)
    (folder / "Part.msg").write_text(PART)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'nothing'}:{tmp_path / 'opt'}")


def test_an_installed_type_is_described_with_all_that_it_holds(installed, tmp_path):
    channel = MessageTypes().describe("/arm", "arm_msgs/msg/Arm")
    store = get_typestore(Stores.ROS2_KILTED)
    store.register({**get_types_from_msg(ARM, "arm_msgs/msg/Arm"), **get_types_from_msg(PART, "arm_msgs/msg/Part")})
    assert channel.digest == store.hash_rihs01("arm_msgs/msg/Arm")
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](1, 2)
    part = types["arm_msgs/msg/Part"]("elbow", 36.5, stamp)
    pose = types["geometry_msgs/msg/Pose"](types["geometry_msgs/msg/Point"](1.0, 2.0, 3.0), types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0))
    arm = types["arm_msgs/msg/Arm"](types["std_msgs/msg/Header"](stamp, "x"), [part], np.array([0.5]), 3, pose)
    writer = FolderWriter(tmp_path / "bag", Format())
    message = RawMessage(channel, 5, bytes(store.serialize_cdr(arm, "arm_msgs/msg/Arm")), 5)
    writer.write(message.channel, message.time_ns, message.data)
    writer.close()
    (entry,) = read_messages(tmp_path / "bag", ["/arm"])
    assert entry.message.parts[0].name == "elbow" and entry.message.load[0] == 0.5 and entry.message.pose.position.z == 3.0


def test_a_type_that_is_installed_nowhere_is_recorded_without_definition(installed):
    assert MessageTypes().describe("/x", "arm_msgs/msg/Leg") == Channel("/x", "arm_msgs/msg/Leg")
    with pytest.raises(BagError, match="unknown type arm_msgs/msg/Leg"):
        message_class("arm_msgs/msg/Leg")
