"""An arm as one YAML file beside its URDF."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from arm_model.limits import JointLimits, LimitsError, narrowed, read_limits
from arm_model.near_names import did_you_mean
from arm_model.packages import locate

ROBOTS = Path(__file__).parent / "robots"
_REQUIRED = ("name", "urdf", "joints", "base_frame", "tool_frame", "home")
_OPTIONAL = ("held_joint", "tool_pitch", "tool_yaw", "limits", "soft_limits", "allowed_collisions", "topics")


class ArmError(ValueError):
    """An arm description that cannot be used, with the reason in one line."""


@dataclass(frozen=True)
class Topics:
    """Where an arm's driver publishes its joints, and where it listens; ``trajectory``, ``velocity`` and ``position`` are the guardrail's outputs."""

    joint_states: str = "/joint_states"
    trajectory: str = "/joint_trajectory_controller/joint_trajectory"
    velocity: str = "/forward_velocity_controller/commands"
    position: str = "/forward_position_controller/commands"


@dataclass(frozen=True)
class ArmDescription:
    """What the planner, the guardrail and the simulator know of an arm.

    ``home`` is ``(J,) float64, rad``; ``held_joint`` is the index of the redundant joint that inverse kinematics keeps at its home angle, None
    for an arm without one. ``limits`` must never be left, ``soft_limits`` are what planning may use of them. ``tool_pitch`` in rad tilts the tool
    from straight down to the front, ``tool_yaw`` turns it about its own axis, which is the tool frame's z. ``allowed_collisions`` are pairs of links
    that may touch, or that never do.
    """

    name: str
    urdf: Path
    joints: tuple[str, ...]
    base_frame: str
    tool_frame: str
    home: NDArray[np.float64]
    held_joint: int | None
    limits: JointLimits
    soft_limits: JointLimits
    allowed_collisions: tuple[tuple[str, str], ...] = ()
    tool_pitch: float = 0.0
    tool_yaw: float = 0.0
    topics: Topics = field(default_factory=Topics)


def load_arm(path: str | Path = "panda_stick") -> ArmDescription:
    """Read an arm's YAML file, or a shipped one by its name.

    Raises:
        ArmError: the file or one of its keys is missing or malformed.
        LimitsError: neither the URDF nor the file gives a limit, or the file gives a wider one than the URDF.
    """
    file = Path(path)
    if file.suffix not in (".yaml", ".yml"):
        file = ROBOTS / f"{path}.yaml"
    if not file.is_file():
        raise ArmError(f"no arm description '{path}'; shipped ones: {', '.join(shipped_arms())}")
    content = _content(file)
    if not isinstance(content["joints"], list):
        raise ArmError(f"{file}: joints must be a list of names")
    joints = tuple(str(name) for name in content["joints"])
    if len(set(joints)) != len(joints):
        raise ArmError(f"{file}: a joint is given twice")
    try:
        home = np.array(content["home"], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArmError(f"{file}: home must be a list of angles: {error}") from error
    if home.shape != (len(joints),):
        raise ArmError(f"{file}: home has {home.size} angles for {len(joints)} joints")
    held = content.get("held_joint")
    if held is not None and held not in joints:
        raise ArmError(f"{file}: held_joint '{held}' is not one of the joints")
    urdf = locate(str(content["urdf"]), file.parent)
    limits = read_limits(urdf, joints, content.get("limits"), file)
    try:
        soft = narrowed(limits, content.get("soft_limits"))
    except LimitsError as error:
        raise LimitsError(f"{file}: soft_limits: {error}") from error
    if not np.all((home > limits.lower) & (home < limits.upper)):
        raise ArmError(f"{file}: home lies outside the position limits")
    if not np.all((home >= soft.lower) & (home <= soft.upper)):
        raise ArmError(f"{file}: home lies outside soft_limits")
    return ArmDescription(
        name=str(content["name"]),
        urdf=urdf,
        joints=joints,
        base_frame=str(content["base_frame"]),
        tool_frame=str(content["tool_frame"]),
        home=home,
        held_joint=None if held is None else joints.index(held),
        limits=limits,
        soft_limits=soft,
        allowed_collisions=_pairs(content.get("allowed_collisions"), file),
        tool_pitch=_angle("tool_pitch", content, file),
        tool_yaw=_angle("tool_yaw", content, file),
        topics=_topics(content.get("topics"), file),
    )


def shipped_arms() -> tuple[str, ...]:
    """Names of the arms that come with this package."""
    return tuple(sorted(file.stem for file in ROBOTS.glob("*.yaml")))


def _content(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArmError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ArmError(f"{file}: not a mapping")
    missing = set(_REQUIRED) - content.keys()
    if missing:
        raise ArmError(f"{file}: missing {', '.join(sorted(missing))}")
    for key in content.keys() - {*_REQUIRED, *_OPTIONAL}:
        known = [*_REQUIRED, *_OPTIONAL]
        raise ArmError(f"{file}: unknown key '{key}'; {did_you_mean(key, known) or 'there are ' + ', '.join(known)}")
    return content


def _pairs(value: object, file: Path) -> tuple[tuple[str, str], ...]:
    pairs = [] if value is None else value
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 and pair[0] != pair[1] for pair in pairs):
        raise ArmError(f"{file}: allowed_collisions must be a list of pairs of links: [[a, b], ...]")
    return tuple((str(a), str(b)) for a, b in pairs)


def _angle(key: str, content: dict[str, Any], file: Path) -> float:
    value = content.get(key, 0.0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= np.pi:
        raise ArmError(f"{file}: {key} must be an angle between -pi and pi, not {value}")
    return float(value)


def _topics(value: object, file: Path) -> Topics:
    known = {entry.name for entry in fields(Topics)}
    names = {} if value is None else value
    if not isinstance(names, dict) or names.keys() - known:
        raise ArmError(f"{file}: topics may name {', '.join(sorted(known))}, not {names}")
    for key, topic in names.items():
        if not isinstance(topic, str) or not topic.startswith("/") or topic.endswith("/") or " " in topic:
            raise ArmError(f"{file}: topics.{key} must be an absolute topic name like {getattr(Topics(), key)}, not {topic}")
    return Topics(**names)
