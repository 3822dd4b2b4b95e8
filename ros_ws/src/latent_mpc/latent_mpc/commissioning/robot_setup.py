"""A robot as one YAML file: which driver and camera it has, and where they speak. ``launch/config/robots/*.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml

from latent_mpc.bringup import BringupError, find_shared

FOLDERS = (Path("launch", "config", "robots"), Path("config", "robots"))
OUTPUTS = {
    "trajectory": "trajectory_msgs/msg/JointTrajectory",
    "velocity": "std_msgs/msg/Float64MultiArray",
    "position": "std_msgs/msg/Float64MultiArray",
}
"""What the guardrail may command with, and the type of message that it is."""


class RobotSetupError(ValueError):
    """A robot's file that cannot be used, with the reason in one line."""


@dataclass(frozen=True)
class Driver:
    """The ROS 2 driver: its ``package``, the ``controller`` that must be active, and the line that starts it."""

    package: str
    controller: str
    start: str = ""


@dataclass(frozen=True)
class JointStates:
    """Where measured joints come from, how often (Hz), and how old (ms) one may be when it arrives."""

    topic: str = "/joint_states"
    rate_hz: float = 100.0
    latency_ms: float = 30.0


@dataclass(frozen=True)
class CommandTopic:
    """Where the guardrail commands: ``output`` is its parameter of the same name."""

    topic: str
    output: str = "trajectory"

    @property
    def type(self) -> str:
        """The message type on the topic."""
        return OUTPUTS[self.output]


@dataclass(frozen=True)
class Camera:
    """Where pictures come from. ``framed``: pictures are cropped and scaled to the model's size on the way (``framing_node``)."""

    image: str
    info: str
    rate_hz: float = 30.0
    latency_ms: float = 120.0
    framed: bool = True
    start: str = ""


@dataclass(frozen=True)
class RobotSetup:
    """What is known of a robot before it is looked at.

    ``arm`` is an arm description (see ``arm_model``), empty where the user has to provide one; ``joints`` are the driver's names. ``description``
    is the topic of the driver's URDF, empty where it publishes none. ``guardrail`` are parameters of the guardrail that this driver needs.
    ``unverified`` names the values above that come from no source that was read, such as ``camera.image``.
    """

    name: str
    arm: str
    joints: tuple[str, ...]
    driver: Driver
    command: CommandTopic
    camera: Camera
    joint_states: JointStates = field(default_factory=JointStates)
    description: str = "/robot_description"
    guardrail: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    def in_namespace(self, namespace: str) -> RobotSetup:
        """The same robot with every topic of it under ``namespace``, which may be empty."""
        prefix = namespace.strip("/")
        if not prefix:
            return self
        return replace(
            self,
            joint_states=replace(self.joint_states, topic=f"/{prefix}{self.joint_states.topic}"),
            command=replace(self.command, topic=f"/{prefix}{self.command.topic}"),
            camera=replace(self.camera, image=f"/{prefix}{self.camera.image}", info=f"/{prefix}{self.camera.info}"),
            description=f"/{prefix}{self.description}" if self.description else "",
        )


def known_robots() -> tuple[str, ...]:
    """Names of the robots whose files are shipped."""
    try:
        return tuple(sorted(file.stem for file in find_shared(*FOLDERS).glob("*.yaml")))
    except BringupError:
        return ()


def read_robot_setup(robot: str | Path) -> RobotSetup:
    """Read a robot's YAML file, or a shipped one by its name.

    Raises:
        RobotSetupError: there is none, or a key is missing, unknown, or of the wrong kind.
    """
    path = Path(robot)
    try:
        file = find_shared(path) if path.suffix in (".yaml", ".yml") else find_shared(*(folder / f"{robot}.yaml" for folder in FOLDERS))
    except BringupError as error:
        raise RobotSetupError(f"no robot '{robot}'; shipped ones: {', '.join(known_robots())}; or give the path of a YAML file") from error
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RobotSetupError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RobotSetupError(f"{file}: not a mapping")
    where = str(file)
    parts: dict[str, Any] = {"driver": Driver, "joint_states": JointStates, "command": CommandTopic, "camera": Camera}
    values: dict[str, Any] = {
        key: _built(parts[key], value, f"{where}: {key}") if key in parts else tuple(value) if isinstance(value, list) else value
        for key, value in content.items()
    }
    setup = _built(RobotSetup, values, where)
    _check(setup, where)
    return setup


T = TypeVar("T")


def _built(kind: type[T], values: object, where: str) -> T:
    if not isinstance(values, dict):
        raise RobotSetupError(f"{where}: must be a mapping")
    known = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise RobotSetupError(f"{where}: unknown key '{key}'; did you mean '{near}'?")
    try:
        return kind(**values)
    except TypeError as error:
        raise RobotSetupError(f"{where}: {str(error).partition('missing ')[2] or error} missing") from error


def _check(setup: RobotSetup, where: str) -> None:
    topics = {"joint_states.topic": setup.joint_states.topic, "command.topic": setup.command.topic, "camera.image": setup.camera.image}
    topics["camera.info"] = setup.camera.info
    if setup.description:
        topics["description"] = setup.description
    for key, topic in topics.items():
        if not isinstance(topic, str) or not topic.startswith("/") or topic.endswith("/") or " " in topic:
            raise RobotSetupError(f"{where}: {key} must be an absolute topic name, not {topic}")
    numbers = {f"{part}.{key}": getattr(getattr(setup, part), key) for part in ("joint_states", "camera") for key in ("rate_hz", "latency_ms")}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise RobotSetupError(f"{where}: {key} must be a number above 0, not {value}")
    if setup.command.output not in OUTPUTS:
        raise RobotSetupError(f"{where}: command.output is '{setup.command.output}', must be one of: {', '.join(OUTPUTS)}")
    if not isinstance(setup.joints, tuple) or not setup.joints or len(set(setup.joints)) != len(setup.joints):
        raise RobotSetupError(f"{where}: joints must be a list of different names")
    if not isinstance(setup.guardrail, dict):
        raise RobotSetupError(f"{where}: guardrail must be a mapping of parameters")
