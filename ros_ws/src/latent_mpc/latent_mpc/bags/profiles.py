"""Which topics are recorded, by what for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from latent_mpc.bags.storage import BagError
from latent_mpc.topic_names import OURS

# Markers are drawn from what is recorded beside them.
OWN_TOPICS = tuple(sorted({*OURS, "/diagnostics"} - {"/planner/markers"}))
_TRAINING_TOPICS = (
    "/forward_position_controller/commands",
    "/forward_velocity_controller/commands",
    "/goal/image",
    "/guardrail/status",
    "/planner/result",
    "/planner/status",
)
_TRAINING_TYPES = (
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/TwistStamped",
    "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/JointState",
    "trajectory_msgs/msg/JointTrajectory",
)
_NO_TRAINING = ("/goal/latent", "/overview/", "/perception/", "/planner/plan", "/sim/")
_PLUMBING = ("/parameter_events", "/rosout")


@dataclass(frozen=True)
class Profile:
    """A named choice of topics. ``wants(topic, type)`` says whether one that somebody publishes is recorded."""

    name: str
    meaning: str
    wants: Callable[[str, str], bool]
    waits_for: tuple[str, ...] = ()


def _hidden(topic: str) -> bool:
    return any(part.startswith("_") for part in topic.split("/"))


def _everything(topic: str, _: str) -> bool:
    return not _hidden(topic) and topic not in _PLUMBING


def _training(topic: str, msgtype: str) -> bool:
    by_type = msgtype in _TRAINING_TYPES and not topic.startswith(_NO_TRAINING) and not _hidden(topic)
    return by_type or topic in _TRAINING_TOPICS


PROFILES = {
    "everything": Profile("everything", "every topic that is not hidden, without /rosout and /parameter_events", _everything),
    "training": Profile("training", "cameras, joint states, commands, goals and what tells where an episode begins and ends", _training),
    "evaluation": Profile("evaluation", "what the nodes of this stack publish", lambda topic, _: topic in OWN_TOPICS, OWN_TOPICS),
}


def chosen(profile: str, topics: tuple[str, ...]) -> Profile:
    """The profile ``profile``; with ``topics`` exactly those.

    Raises:
        BagError: there is no such profile, or a topic is not named in full.
    """
    names = tuple(sorted({topic for topic in topics if topic}))
    wrong = [topic for topic in names if not topic.startswith("/")]
    if wrong:
        raise BagError(f"topic '{wrong[0]}' does not begin with '/': name topics in full")
    if names:
        return Profile("topics", "the topics that were named", lambda topic, _: topic in names, names)
    if profile not in PROFILES:
        raise BagError(f"profile is '{profile}', must be one of: {', '.join(PROFILES)}")
    return PROFILES[profile]
