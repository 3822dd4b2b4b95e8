"""The simulated arm as ROS drivers would show it: camera, joint states and controllers, paced to the wall clock."""

from __future__ import annotations

import json
import os
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, Header, MultiArrayDimension, MultiArrayLayout
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from ros_bridge.diagnostics import ERROR, OK, WARN, DiagnosticsReport, Latencies, Value, status
from ros_bridge.images import array_to_image
from ros_bridge.joints import joint_state_message
from ros_bridge.parameters import declare, parameter
from ros_bridge.process import run_node
from ros_bridge.qos import CAMERA, GOAL, JOINT_STATES, STATUS
from ros_bridge.stamps import header_at, now_ns, stamp_ns
from sim.arm_world import PHYSICS_STEP_S
from sim.camera import OVERVIEW, Camera
from sim.controllers import CommandError, JointControllers, TrajectoryCommand
from sim.pacing import Pacer
from sim.tasks import Episode, PicturedGoalEnv, make_env
from sim.tasks.pictured_goal import SETPOINT_PERIOD_S

_TICK_NS = round(SETPOINT_PERIOD_S * 1e9)
_PHYSICS_PER_TICK = round(SETPOINT_PERIOD_S / PHYSICS_STEP_S)
_MOST_BEHIND_NS = 100_000_000
_TRUTH_EVERY = 5
# What comes while the simulator stalls is heard afterwards, in order: a controller on an arm would have heard it in time.
_COMMANDS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
# The timer runs this long after the grid of simulated time, so that each call finds exactly one tick due.
_AFTER_GRID_NS = 500_000


@dataclass(frozen=True)
class SceneParameters:
    """What is simulated."""

    task: str = parameter("reach", "name of the task whose scene and camera are simulated")
    camera_rate_hz: float = parameter(20.0, "camera pictures per second, on ticks of 10 ms", at_least=1.0, at_most=100.0)
    overview_rate_hz: float = parameter(5.0, "overview pictures per second, for people; 0 turns them off", at_least=0.0, at_most=50.0)
    gui: bool = parameter(False, "open PyBullet's window; needs a display")


@dataclass(frozen=True)
class EpisodeParameters:
    """Which episode the next reset plays."""

    episode_seed: int = parameter(0, "seed from which ~/reset draws start and goal", at_least=0)


class SimNode(Node):
    """One scene in real time. Simulated time is ROS time on a grid of 10 ms."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        self._scene = declare(self, SceneParameters)
        self._seed = declare(self, EpisodeParameters, self._on_episode).episode_seed
        if self._scene.gui and not os.environ.get("DISPLAY"):
            raise ValueError("parameter 'gui' needs a display: the environment variable DISPLAY is not set")
        self._env: PicturedGoalEnv = make_env(self._scene.task, gui=self._scene.gui)
        self._joints = self._env.world.arm.joints
        self._controllers = JointControllers(self._joints, self._env.world.arm.home)
        self._set_point = self._controllers.update(0, 0.0)
        self._ticks = self._overview_tick = 0
        self._rejected = 0
        self._refused_set_points = 0
        self._tick_ms = Latencies()
        self._reported_dropped_ns = 0

        self._overview_every = max(1, round(1e9 / _TICK_NS / self._scene.overview_rate_hz)) if self._scene.overview_rate_hz else 0
        self._image = self.create_publisher(Image, "/camera/image_raw", CAMERA)
        self._info = self.create_publisher(CameraInfo, "/camera/camera_info", CAMERA)
        self._overview = self.create_publisher(Image, "/overview/image_raw", CAMERA)
        self._states = self.create_publisher(JointState, "/joint_states", JOINT_STATES)
        self._sim_clock = self.create_publisher(Clock, "/clock", JOINT_STATES)
        self._truth = self.create_publisher(Float64MultiArray, "/sim/ground_truth", STATUS)
        self._goal = self.create_publisher(Image, "/sim/goal_image", GOAL)
        self.create_subscription(JointTrajectory, "/joint_trajectory_controller/joint_trajectory", self._on_trajectory, _COMMANDS)
        self.create_subscription(Float64MultiArray, "/forward_velocity_controller/commands", self._on_velocities, _COMMANDS)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._report = DiagnosticsReport(self, self._describe)

        self._pacer = Pacer(_TICK_NS, _MOST_BEHIND_NS, time.monotonic_ns(), now_ns(self))
        self._reset()
        # A process that was held up here is late already.
        time.sleep(max(0, self._pacer.time_ns + _TICK_NS + _AFTER_GRID_NS - now_ns(self)) / 1e9)
        self.create_timer(SETPOINT_PERIOD_S, self._on_time)
        self._behind = self.create_guard_condition(self._on_time)

    def destroy_node(self) -> None:
        """Disconnect from PyBullet as well."""
        if hasattr(self, "_env"):
            self._env.close()
        super().destroy_node()

    # Episodes.

    def _on_episode(self, parameters: EpisodeParameters, _: frozenset[str]) -> None:
        self._seed = parameters.episode_seed

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = json.dumps(self._reset())
        response.success = True
        return response

    def _reset(self) -> dict[str, Any]:
        """Draw the episode of the present seed, exactly as the Gymnasium environment does, and place arm and block at its start."""
        observation, info = self._env.reset(seed=self._seed)
        self._controllers.hold(self._env.kinematics.solve(self._env.commanded))
        self._set_point = self._controllers.update(0, 0.0)
        self._pacer.jump(time.monotonic_ns(), now_ns(self))
        goal = array_to_image(observation["goal"], header_at(self._pacer.time_ns, "camera"))
        self._goal.publish(goal)
        episode: Episode = info["episode"]
        return {
            "seed": episode.seed,
            "task": episode.task,
            "start_distance_m": info["distance_m"],
            "tolerance_m": self._env.task.tolerance_m,
            "steps": self._env.task.steps,
            "step_s": self._env.task.tool_step.period_s,
            "tool": list(episode.tool),
            "goal": self._goal_point(episode).tolist(),
            "goal_stamp_ns": self._pacer.time_ns,
        }

    # Commands.

    def _on_trajectory(self, msg: JointTrajectory) -> None:
        command = TrajectoryCommand(
            stamp_ns=stamp_ns(msg.header.stamp),
            joints=tuple(msg.joint_names),
            times_ns=tuple(stamp_ns(point.time_from_start) for point in msg.points),
            positions=tuple(point.positions for point in msg.points),
            velocities=tuple(point.velocities for point in msg.points),
        )
        try:
            self._controllers.follow(command, self._pacer.time_ns)
        except CommandError as error:
            self._reject("joint_trajectory_controller", error)

    def _on_velocities(self, msg: Float64MultiArray) -> None:
        try:
            self._controllers.drive(msg.data)
        except CommandError as error:
            self._reject("forward_velocity_controller", error)

    def _reject(self, controller: str, error: CommandError) -> None:
        self._rejected += 1
        self.get_logger().error(f"{controller}: {error}", throttle_duration_sec=1.0)

    # Time.

    def _on_time(self) -> None:
        """Run one tick if one is due. After a stall it is called again at once, with room for a command in between, as if there had been no stall."""
        due = self._pacer.due(time.monotonic_ns())
        if due:
            started = time.perf_counter()
            self._tick()
            self._tick_ms.add((time.perf_counter() - started) * 1e3)
        if due > 1:
            self._behind.trigger()
        elif due:
            self._publish_overview()

    def _tick(self) -> None:
        world = self._env.world
        # The set point was chosen at the end of the last tick: a command that comes now is for the next one, as in a controller that runs at 100 Hz.
        world.command(self._set_point.position)
        world.advance(_PHYSICS_PER_TICK)
        now = self._pacer.tick()
        self._ticks += 1
        set_point = self._controllers.update(now + _TICK_NS, SETPOINT_PERIOD_S)
        if np.isfinite(set_point.position).all():
            self._set_point = set_point
        else:
            self._refused_set_points += 1
        header = header_at(now)
        position, velocity = world.joints()
        self._states.publish(joint_state_message(self._joints, position, velocity, header))
        self._sim_clock.publish(Clock(clock=header.stamp))
        if self._pictures_until(self._ticks) > self._pictures_until(self._ticks - 1):
            in_camera = header_at(now, "camera")
            self._image.publish(array_to_image(self._env.render(), in_camera))
            self._info.publish(_camera_info(self._env.task.camera, in_camera))
        if self._ticks % _TRUTH_EVERY == 0:
            self._truth.publish(self._ground_truth())

    def _pictures_until(self, tick: int) -> int:
        """How many pictures the camera has taken by then. Where 100 Hz is no multiple of its rate, some are a tick farther apart than others."""
        return int(tick * self._scene.camera_rate_hz * _TICK_NS // 1_000_000_000)

    def _publish_overview(self) -> None:
        """The costliest picture by far, and nobody steers by it: it waits while the simulation is behind or nobody looks."""
        due = self._overview_every and self._ticks - self._overview_tick >= self._overview_every
        if due and self._overview.get_subscription_count():
            self._overview_tick = self._ticks
            self._overview.publish(array_to_image(OVERVIEW.render(self._env.world.client), header_at(self._pacer.time_ns, "overview")))

    # What is said.

    def _goal_point(self, episode: Episode) -> NDArray[np.float64]:
        """``(3,) m``: where the picture shows the block, or the tool in a task without one."""
        pictured = episode.goal_block
        return np.array(episode.goal_tool) if pictured is None else np.array([pictured.x, pictured.y, 0.0])

    def _ground_truth(self) -> Float64MultiArray:
        """Distance to the goal, tool x y z, block x y yaw, goal x y z, episode seed; zeros for a block that is not there."""
        episode, state = self._env.episode, self._env.state()
        assert episode is not None
        block = (0.0, 0.0, 0.0) if state.block is None else (state.block.x, state.block.y, state.block.yaw)
        values = [self._env.task.distance(state, episode), *state.tool, *block, *self._goal_point(episode), float(episode.seed)]
        layout = MultiArrayLayout(dim=[MultiArrayDimension(label="ground_truth", size=len(values), stride=len(values))])
        return Float64MultiArray(layout=layout, data=array("d", values))

    def _describe(self) -> Sequence[DiagnosticStatus]:
        dropped_ns = self._pacer.dropped_ns - self._reported_dropped_ns
        self._reported_dropped_ns = self._pacer.dropped_ns
        if self._refused_set_points:
            level, message = ERROR, "a command held a value that is not finite; the drives refused it"
        elif dropped_ns:
            level, message = WARN, f"slower than real time: dropped {dropped_ns / 1e6:.0f} ms"
        else:
            level, message = OK, "in step with real time"
        values: dict[str, Value] = {
            "task": self._scene.task,
            "episode_seed": self._seed,
            "controller": self._controllers.active,
            "dropped_ms": self._pacer.dropped_ns / 1e6,
            "tick_ms_p50": self._tick_ms.p50,
            "tick_ms_p99": self._tick_ms.p99,
            "rejected_commands": self._rejected,
            "refused_set_points": self._refused_set_points,
        }
        return [status("sim_node", message, values, level)]


def _camera_info(camera: Camera, header: Header) -> CameraInfo:
    k = camera.intrinsics()
    projection = np.hstack([k, np.zeros((3, 1))])
    return CameraInfo(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=array("d", [0.0] * 5),
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=projection.ravel(),
    )


def main() -> int:
    """Run the node; the exit status of the process."""
    return run_node(SimNode)


if __name__ == "__main__":
    sys.exit(main())
