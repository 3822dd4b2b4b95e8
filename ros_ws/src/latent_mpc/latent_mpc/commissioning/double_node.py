"""A double of a physical arm: driver, controller and camera of any robot file, for rehearsals and tests where no arm is at hand.

    python -m latent_mpc.commissioning.double_node --ros-args -p robot:=ur5e
    ros2 run latent_mpc robot_double --ros-args -p robot:=ur5e -p "mistakes:=[slow_camera, wrong_clock]"

It keeps the contract of the topics, not the dynamics of an arm: joints are where the controller wants them to be. The picture is a still one.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from arm_model import ArmDescription, load_arm
from latent_mpc.commissioning.double_controllers import ForwardControllerDouble, Point, RefusedError, TrajectoryControllerDouble
from latent_mpc.commissioning.mistakes import HIDING, MISTAKES
from latent_mpc.commissioning.robot_setup import RobotSetup, RobotSetupError, read_robot_setup
from ros_bridge.diagnostics import OK, WARN, DiagnosticsReport, status
from ros_bridge.images import array_to_image
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import run_node
from ros_bridge.stamps import header_at, now_ns, stamp_ns

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_AS_ROS2_CONTROL = QoSProfile(depth=10)
_UPDATE_S = 0.01
_STEADY = Clock(clock_type=ClockType.STEADY_TIME)


@dataclass(frozen=True)
class DoubleParameters:
    """Which robot is doubled, and what is wrong with it."""

    robot: str = parameter("sim", "a name in config/robots, or the path of such a file")
    arm: str = parameter("", "arm description in the place of the robot's")
    width: int = parameter(320, "pixels across of the camera's picture", at_least=1, at_most=4096)
    height: int = parameter(240, "pixels down of the camera's picture", at_least=1, at_most=4096)
    most_hz: float = parameter(100.0, "joint states per second at most: Python is no real-time driver", at_least=1.0, at_most=1000.0)
    mistakes: tuple[str, ...] = parameter(("none",), "names of mistakes to make; see latent_mpc/commissioning/mistakes.py")

    def __post_init__(self) -> None:
        for mistake in self.mistakes:
            if mistake not in {"none", *MISTAKES, *HIDING}:
                raise RobotSetupError(f"mistake '{mistake}' is not known; there are {', '.join((*MISTAKES, *HIDING))}")


class DoubleNode(Node):
    """The driver, its controller and the camera beside it."""

    def __init__(self, context: Context | None = None, given: DoubleParameters | None = None, setup: RobotSetup | None = None) -> None:
        """Make the node from its ROS parameters, or from what is ``given``; ``setup`` stands in the place of the robot's file."""
        super().__init__("robot_double", context=context)
        p = given or declare(self, DoubleParameters)
        self.setup = setup or read_robot_setup(p.robot)
        if not (p.arm or self.setup.arm):
            raise RobotSetupError(f"{self.setup.name} comes without an arm description: say -p arm:=<file.yaml>")
        self.arm = load_arm(p.arm or self.setup.arm)
        self._wrong = frozenset(p.mistakes)
        self._size = (p.width, p.height)
        self.position = self.arm.home.copy()
        if "joint_beyond_soft_limit" in self._wrong:
            self.position[0] = self.arm.soft_limits.upper[0] + 0.02
        self.trajectories = TrajectoryControllerDouble(self.arm.joints, self.position)
        self.arrays = ForwardControllerDouble(self.arm.joints)
        self._frozen_ns = now_ns(self)
        self._start_driver(min(p.most_hz, self.setup.joint_states.rate_hz))
        self._start_controller()
        if "no_camera" not in self._wrong:
            self._start_camera()
        self._report = DiagnosticsReport(self, lambda: [self._describe()])

    def _start_driver(self, rate_hz: float) -> None:
        topic = self.setup.joint_states.topic
        self._states = []
        if "no_joint_states" not in self._wrong:
            self._states = [self.create_publisher(JointState, topic, _AS_ROS2_CONTROL) for _ in range(1 + ("two_drivers" in self._wrong))]
        self.create_timer((10.0 if "slow_joint_states" in self._wrong else 1.0) / rate_hz, self._publish_state, clock=_STEADY)
        if self.setup.description and "no_description" not in self._wrong:
            self._description = self.create_publisher(String, self.setup.description, _LATCHED)
            self._description.publish(String(data=self._urdf()))

    def _start_controller(self) -> None:
        topic, trajectories = self.setup.command.topic, (self.setup.command.output == "trajectory") != ("other_controller_type" in self._wrong)
        kind, heard = (JointTrajectory, self._on_trajectory) if trajectories else (Float64MultiArray, self._on_array)
        profile = _LATCHED if "controller_wants_latched" in self._wrong else _AS_ROS2_CONTROL
        for number in range(0 if "no_controller" in self._wrong else 1 + ("two_controllers" in self._wrong)):
            self.create_subscription(kind, topic, heard, profile if number == 0 else _AS_ROS2_CONTROL)
        if "rival_commander" in self._wrong:
            self._rival = self.create_publisher(kind, topic, _AS_ROS2_CONTROL)
        self.create_timer(_UPDATE_S, self._update, clock=_STEADY)

    def _start_camera(self) -> None:
        width, height = self._size
        across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
        self._pixels = np.stack([across, down, 255.0 - across], axis=-1).astype(np.uint8)
        self._images = self.create_publisher(Image, self.setup.camera.image, _AS_ROS2_CONTROL)
        self._infos = None if "no_camera_info" in self._wrong else self.create_publisher(CameraInfo, self.setup.camera.info, _AS_ROS2_CONTROL)
        self.create_timer((5.0 if "slow_camera" in self._wrong else 1.0) / self.setup.camera.rate_hz, self._publish_picture, clock=_STEADY)

    def _publish_state(self) -> None:
        ns = now_ns(self)
        if "wrong_clock" in self._wrong:
            ns -= 5_000_000_000
        if "slow_link" in self._wrong:
            ns -= 300_000_000
        if "frozen_stamps" in self._wrong:
            ns = self._frozen_ns
        # joint_state_broadcaster sorts by nobody's order but its own.
        order = np.argsort(self.arm.joints)
        names = [self.arm.joints[index] for index in order]
        if "renamed_joint" in self._wrong:
            names[-1] = f"left_{names[-1]}"
        position = np.full(len(order), np.nan) if "no_positions" in self._wrong else self.position[order]
        for publisher in self._states:
            zeros = array("d", bytes(8 * len(names)))
            publisher.publish(JointState(header=header_at(ns), name=names, position=array("d", position.tobytes()), velocity=zeros))

    def _publish_picture(self) -> None:
        ns = now_ns(self) - (400_000_000 if "old_pictures" in self._wrong else 0)
        header = header_at(0 if "unstamped_pictures" in self._wrong else ns, "camera_color_optical_frame")
        picture = array_to_image(self._pixels, header)
        if "wrong_encoding" in self._wrong:
            picture.encoding = "32FC7"
        self._images.publish(picture)
        if self._infos is not None:
            self._infos.publish(self._calibration(header.stamp))

    def _calibration(self, stamp: Any) -> CameraInfo:
        width, height = self._size
        info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
        info.header.stamp = stamp
        info.header.frame_id = "camera_link" if "other_frame_id" in self._wrong else "camera_color_optical_frame"
        if "other_calibration_size" in self._wrong:
            info.width, info.height = 2 * width, 2 * height
        if "uncalibrated" not in self._wrong:
            info.k = [0.9 * width, 0.0, width / 2, 0.0, 0.9 * width, height / 2, 0.0, 0.0, 1.0]
            info.p = [0.9 * width, 0.0, width / 2, 0.0, 0.0, 0.9 * width, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
        return info

    def _urdf(self) -> str:
        """The arm's URDF with the limits of its description, as a driver would publish it."""
        return _as_described(self.arm, "tighter_driver_limits" in self._wrong, "driver_of_another_arm" in self._wrong)

    def _on_trajectory(self, msg: JointTrajectory) -> None:
        points = [Point(stamp_ns(p.time_from_start), p.positions, p.velocities, p.accelerations, p.effort) for p in msg.points]
        try:
            self.trajectories.accept(stamp_ns(msg.header.stamp), msg.joint_names, points, now_ns(self))
        except RefusedError as error:
            self.get_logger().error(str(error), throttle_duration_sec=1.0)

    def _on_array(self, msg: Float64MultiArray) -> None:
        try:
            self.arrays.accept(msg.data)
        except RefusedError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)

    def _update(self) -> None:
        output = self.setup.command.output
        if output == "trajectory":
            self.position = self.trajectories.update(now_ns(self)).position
            return
        try:
            values = self.arrays.update()
        except RefusedError as error:
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            return
        if values is not None:
            self.position = values.copy() if output == "position" else self.position + _UPDATE_S * values

    def _describe(self) -> DiagnosticStatus:
        counts = self.trajectories.counts + self.arrays.counts
        values: dict[str, str | int | float | bool] = {key.replace(" ", "_"): counts[key] for key in ("accepted", "refused", "not finite")}
        values["late"] = self.trajectories.late
        return status(self.get_name(), f"doubles {self.setup.name}", values, WARN if counts["refused"] or counts["not finite"] else OK)


def _as_described(arm: ArmDescription, tighter: bool, another: bool) -> str:
    root = ElementTree.parse(arm.urdf).getroot()
    tags = {tag.get("name"): tag for tag in root.findall("joint")}
    for index, name in enumerate(arm.joints):
        limit = tags[name].find("limit")
        if limit is None:
            limit = ElementTree.SubElement(tags[name], "limit")
        for kind in ("lower", "upper", "velocity"):
            limit.set(kind, repr(float(getattr(arm.limits, kind)[index])))
        if tighter and index == 1:
            limit.set("velocity", repr(0.5 * float(arm.limits.velocity[index])))
    if another:
        tags[arm.joints[-1]].set("name", "another_joint")
    return ElementTree.tostring(root, encoding="unicode")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return the exit status of the process."""
    return run_node(DoubleNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
