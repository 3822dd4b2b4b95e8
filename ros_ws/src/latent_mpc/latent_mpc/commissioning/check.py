"""The whole check: everything that must be right before an arm moves for the first time."""

from __future__ import annotations

from arm_model import ArmDescription
from latent_mpc.commissioning.authority_checks import check_command, check_guardrail
from latent_mpc.commissioning.camera_checks import check_camera
from latent_mpc.commissioning.findings import Finding
from latent_mpc.commissioning.joint_checks import check_joints
from latent_mpc.commissioning.model_checks import check_model
from latent_mpc.commissioning.observation import Observation
from latent_mpc.commissioning.robot_setup import RobotSetup
from latent_mpc.commissioning.stream_checks import check_stream
from world_model.bundle import Manifest


def check(setup: RobotSetup, arm: ArmDescription | None, manifest: Manifest | None, seen: Observation) -> list[Finding]:
    """Every finding, in the order in which a set-up is built: driver, camera, model, controller, guardrail."""
    states, camera = setup.joint_states, setup.camera
    return [
        *check_stream("joint_states", states.topic, "sensor_msgs/msg/JointState", states.rate_hz, states.latency_ms, seen),
        *check_joints(setup, arm, seen),
        *check_stream("camera", camera.image, "sensor_msgs/msg/Image", camera.rate_hz, camera.latency_ms, seen),
        *check_stream("camera_info", camera.info, "sensor_msgs/msg/CameraInfo", camera.rate_hz, camera.latency_ms, seen),
        *check_camera(seen, camera.framed, manifest),
        *check_model(setup, arm, manifest),
        *check_command(setup, seen),
        *check_guardrail(seen.guardrail, setup, arm),
    ]
