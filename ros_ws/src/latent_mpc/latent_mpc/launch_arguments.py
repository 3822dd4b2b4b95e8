"""What each launch file may be told, as tables: no ``launch`` is needed to read or to test them.

An argument that is empty by default leaves its matter to the parameter files; one that is given wins over them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sim.tasks import TASKS

YES_NO = ("true", "false")


@dataclass(frozen=True)
class LaunchArgument:
    """One argument: ``default`` None means that it must be given, ``choices`` empty that anything may be."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...] = ()


def _maybe(choices: Iterable[str]) -> tuple[str, ...]:
    return ("", *choices)


NAMESPACE = LaunchArgument("namespace", "", "namespace of all nodes and of every topic of ours, for example arm1; /diagnostics and /clock stay")
DOMAIN = LaunchArgument("domain", "", "ROS domain; by default that of the environment")
PARAMS = LaunchArgument("params", "", "parameter file in YAML on top of the shipped ones; the arguments of this launch file win over it")
MODE = LaunchArgument(
    "mode",
    "",
    "planner: searches along the actor; actor: the actor alone; cem: searches without the actor; by default what the parameter files say",
    _maybe(("planner", "actor", "cem")),
)
ZONES = LaunchArgument(
    "zones",
    "",
    "forbidden zones in YAML, for the planner alone (scene is the guardrail's): a list of {centre: [x, y], half: [a, b], yaw: rad}; "
    "by default what the parameter files say",
)
RECORD = LaunchArgument("record", "", "folder of a bag to record into; must not exist yet; by default nothing is recorded")
AUTO_ARM = LaunchArgument(
    "auto_arm", "", "let the guardrail arm itself as soon as joint states arrive; by default what the parameter files say", _maybe(YES_NO)
)

SIM = (
    LaunchArgument("task", "reach", f"what is simulated: {', '.join(TASKS)}", tuple(TASKS)),
    LaunchArgument("model", "", "folder of a model bundle; by default the shipped one for the task"),
    MODE,
    ZONES,
    LaunchArgument(
        "output", "", "which controller the guardrail commands; by default what the parameter files say", _maybe(("trajectory", "velocity"))
    ),
    AUTO_ARM,
    LaunchArgument("episode_seed", "0", "seed of start and goal of the first episode"),
    LaunchArgument("gui", "false", "open PyBullet's window", YES_NO),
    RECORD,
    PARAMS,
    NAMESPACE,
    DOMAIN,
)

ARM = (
    LaunchArgument("robot", None, "which robot: a name in config/robots, such as ur5e, or the path of such a file"),
    LaunchArgument("model", None, "folder of a model bundle that was trained for this arm"),
    LaunchArgument("arm", "", "arm description in the place of the robot's: a shipped arm's name or a YAML file"),
    LaunchArgument("shadow", "true", "plan and guard, but publish commands on /guardrail/shadow only: nothing moves", YES_NO),
    LaunchArgument("speed", "0.1", "share of the arm's velocity limits that may be used, above 0 and at most 1"),
    MODE,
    ZONES,
    LaunchArgument("steps", "", "actions that an episode may take; by default what the parameter files say"),
    LaunchArgument(
        "scene",
        "",
        "what stands around the arm, for the guardrail, fixed at its start: a YAML file or the YAML itself; by default what the parameter files say",
    ),
    LaunchArgument("workspace", "", "where the tool may be, in YAML; by default what the parameter files say"),
    LaunchArgument("joint_states", "", "topic of the measured joints; by default the robot's"),
    LaunchArgument("command", "", "topic that the controller listens to; by default the robot's"),
    LaunchArgument("camera_image", "", "topic of the camera's pictures; by default the robot's"),
    LaunchArgument("camera_info", "", "topic of the camera's calibration; by default the robot's"),
    LaunchArgument(
        "framing",
        "node",
        "who crops and scales a camera's pictures: a node of its own, whose pictures others see, or perception",
        ("node", "perception"),
    ),
    RECORD,
    PARAMS,
    NAMESPACE,
    DOMAIN,
)

RECORDER = (
    LaunchArgument("output", None, "folder of the bag; must not exist yet"),
    LaunchArgument("topics", "", "topics to record, separated by commas; by default what the parameter files say"),
    LaunchArgument("profile", "", "recording profile, such as training; by default what the parameter files say"),
    PARAMS,
    NAMESPACE,
    DOMAIN,
)

REPLAY = (
    LaunchArgument("bag", None, "bag to replay: a rosbag2 folder or file"),
    LaunchArgument("model", None, "folder of the model bundle that sees the bag"),
    LaunchArgument("arm", "panda_stick", "arm description: a shipped arm's name or a YAML file"),
    LaunchArgument("rate", "1.0", "speed of the replay, 1.0 is real time; the guardrail's 100 Hz are real time always"),
    LaunchArgument("loop", "false", "begin again when the bag is over", YES_NO),
    LaunchArgument("start_offset", "0.0", "seconds of the bag to leave out at its beginning"),
    LaunchArgument("joint_states", "", "what the bag calls the measured joints; by default /joint_states, or what is of that type"),
    LaunchArgument("camera_image", "", "what the bag calls the camera's pictures; by default /camera/image_raw, or what is of that type"),
    LaunchArgument(
        "camera_info",
        "",
        "what the bag calls the camera's calibration; by default the one beside the pictures, or the only one; without one it is left out",
    ),
    MODE,
    ZONES,
    RECORD,
    PARAMS,
    NAMESPACE,
    DOMAIN,
)

FILES = {"sim": SIM, "arm": ARM, "record": RECORDER, "replay": REPLAY}
"""The arguments of ``launch/<name>.launch.py``, by name."""
