"""What a physical arm runs, as processes, against a double of its driver and camera: in shadow, then in motion at a tenth of its speed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import yaml
from bundles import write_bundle
from conftest import arm_by, wait_until

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from latent_mpc.bringup import MODULES, parameter_file
from latent_mpc.commissioning.arm_bringup import arm_nodes
from latent_mpc.commissioning.robot_setup import RobotSetupError, known_robots, read_robot_setup
from latent_mpc.launch_arguments import ARM
from latent_mpc.processes import NodeCommand
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from arm_model import load_arm
from ros_bridge import qos
from ros_bridge.diagnostics import status_values
from ros_bridge.images import array_to_image
from ros_bridge.stamps import header_at, now_ns

PANDA = load_arm("panda_stick")
ROBOT = {
    "name": "rehearsal",
    "arm": "panda_stick",
    "joints": list(PANDA.joints),
    "driver": {"package": "latent_mpc", "controller": "rehearsal_controller"},
    "joint_states": {"topic": "/rehearsal/joint_states", "rate_hz": 100.0},
    "command": {"topic": "/rehearsal_controller/joint_trajectory"},
    "camera": {"image": "/camera/image_raw", "info": "/camera/camera_info", "rate_hz": 20.0},
    "description": "",
    # The driver of this test shares two cores with whatever else runs.
    "guardrail": {"joint_timeout_s": 1.0},
}
SPEED = 0.1


def asked(**given):
    return {argument.name: argument.default or "" for argument in ARM} | given


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    file = tmp_path_factory.mktemp("robots") / "rehearsal.yaml"
    file.write_text(yaml.safe_dump(ROBOT))
    return str(file)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(write_bundle(tmp_path_factory.mktemp("models") / "untrained"))


class Operator:
    """Who shows the goal, arms, and watches what reaches the arm."""

    def __init__(self):
        self.node = rclpy.create_node("operator")
        self.counts, self.states, self.shadow, self.commands = {}, [], [], []
        self.status = DiagnosticStatus()
        self._asking = {}
        self._goal = self.node.create_publisher(Image, "/goal/image", qos.GOAL)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.STATUS)
        self.node.create_subscription(DiagnosticStatus, "/guardrail/status", lambda msg: setattr(self, "status", msg), qos.STATUS)
        self.node.create_subscription(JointState, ROBOT["joint_states"]["topic"], self._on_state, qos.JOINT_STATES)
        self.node.create_subscription(JointTrajectory, "/guardrail/shadow", self.shadow.append, QoSProfile(depth=100))
        self.node.create_subscription(JointTrajectory, ROBOT["command"]["topic"], self.commands.append, QoSProfile(depth=100))
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self):
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    def call(self, service):
        # One client for good: an answer is lost if whoever gives it has not matched a new one's reader yet.
        if service not in self._asking:
            self._asking[service] = self.node.create_client(Trigger, f"/guardrail_node/{service}")
        client = self._asking[service]
        assert client.wait_for_service(30.0)
        answer = client.call_async(Trigger.Request())
        wait_until(answer.done, what=f"answer of {service}")
        return answer.result()

    def show_goal(self):
        pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
        self._goal.publish(array_to_image(pixels, header_at(now_ns(self.node))))

    def show_goal_until(self, condition, what, timeout_s=60.0):
        """Show the goal, and show it anew when nothing has come of it: it is pursued for four seconds only, however much of them the machine took."""
        due_s = time.monotonic()

        def shown():
            nonlocal due_s
            if time.monotonic() >= due_s:
                self.show_goal()
                due_s = time.monotonic() + 5.0
            return condition()

        wait_until(shown, timeout_s, what)

    def _on_diagnostics(self, msg):
        for status in msg.status:
            if status.name == "robot_double":
                self.counts = {key: int(value) for key, value in status_values(status).items()}

    def _on_state(self, msg):
        order = [msg.name.index(name) for name in PANDA.joints]
        self.states.append(np.array(msg.position)[order])


@pytest.fixture
def operator(ros_context):
    node = Operator()
    yield node
    node.close()


def start(start_node, tmp_path, robot, bundle, **given):
    """The double, and the nodes that arm.launch.py would start, with the same parameters and names."""
    start_node("latent_mpc.commissioning.double_node", "-p", f"robot:={robot}")
    nodes, names = arm_nodes(asked(robot=robot, model=bundle, **given))
    started = {}
    for name, parameters in nodes.items():
        overrides = tmp_path / f"{name}.yaml"
        overrides.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
        remaps = {} if name == "framing_node" else dict(names)
        line = NodeCommand(name, MODULES[name], parameter_file(name), {}, remaps=remaps).arguments()
        started[name] = start_node(MODULES[name], *line[line.index("--ros-args") + 1 :], "--params-file", str(overrides))
    return started


def test_in_shadow_everything_plans_and_nothing_reaches_the_arm(operator, start_node, tmp_path, robot, bundle):
    started = start(start_node, tmp_path, robot, bundle)
    assert set(started) == {"framing_node", "perception_node", "planner_node", "guardrail_node"}
    wait_until(lambda: operator.counts and operator.status.message == "DISARMED", 60.0, "all nodes")
    assert status_values(operator.status)["shadow"] == "true"
    arm_by(operator.call)
    operator.show_goal_until(lambda: operator.status.message == "TRACKING", "plans that are followed")

    def moved():
        tracked = np.array([msg.points[0].positions for msg in list(operator.shadow)])
        return len(tracked) > 50 and np.abs(tracked - tracked[0]).max() > 1e-3

    operator.show_goal_until(moved, "a shadow that moves")
    # The double reports once a second.
    time.sleep(1.5)
    assert not operator.commands
    assert operator.counts["accepted"] == 0
    assert np.ptp(np.array(operator.states), axis=0).max() == 0.0
    assert operator.node.count_publishers(ROBOT["command"]["topic"]) == 0, "in shadow nobody may even offer commands"
    assert all(node.stop() == 0 for node in started.values()), [node.output for node in started.values()]


def test_a_first_motion_keeps_to_a_tenth_of_the_speed_and_the_controller_takes_every_command(operator, start_node, tmp_path, robot, bundle):
    started = start(start_node, tmp_path, robot, bundle, shadow="false", speed=str(SPEED))
    wait_until(lambda: operator.counts and operator.status.message == "DISARMED", 60.0, "all nodes")
    arm_by(operator.call)
    operator.show_goal_until(lambda: operator.states and np.ptp(np.array(operator.states), axis=0).max() > 0.05, "motion")
    assert operator.call("stop").success
    wait_until(lambda: operator.status.message == "STOPPED", what="a stop")
    # The double reports once a second.
    wait_until(lambda: operator.counts["accepted"] > 20, what="commands that were taken")
    # What ended before the double got round to it tells of the machine that both share.
    assert operator.counts["refused"] == operator.counts["late"] <= operator.counts["accepted"] // 20 and operator.counts["not_finite"] == 0
    velocities = np.array([point.velocities for msg in operator.commands for point in msg.points])
    assert (np.abs(velocities) <= SPEED * PANDA.limits.velocity * (1 + 1e-6)).all()
    assert np.abs(velocities).max() > 0.2 * SPEED * PANDA.limits.velocity.min()
    assert not operator.shadow
    last = operator.commands[-1]
    end = np.array(last.points[-1].positions)[[last.joint_names.index(name) for name in PANDA.joints]]
    wait_until(lambda: np.abs(operator.states[-1] - end).max() < 1e-6, what="the arm where the last command ends")
    settled = operator.states[-1]
    time.sleep(0.3)
    assert np.array_equal(operator.states[-1], settled), "the arm moves after a stop"
    assert all(node.stop() == 0 for node in started.values()), [node.output for node in started.values()]


@pytest.mark.parametrize("name", known_robots())
def test_every_shipped_robot_is_brought_up_or_says_what_it_lacks(name, bundle):
    setup = read_robot_setup(name)
    if not setup.arm:
        with pytest.raises(RobotSetupError, match="without an arm description"):
            arm_nodes(asked(robot=name, model=bundle))
        return
    nodes, names = arm_nodes(asked(robot=name, model=bundle))
    assert load_arm(setup.arm).joints == setup.joints
    assert nodes["guardrail_node"]["velocity_scale"] == 0.1 and nodes["guardrail_node"]["shadow"] is True
    renamed = dict(names)
    topics = load_arm(setup.arm).topics
    assert renamed.get(topics.trajectory, topics.trajectory) == setup.command.topic
    framed = renamed.get("/camera/image_raw", "/camera/image_raw")
    assert framed == ("/framed/image_raw" if setup.camera.framed else setup.camera.image)


@pytest.mark.parametrize("speed", ["0", "-1", "1.5", "fast", "nan"])
def test_a_speed_that_is_none_is_refused(robot, bundle, speed):
    with pytest.raises(RobotSetupError, match=r"between 0\.01 and 1"):
        arm_nodes(asked(robot=robot, model=bundle, speed=speed))


def test_perception_frames_when_it_is_asked_to_and_hears_the_camera_itself(robot, bundle):
    through_a_node, renamed = arm_nodes(asked(robot=robot, model=bundle))
    assert "framing_node" in through_a_node and "framing" not in through_a_node["perception_node"]
    assert dict(renamed)["/camera/image_raw"] == "/framed/image_raw"
    at_once, renamed = arm_nodes(asked(robot=robot, model=bundle, framing="perception", camera_image="/usb/image"))
    assert set(at_once) == set(through_a_node) - {"framing_node"} and at_once["perception_node"]["framing"] is True
    assert dict(renamed)["/camera/image_raw"] == "/usb/image" and "/camera/camera_info" not in dict(renamed)


def test_in_a_namespace_every_name_of_the_robot_moves_but_those_that_are_given(robot, bundle):
    nodes, names = arm_nodes(asked(robot=robot, model=bundle, namespace="arm1", joint_states="/lab/joint_states"))
    renamed = dict(names)
    assert renamed["/joint_states"] == "/lab/joint_states"
    assert renamed["/planner/plan"] == "/arm1/planner/plan"
    assert renamed["/joint_trajectory_controller/joint_trajectory"] == "/arm1/rehearsal_controller/joint_trajectory"
    assert nodes["framing_node"]["image_topic"] == "/arm1/camera/image_raw"
    assert nodes["framing_node"]["framed_image_topic"] == renamed["/camera/image_raw"] == "/arm1/framed/image_raw"
