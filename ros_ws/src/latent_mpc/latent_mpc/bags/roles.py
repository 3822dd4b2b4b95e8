"""Which topics of a bag can be the camera, the joint states and the commands of an arm, by their types and names alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from posixpath import commonpath

from latent_mpc.topic_names import CAMERA_IMAGE, CONTROLLERS, JOINT_STATES, OURS

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
JOINT_STATE, TRAJECTORY = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
FLOATS, TWIST, TWIST_STAMPED = "std_msgs/msg/Float64MultiArray", "geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped"
# Pictures, trajectories and numbers of this stack, in whatever namespace, that are neither the camera nor a command to an arm.
_OTHERS = tuple(set(OURS) - {CAMERA_IMAGE, JOINT_STATES, *CONTROLLERS.values()})
_COMMAND_WORDS = ("command", "cmd", "controller", "action", "target", "teleop", "servo")
_DEPTH_WORDS = ("depth", "infra")


@dataclass(frozen=True)
class Role:
    """Something that a data set is made of: the ``option`` that names its topic, the ``types`` that can say it and the ``usual`` topic.

    A topic of fewer than ``least`` messages says nothing.
    """

    name: str
    option: str
    types: tuple[str, ...]
    usual: str
    least: int


CAMERA = Role("camera", "--camera", (IMAGE, COMPRESSED), CAMERA_IMAGE, 2)
MEASURED = Role("joint states", "--joint-states", (JOINT_STATE,), JOINT_STATES, 2)
COMMANDS = Role("actions", "--actions", (TRAJECTORY, FLOATS, TWIST, TWIST_STAMPED, JOINT_STATE), CONTROLLERS["trajectory"], 1)


def fitting(role: Role, held: Mapping[str, str]) -> tuple[str, ...]:
    """The topics of ``held`` (type by topic) whose type can say it, by name, but for those that this stack publishes besides it."""
    return tuple(topic for topic in sorted(held) if held[topic] in role.types and not ours(topic))


def ours(topic: str) -> bool:
    """Whether this stack publishes it and it is neither the camera, nor the joints, nor a command to an arm; in whatever namespace."""
    return topic.removesuffix("/compressed").endswith(_OTHERS)


def likely(role: Role, held: Mapping[str, str]) -> tuple[str, ...]:
    """What it is when nobody says: one topic, several that only the user can tell apart, or none.

    The usual name is taken. Otherwise a depth picture is no camera and a command no joint state where another is there, and the raw pictures of a
    camera are taken before its compressed ones. Only a trajectory is a command that needs no word from the user.
    """
    if held.get(role.usual) in role.types:
        return (role.usual,)
    found = fitting(role, held)
    if role.name == COMMANDS.name:
        return tuple(topic for topic in found if held[topic] == TRAJECTORY)
    if role.name == MEASURED.name:
        # By the last part of the name alone: a driver's own joint states may lie in the namespace of its controller.
        return _rather(found, lambda topic: not _says(topic.rpartition("/")[2], _COMMAND_WORDS))
    shared = commonpath(found) if found else ""
    colour = _rather(found, lambda topic: not _says(topic.removeprefix(shared), _DEPTH_WORDS))
    raw = {topic for topic in colour if held[topic] == IMAGE}
    return tuple(topic for topic in colour if topic in raw or topic.rpartition("/")[0] not in raw)


def _rather(topics: tuple[str, ...], wanted: Callable[[str], bool]) -> tuple[str, ...]:
    """Those that are wanted, or all where none is."""
    return tuple(filter(wanted, topics)) or topics


def _says(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name.lower() for word in words)
