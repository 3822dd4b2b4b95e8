"""The body: what an arm is, how far and how fast its joints may go, where its tool is, and what it must not touch."""

from arm_model.collision import CollisionModel, Nearby
from arm_model.description import ArmDescription, ArmError, Topics, load_arm, shipped_arms
from arm_model.kinematics import Kinematics, UnreachableError
from arm_model.limits import JointLimits, LimitsError
from arm_model.scene import EMPTY, Scene, SceneError, read_scene
from arm_model.tool_step import ToolStep

__all__ = [
    "EMPTY",
    "ArmDescription",
    "ArmError",
    "CollisionModel",
    "JointLimits",
    "Kinematics",
    "LimitsError",
    "Nearby",
    "Scene",
    "SceneError",
    "ToolStep",
    "Topics",
    "UnreachableError",
    "load_arm",
    "read_scene",
    "shipped_arms",
]
