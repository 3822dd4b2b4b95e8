"""What a proposer works with, made from parameters: by the planner node and by an offline replay alike, and without ROS."""

from __future__ import annotations

from arm_model import Kinematics, ToolStep, load_arm
from planner_node.guardrails.registry import build_guardrails, build_posture_check
from planner_node.planner_parameters import PlannerParameters
from planner_node.proposer import Equipment
from world_model.bundle import BundleError
from world_model.heads.onnx_head import OnnxHead
from world_model.runtimes import BundleModel, open_model
from world_model.runtimes.config import PLANNER_GRAPHS
from world_model.surprise import carried_calibration


def equip(p: PlannerParameters, graphs: tuple[str, ...] = PLANNER_GRAPHS) -> tuple[Equipment, BundleModel]:
    """What the parameters that are fixed at the start ask for, and the model in it; ``graphs`` are those that will run.

    Raises:
        ValueError: the bundle, the arm, a guardrail or a head cannot be read, or they do not belong together.
    """
    arm, model = load_arm(p.robot), open_model(p.model, p.runtime_config(graphs))
    manifest = model.manifest
    if manifest.joints != arm.joints:
        raise BundleError(f"{p.model} was trained for joints {', '.join(manifest.joints)}, not for those of {arm.name}")
    kinematics, tool_step = Kinematics(arm), ToolStep.from_json(manifest.tool_step)
    if tool_step.action_dim != manifest.action_dim:
        raise BundleError(f"{p.model}: its tool step drives {tool_step.action_dim} axes, its actions {manifest.action_dim}")
    posture = build_posture_check(p.guardrails, arm) if p.guardrails else None
    guardrails = tuple(build_guardrails(p.guardrails, arm, kinematics, tool_step)) if p.guardrails else ()
    heads = [OnnxHead(folder.strip(), manifest) for folder in p.guardrail_heads.split(",") if folder.strip()]
    cost_heads = tuple(head for head in heads if head.card.kind == "goal-cost")
    surprise = carried_calibration(manifest.surprise, manifest.sha256, manifest.latent_dim)
    safety_heads = tuple(head for head in heads if head not in cost_heads)
    return Equipment(arm, kinematics, tool_step, model, surprise, safety_heads, cost_heads, guardrails, posture), model
