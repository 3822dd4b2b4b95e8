"""Whether a bag can train a model: which of its topics are the camera, the joint states and the actions, and if it cannot, why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.storage import BagError, Channel
from ros_bridge.encodings import ImageError, picture_pixels

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
JOINT_STATE = "sensor_msgs/msg/JointState"
ACTION_TYPES = (
    "trajectory_msgs/msg/JointTrajectory",
    "std_msgs/msg/Float64MultiArray",
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/Twist",
)
# What carries numbers or trajectories in this stack and is no command to an arm.
_NO_ACTIONS = ("/planner/", "/perception/", "/sim/", "/goal/")
_NO_CAMERAS = ("/overview/", "/perception/", "/goal/", "/sim/")
_COMMAND_WORDS = ("command", "cmd", "controller", "action", "target", "teleop", "servo")
_FEWEST = 2


@dataclass(frozen=True)
class TrainingTopics:
    """The topics that would be used; empty where there is none. ``obstacles`` are the reasons why the bag cannot train a model.

    Without ``actions`` what was done is read off the measured joints, as ``latent-mpc dataset from-bag`` does.
    """

    camera: str
    joint_states: str
    actions: str
    obstacles: tuple[str, ...]

    @property
    def possible(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.obstacles


def training_topics(reader: BagReader, counts: Mapping[str, int], spans: Mapping[str, tuple[int, int]]) -> TrainingTopics:
    """Look at the names, the types and the first message of the candidates; ``spans`` are ns of the first and last message by topic.

    Raises:
        BagError: the bag is damaged where the candidates lie.
    """
    obstacles: list[str] = []

    def choose(what: str, channels: list[Channel], use: Callable[[Any], str], wanted: str, needed: bool = True) -> str:
        refused = []
        for channel in channels:
            if counts.get(channel.topic, 0) < _FEWEST:
                refused.append(f"{channel.topic} has {counts.get(channel.topic, 0)} messages")
                continue
            why_not = _try(reader, channel, use)
            if not why_not:
                return channel.topic
            refused.append(f"{channel.topic}: {why_not}")
        if needed:
            obstacles.append(f"no {what}: {'; '.join(refused)}" if refused else f"no {what}: no topic of type {wanted}")
        return ""

    known = reader.channels
    cameras = [c for c in known if c.msgtype in (IMAGE, COMPRESSED) and not c.topic.startswith(_NO_CAMERAS)]
    # Raw before compressed of the same camera, colour before anything that is called depth.
    cameras.sort(key=lambda c: ("depth" in c.topic or "infra" in c.topic, c.msgtype != IMAGE, c.topic))
    camera = choose("camera", cameras, _see, f"{IMAGE} or {COMPRESSED}")
    states = sorted((c for c in known if c.msgtype == JOINT_STATE), key=lambda c: (_commands(c.topic), -counts.get(c.topic, 0), c.topic))
    joint_states = choose("joint states", [c for c in states if not _commands(c.topic)], _feel, JOINT_STATE)
    movers = [c for c in known if (c.msgtype in ACTION_TYPES and not c.topic.startswith(_NO_ACTIONS)) or (c in states and _commands(c.topic))]
    movers.sort(key=lambda c: (not _commands(c.topic), _rank(c.msgtype), c.topic))
    actions = choose("actions", movers, lambda _: "", " or ".join(ACTION_TYPES), needed=False)
    if camera and joint_states:
        used = [topic for topic in (camera, joint_states, actions) if topic]
        together = [spans[topic] for topic in used if topic in spans]
        if max(first for first, _ in together) >= min(last for _, last in together):
            obstacles.append(f"{', '.join(used[:-1])} and {used[-1]} were never recorded at the same time")
    return TrainingTopics(camera, joint_states, actions, tuple(obstacles))


def _try(reader: BagReader, channel: Channel, use: Callable[[Any], str]) -> str:
    try:
        for raw in reader.raw({channel.topic}):
            if raw.channel.msgtype == channel.msgtype:
                return use(reader.decode(raw))
    except BagError as error:
        return str(error).removeprefix(f"{channel.topic} ")
    return "no message can be read"


def _see(message: Any) -> str:
    try:
        picture_pixels(message)
    except ImageError as error:
        return str(error).split("; expected")[0]
    return ""


def _feel(message: Any) -> str:
    if not message.name:
        return "its joints have no names"
    return "" if len(message.position) == len(message.name) else f"{len(message.position)} positions for {len(message.name)} joints"


def _commands(topic: str) -> bool:
    return any(word in topic.lower() for word in _COMMAND_WORDS)


def _rank(msgtype: str) -> int:
    return ACTION_TYPES.index(msgtype) if msgtype in ACTION_TYPES else len(ACTION_TYPES)
