"""Which nodes a physical arm needs, with which parameters and which names. Pure: ``arm.launch.py`` starts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arm_model import load_arm
from latent_mpc.bringup import find_shared
from latent_mpc.commissioning.robot_setup import RobotSetupError, read_robot_setup
from latent_mpc.launch_parameters import existing, given, overlay
from latent_mpc.topic_names import CAMERA_IMAGE, CAMERA_INFO, JOINT_STATES, remaps, resolved
from world_model.bundle import read_manifest

FRAMED_IMAGE, FRAMED_INFO = "framed/image_raw", "framed/camera_info"
"""Pictures of the model's size, where the camera's are of another."""


def arm_nodes(asked: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str]]]:
    """Parameters of each node by its name, and the remap rules of all of them, for the arguments of ``arm.launch.py``.

    Raises:
        RobotSetupError: no such robot, none with an arm description, or a speed that is none.
        BringupError, BundleError, ArmError: the model or the arm description is missing or cannot be used.
    """
    setup = read_robot_setup(asked["robot"]).in_namespace(asked["namespace"])
    described = existing(asked["arm"] or setup.arm)
    if not described:
        raise RobotSetupError(f"{setup.name} comes without an arm description: write one (docs/deploy.md) and say arm:=<file.yaml>")
    arm = load_arm(described)
    model = str(find_shared(asked["model"]))
    output = setup.command.output
    other = {
        JOINT_STATES: asked["joint_states"] or setup.joint_states.topic,
        getattr(arm.topics, output): asked["command"] or setup.command.topic,
        CAMERA_IMAGE: asked["camera_image"] or setup.camera.image,
        CAMERA_INFO: asked["camera_info"] or setup.camera.info,
    }
    other[arm.topics.joint_states] = other[JOINT_STATES]
    nodes: dict[str, dict[str, Any]] = {}
    framed_by_perception = setup.camera.framed and asked.get("framing") == "perception"
    if setup.camera.framed and not framed_by_perception:
        height, width, _ = read_manifest(model).frame
        # It alone hears the camera itself; every other node hears what it makes of the pictures.
        nodes["framing_node"] = {
            "image_topic": resolved(other[CAMERA_IMAGE], asked["namespace"]),
            "info_topic": resolved(other[CAMERA_INFO], asked["namespace"]),
            "framed_image_topic": resolved(FRAMED_IMAGE, asked["namespace"]),
            "framed_info_topic": resolved(FRAMED_INFO, asked["namespace"]),
            "width": width,
            "height": height,
        }
        other[CAMERA_IMAGE], other[CAMERA_INFO] = FRAMED_IMAGE, FRAMED_INFO
    nodes["perception_node"] = {"model": model, **({"framing": True} if framed_by_perception else {})}
    nodes["planner_node"] = {"model": model, "robot": described, **given(asked, mode="mode", zones="zones")}
    if asked["steps"]:
        nodes["planner_node"]["steps"] = int(asked["steps"])
    nodes["guardrail_node"] = {
        # What this driver needs, unless the user's own file says otherwise.
        **{key: value for key, value in setup.guardrail.items() if key not in overlay(asked["params"], "guardrail_node", asked["namespace"])},
        "robot": described,
        "output": output,
        "velocity_scale": _speed(asked["speed"]),
        "shadow": asked["shadow"] == "true",
        **{key: existing(value) for key, value in given(asked, scene="scene", workspace="workspace").items()},
    }
    if asked["record"]:
        nodes["recorder_node"] = {"output": asked["record"]}
    return nodes, remaps(asked["namespace"], other)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.01 <= speed <= 1.0:
        raise RobotSetupError(f"speed is {text}, must be a share of the velocity limits between 0.01 and 1")
    return speed
