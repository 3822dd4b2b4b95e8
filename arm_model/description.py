"""An arm as one YAML file beside its URDF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from arm_model.limits import JointLimits, read_limits

ROBOTS = Path(__file__).parent / "robots"


class ArmError(ValueError):
    """An arm description that cannot be used, with the reason in one line."""


@dataclass(frozen=True)
class ArmDescription:
    """What the planner, the guardrail and the simulator know of an arm.

    ``home`` is ``(J,) float64, rad``; ``held_joint`` is the index of the redundant joint that inverse kinematics keeps at its home angle.
    """

    name: str
    urdf: Path
    joints: tuple[str, ...]
    base_frame: str
    tool_frame: str
    home: NDArray[np.float64]
    held_joint: int
    limits: JointLimits


def load_arm(path: str | Path = "panda_stick") -> ArmDescription:
    """Read an arm's YAML file, or a shipped one by its name.

    Raises:
        ArmError: the file or one of its keys is missing or malformed.
        LimitsError: the URDF lacks a limit.
    """
    file = Path(path)
    if file.suffix not in (".yaml", ".yml"):
        file = ROBOTS / f"{path}.yaml"
    if not file.is_file():
        raise ArmError(f"no arm description '{path}'; shipped ones: {', '.join(sorted(p.stem for p in ROBOTS.glob('*.yaml')))}")
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArmError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ArmError(f"{file}: not a mapping")
    missing = {"name", "urdf", "joints", "base_frame", "tool_frame", "home", "held_joint"} - content.keys()
    if missing:
        raise ArmError(f"{file}: missing {', '.join(sorted(missing))}")
    if not isinstance(content["joints"], list):
        raise ArmError(f"{file}: joints must be a list of names")
    try:
        joints = tuple(str(name) for name in content["joints"])
        home = np.array(content["home"], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArmError(f"{file}: home must be a list of angles: {error}") from error
    if len(set(joints)) != len(joints):
        raise ArmError(f"{file}: a joint is given twice")
    if home.shape != (len(joints),):
        raise ArmError(f"{file}: home has {home.size} angles for {len(joints)} joints")
    if content["held_joint"] not in joints:
        raise ArmError(f"{file}: held_joint '{content['held_joint']}' is not one of the joints")
    urdf = (file.parent / str(content["urdf"])).resolve()
    limits = read_limits(urdf, joints)
    if not np.all((home > limits.lower) & (home < limits.upper)):
        raise ArmError(f"{file}: home lies outside the position limits")
    return ArmDescription(
        name=str(content["name"]),
        urdf=urdf,
        joints=joints,
        base_frame=str(content["base_frame"]),
        tool_frame=str(content["tool_frame"]),
        home=home,
        held_joint=joints.index(content["held_joint"]),
        limits=limits,
    )
