"""Hand-made bags: what a test wants to have been recorded."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
from latent_mpc.bag import NS_PER_S, TYPES
from rosbags.rosbag2 import StoragePlugin, Writer

STEP_NS = 10_000_000
START_NS = 1_700_000_000 * NS_PER_S
URDF = """<?xml version="1.0"?>
<robot name="two">
  <joint name="a" type="revolute"><limit lower="-2" upper="2" velocity="2" acceleration="10" jerk="1000" effort="1"/></joint>
  <joint name="fixed_one" type="fixed"/>
  <joint name="b" type="revolute"><limit lower="-1" upper="3" velocity="2" acceleration="10" jerk="1000" effort="1"/></joint>
</robot>
"""


def msg(msgtype, /, **fields):
    """A message by its type name, e.g. ``msg("std_msgs/msg/String", data="hello")``."""
    return TYPES.types[msgtype](**fields)


def time_of(ns):
    return msg("builtin_interfaces/msg/Time", sec=ns // NS_PER_S, nanosec=ns % NS_PER_S)


def header(ns):
    return msg("std_msgs/msg/Header", stamp=time_of(ns), frame_id="")


@contextmanager
def bag(folder):
    """``write(topic, type, time_ns, message)`` into a new MCAP bag."""
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}

        def write(topic, msgtype, time_ns, message):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=TYPES)
            writer.write(connections[topic], time_ns, TYPES.serialize_cdr(message, msgtype))

        yield write


def trajectory(stamp_ns, positions, velocities=None, accelerations=None, joints=("a", "b"), step_ns=STEP_NS):
    """A command whose points lie 10, 20, ... ms after its stamp."""
    empty = np.empty(0)
    points = []
    for index, row in enumerate(positions):
        ns = (index + 1) * step_ns
        points.append(
            msg(
                "trajectory_msgs/msg/JointTrajectoryPoint",
                positions=np.ascontiguousarray(row, float),
                velocities=empty if velocities is None else np.asarray(velocities[index], float),
                accelerations=empty if accelerations is None else np.asarray(accelerations[index], float),
                effort=empty,
                time_from_start=msg("builtin_interfaces/msg/Duration", sec=ns // NS_PER_S, nanosec=ns % NS_PER_S),
            )
        )
    return msg("trajectory_msgs/msg/JointTrajectory", header=header(stamp_ns), joint_names=list(joints), points=points)


def image(stamp_ns, pixels):
    height, width, _ = pixels.shape
    return msg(
        "sensor_msgs/msg/Image",
        header=header(stamp_ns),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def floats(data, label="ground_truth"):
    dimension = msg("std_msgs/msg/MultiArrayDimension", label=label, size=len(data), stride=len(data))
    layout = msg("std_msgs/msg/MultiArrayLayout", dim=[dimension], data_offset=0)
    return msg("std_msgs/msg/Float64MultiArray", layout=layout, data=np.asarray(data, float))


def joint_state(stamp_ns, names, position, velocity):
    return msg(
        "sensor_msgs/msg/JointState",
        header=header(stamp_ns),
        name=list(names),
        position=np.asarray(position, float),
        velocity=np.asarray(velocity, float),
        effort=np.empty(0),
    )


def diagnostic(name, message, **values):
    pairs = [msg("diagnostic_msgs/msg/KeyValue", key=key, value=str(value)) for key, value in values.items()]
    return msg("diagnostic_msgs/msg/DiagnosticStatus", level=0, name=name, message=message, hardware_id="", values=pairs)


def poses(stamp_ns, points):
    quaternion = msg("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
    made = [
        msg("geometry_msgs/msg/Pose", position=msg("geometry_msgs/msg/Point", x=float(x), y=float(y), z=float(z)), orientation=quaternion)
        for x, y, z in points
    ]
    return msg("geometry_msgs/msg/PoseArray", header=header(stamp_ns), poses=made)
