"""The body: what an arm is, how far and how fast its joints may go, and where its tool is."""

from arm_model.description import ArmDescription, ArmError, load_arm
from arm_model.kinematics import Kinematics, UnreachableError
from arm_model.limits import JointLimits, LimitsError
from arm_model.tool_step import ToolStep

__all__ = ["ArmDescription", "ArmError", "JointLimits", "Kinematics", "LimitsError", "ToolStep", "UnreachableError", "load_arm"]
