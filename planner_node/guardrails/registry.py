"""Guardrails of the search by name, from YAML: the one place to add one.

.. code-block:: yaml

    workspace: {lower: [0.36, -0.25, 0.06], upper: [0.64, 0.25, 0.32]}  # or nothing: the task's own box
    zones: [{centre: [0.5, 0.1], half: [0.09, 0.02], yaw: 0.8, radius: 0.0}]
    keep_out: [{name: post, box: {min: [0.4, 0.1, 0.0], max: [0.45, 0.2, 0.3]}}, {name: ceiling, half_space: {normal: [0, 0, -1], offset: -0.5}}]
    clearance: 0.012               # m that the tool keeps from zones and solids
    tool_speed: {limit: 0.25}      # m/s
    joint_position: {margin: 0.05} # rad inside the soft limits
    joint_velocity: {scale: 0.9, joints: {panda_joint1: 1.0}}
    joint_acceleration: {scale: 0.9}
    collision: {clearance: 0.01, scene: [...]}  # the arm with itself and with obstacles; or the path of a scene
    singularity: {least: 0.03}
    lattice: {spacing: 0.03}       # m between the places where joints are solved for
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from arm_model import EMPTY, ArmDescription, CollisionModel, Kinematics, Scene, ToolStep, read_scene
from arm_model.scene import parse_scene
from planner_node.action import ActionMeaning
from planner_node.guardrails.exact import PostureCheck
from planner_node.guardrails.guardrail import Guardrail
from planner_node.guardrails.joint_map import JointMap, least_distance, least_room, least_singular_value, solve_map
from planner_node.guardrails.joint_motion import JointAccelerationGuardrail, JointVelocityGuardrail
from planner_node.guardrails.keep_out import KeepOutGuardrail
from planner_node.guardrails.lattice import Lattice
from planner_node.guardrails.options import GuardrailError, Options, require_known
from planner_node.guardrails.posture import CollisionGuardrail, JointPositionGuardrail, SingularityGuardrail
from planner_node.guardrails.tool_speed import ToolSpeedGuardrail
from planner_node.guardrails.workspace import WorkspaceGuardrail
from planner_node.guardrails.zone import ZoneGuardrail, parse_zones

CLEARANCE_M = 0.012
_SPACING_M = 0.03
_MOST_NODES = 60_000


class Workshop:
    """What guardrails are built from. The map of joints is solved when the first of them asks for it, and only once."""

    def __init__(self, arm: ArmDescription, kinematics: Kinematics, step: ToolStep, clearance: float, spacing: float) -> None:
        self.arm = arm
        self.kinematics = kinematics
        self.step = step
        self.clearance = clearance
        self._spacing = spacing
        self._map: JointMap | None = None

    @property
    def map(self) -> JointMap:
        """Joints over the workspace of the task."""
        if self._map is None:
            lattice = Lattice.over(self.step.lower, self.step.upper, self._spacing)
            if (nodes := int(lattice.counts[0] * lattice.counts[1] * lattice.counts[2])) > _MOST_NODES:
                raise GuardrailError(f"lattice: spacing {self._spacing} m makes {nodes} places in the workspace; choose it larger")
            self._map = solve_map(self.kinematics, lattice)
            if self._map.closed.all():
                raise GuardrailError(f"arm '{self.arm.name}' reaches nothing of the workspace {list(self.step.lower)} .. {list(self.step.upper)}")
        return self._map


def build_guardrails(text_or_path: str | Path, arm: ArmDescription, kinematics: Kinematics, meaning: ActionMeaning) -> list[Guardrail]:
    """The guardrails that a YAML file, or YAML text, asks for; see the head of this module. Nothing asks for the task's workspace alone.

    ``scene`` may be a path relative to the file. With anything that needs joints, this takes seconds: joints are solved for over the workspace.

    Raises:
        GuardrailError: a name, an option or a joint is unknown, a number is out of its range, or the actions move no tool.
        ZoneError: a zone is malformed.
        SceneError: a solid or the scene is malformed.
        ArmError: the arm's collision shapes cannot be read.
    """
    content = _content(text_or_path)
    if not isinstance(meaning, ToolStep):
        if content:
            raise GuardrailError(f"guardrails are for arms: these actions move no tool point, so '{next(iter(content))}' means nothing")
        return []
    shared = Options("guardrails", {"clearance": content.get("clearance", CLEARANCE_M)})
    spacing = Options.of("lattice", content.get("lattice"), ["spacing"]).number("spacing", _SPACING_M, above=True)
    workshop = Workshop(arm, kinematics, meaning, shared.number("clearance", None), spacing)
    asked = {"workspace": None, **content}
    guardrails: list[Guardrail] = []
    for name, build in BUILDERS.items():
        if name in asked:
            guardrails += build(asked[name], workshop)
    return guardrails


def build_posture_check(text_or_path: str | Path, arm: ArmDescription) -> PostureCheck | None:
    """The check of a chosen plan's joints that goes with ``collision`` in the same YAML; None where nothing asks for it.

    Raises:
        GuardrailError: as for ``build_guardrails``.
        SceneError: the scene is malformed.
        ArmError: the arm's collision shapes cannot be read.
    """
    content = _content(text_or_path)
    if "collision" not in content:
        return None
    return PostureCheck(*_collision_model(content["collision"], arm))


def _workspace(value: object, workshop: Workshop) -> list[Guardrail]:
    options = Options.of("workspace", value, ("lower", "upper"))
    step = workshop.step
    if not options.content:
        return [WorkspaceGuardrail(step)]
    try:
        corners = {"lower": options.content.get("lower", list(step.lower)), "upper": options.content.get("upper", list(step.upper))}
        box = ToolStep.from_json({"length_m": step.length_m, "period_s": step.period_s, **corners})
    except ValueError as error:
        raise GuardrailError(f"workspace: {error}") from error
    # Tighter than the task's, never wider.
    lower = tuple(max(a, b) for a, b in zip(box.lower, step.lower, strict=True))
    upper = tuple(min(a, b) for a, b in zip(box.upper, step.upper, strict=True))
    if any(a > b for a, b in zip(lower, upper, strict=True)):
        raise GuardrailError(f"workspace {list(box.lower)} .. {list(box.upper)} lies outside the task's {list(step.lower)} .. {list(step.upper)}")
    try:
        return [WorkspaceGuardrail(ToolStep(step.length_m, step.period_s, (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])))]
    except ValueError as error:
        raise GuardrailError(f"workspace: {error}") from error


def _zones(value: object, workshop: Workshop) -> list[Guardrail]:
    return [ZoneGuardrail(zone, workshop.clearance) for zone in parse_zones(value)]


def _keep_out(value: object, workshop: Workshop) -> list[Guardrail]:
    return [KeepOutGuardrail(obstacle, workshop.clearance) for obstacle in parse_scene(value).obstacles]


def _tool_speed(value: object, workshop: Workshop) -> list[Guardrail]:
    return [ToolSpeedGuardrail(Options.of("tool_speed", value, ["limit"]).number("limit", None, above=True), workshop.step.period_s)]


def _joint_position(value: object, workshop: Workshop) -> list[Guardrail]:
    soft = workshop.arm.soft_limits
    half = float((soft.upper - soft.lower).min()) / 2
    margin = Options.of("joint_position", value, ["margin"]).number("margin", 0.0, most=half)
    return [JointPositionGuardrail(least_room(workshop.map, workshop.kinematics, soft.lower + margin, soft.upper - margin))]


def _joint_velocity(value: object, workshop: Workshop) -> list[Guardrail]:
    options = Options.of("joint_velocity", value, ("scale", "joints"))
    scaled = workshop.arm.limits.velocity * options.number("scale", 1.0, most=1.0, above=True)
    limit = options.per_joint("joints", workshop.arm.joints, scaled)
    return [JointVelocityGuardrail(workshop.map, limit, workshop.step.period_s)]


def _joint_acceleration(value: object, workshop: Workshop) -> list[Guardrail]:
    options = Options.of("joint_acceleration", value, ("scale", "joints"))
    scaled = workshop.arm.limits.acceleration * options.number("scale", 1.0, most=1.0, above=True)
    limit = options.per_joint("joints", workshop.arm.joints, scaled)
    return [JointAccelerationGuardrail(workshop.map, limit, workshop.step.period_s)]


def _collision(value: object, workshop: Workshop) -> list[Guardrail]:
    model, clearance = _collision_model(value, workshop.arm)
    return [CollisionGuardrail(least_distance(workshop.map, workshop.kinematics, model), clearance)]


def _collision_model(value: object, arm: ArmDescription) -> tuple[CollisionModel, float]:
    options = Options.of("collision", value, ("clearance", "scene"))
    clearance = options.number("clearance", 0.01)
    scene = options.content.get("scene")
    return CollisionModel(arm, EMPTY if scene is None else scene if isinstance(scene, Scene) else parse_scene(scene)), clearance


def _singularity(value: object, workshop: Workshop) -> list[Guardrail]:
    least = Options.of("singularity", value, ["least"]).number("least", 0.03)
    return [SingularityGuardrail(least_singular_value(workshop.map, workshop.kinematics), least)]


# What is cheap and fails most often comes first.
BUILDERS: dict[str, Callable[[object, Workshop], list[Guardrail]]] = {
    "workspace": _workspace,
    "zones": _zones,
    "keep_out": _keep_out,
    "tool_speed": _tool_speed,
    "joint_position": _joint_position,
    "joint_velocity": _joint_velocity,
    "joint_acceleration": _joint_acceleration,
    "collision": _collision,
    "singularity": _singularity,
}


def _text(text_or_path: str | Path) -> tuple[str, Path]:
    text = str(text_or_path)
    if not isinstance(text_or_path, Path) and ("\n" in text or not text.endswith((".yaml", ".yml"))):
        return text, Path()
    try:
        return Path(text_or_path).read_text(), Path(text_or_path).parent
    except (OSError, UnicodeDecodeError) as error:
        raise GuardrailError(f"cannot read guardrails {text_or_path}: {error}") from error


def _mapping(text: str) -> dict[str, object]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise GuardrailError(f"guardrails are not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise GuardrailError(f"guardrails must be a mapping from names to options; names: {', '.join(BUILDERS)}")
    return {str(key): value for key, value in content.items()}


def _content(text_or_path: str | Path) -> dict[str, object]:
    """What the YAML holds, with a scene that is named by its path read in."""
    text, folder = _text(text_or_path)
    content = _mapping(text)
    require_known(content, (*BUILDERS, "clearance", "lattice"), "unknown guardrail", "ones")
    collision = content.get("collision")
    if isinstance(collision, dict) and isinstance(collision.get("scene"), str):
        content["collision"] = {**collision, "scene": read_scene(folder / collision["scene"])}
    return content
