"""The launch files under the real launch, where it is installed: the wheels do not bring it."""

import importlib.util
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from bag_writing import START_NS, bag, image
from bundles import write_bundle
from conftest import REPOSITORY, NodeProcess, wait_until
from latent_mpc.bringup import MODULES
from latent_mpc.launch_arguments import FILES

launch = pytest.importorskip("launch", reason="ROS's launch is not installed: source a ROS 2, or see docs/launch.md")
launch_ros = pytest.importorskip("launch_ros", reason="ROS's launch_ros is not installed: source a ROS 2, or see docs/launch.md")

from latent_mpc.launching import RESPAWNED  # noqa: E402  (it needs launch)

GIVEN = {"arm": {"robot": "sim"}, "record": {"output": "bag"}, "replay": {"bag": "launch"}, "sim": {}}


@pytest.fixture(autouse=True, scope="module")
def replayed(tmp_path_factory):
    """A bag without calibrations, for ``GIVEN``."""
    GIVEN["replay"]["bag"] = str(tmp_path_factory.mktemp("recorded") / "bag")
    with bag(GIVEN["replay"]["bag"]) as write:
        write("/camera/image_raw", "sensor_msgs/msg/Image", START_NS, image(START_NS, np.zeros((4, 4, 3), np.uint8)))


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"{name}_launch", REPOSITORY / "launch" / f"{name}.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("models") / "untrained")


def started(name, **arguments):
    """The nodes of a launch file by their module, for launch ``arguments``."""
    asked = {argument.name: argument.default or "" for argument in FILES[name]} | GIVEN[name] | arguments
    actions = loaded(name).actions(asked)
    context = launch.LaunchContext()
    nodes = {}
    for node in actions:
        if isinstance(node, launch_ros.actions.Node):
            command = [launch.utilities.perform_substitutions(context, part) for part in node.cmd[:3]]
            assert command[:2] == [sys.executable, "-m"]
            nodes[command[2]] = node
    return nodes


@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_declared_as_its_table_says(name):
    declared = [a for a in loaded(name).generate_launch_description().entities if isinstance(a, launch.actions.DeclareLaunchArgument)]
    assert {argument.name for argument in declared} == {argument.name for argument in FILES[name]}
    required = {argument.name for argument in declared if argument.default_value is None}
    assert required == {argument.name for argument in FILES[name] if argument.default is None}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sim", ["sim_node", "perception_node", "planner_node", "guardrail_node"]),
        ("arm", ["perception_node", "planner_node", "guardrail_node"]),
        ("record", ["recorder_node"]),
        ("replay", ["perception_node", "planner_node", "guardrail_node"]),
    ],
)
def test_starts_its_nodes_and_respawns_all_but_the_guardrail_and_the_simulator(name, expected, bundle):
    arguments = {} if name == "record" else {"model": str(bundle)}
    nodes = started(name, **arguments)
    assert list(nodes) == [MODULES[node] for node in expected]
    if name != "record":
        assert list(started(name, record="somewhere", **arguments)) == [MODULES[node] for node in [*expected, "recorder_node"]]
    context = launch.LaunchContext()
    for node in expected:
        respawn = nodes[MODULES[node]]._ExecuteLocal__respawn  # launch offers no other way to ask
        respawn = respawn if isinstance(respawn, bool) else launch.utilities.type_utils.perform_typed_substitution(context, respawn, bool)
        assert respawn == (node in RESPAWNED)
    assert not {"guardrail_node", "sim_node"} & set(RESPAWNED)


def test_a_camera_of_another_size_is_framed(bundle):
    assert MODULES["framing_node"] in started("arm", robot="ur5e", arm="panda_stick", model=str(bundle))


def test_a_model_that_is_nowhere_is_one_line():
    with pytest.raises(ValueError, match=r"^models/none does not exist$"):
        started("sim", model="models/none")


RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [argument.split(":=", 1) for argument in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(LaunchDescription([
    IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)
]))
sys.exit(service.run())
"""


@pytest.fixture
def run(tmp_path, ros_context):
    """``run("sim", "task:=reach", ...)`` runs a launch file as a process of its own."""
    running = []

    def start(name, *arguments):
        file = REPOSITORY / "launch" / f"{name}.launch.py"
        running.append(NodeProcess(("-c", RUN, str(file), *arguments), tmp_path / f"{name}.log"))
        return running[-1]

    yield start
    for process in running:
        process.stop(timeout_s=30.0)


@pytest.fixture
def listener(ros_context):
    import rclpy

    node = rclpy.create_node("launch_listener")
    yield node
    node.destroy_node()


def children(process, module):
    """The processes of a node that a launch file started."""
    found = subprocess.run(["pgrep", "-P", str(process.process.pid), "-f", module], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def test_the_nodes_come_up_in_order_come_back_and_go_down(run, listener, bundle, tmp_path):
    zones = "[{centre: [0.5, 0.1], half: [0.09, 0.02], yaw: 0.8}]"
    launched = run("sim", f"model:={bundle}", f"zones:={zones}", f"record:={tmp_path / 'bag'}", "namespace:=arm1")
    expected = {f"/arm1/{name}" for name in MODULES} - {"/arm1/framing_node"}
    wait_until(lambda: expected <= {f"{space.rstrip('/')}/{name}" for name, space in listener.get_node_names_and_namespaces()}, 90.0, "all nodes")
    wait_until(lambda: "arm1/planner_node is active" in launched.output, 60.0, launched.output)
    assert launched.output.index("arm1/guardrail_node is active") < launched.output.index("arm1/planner_node is active")
    wait_until(lambda: listener.count_publishers("/arm1/perception/latent") > 0, 40.0, "perception")
    wait_until(lambda: listener.count_publishers("/arm1/joint_trajectory_controller/joint_trajectory") > 0, 40.0, "the guardrail")
    ours = {topic for topic, _ in listener.get_topic_names_and_types()}
    assert not {"/planner/plan", "/joint_states", "/camera/image_raw"} & ours
    wait_until(lambda: (tmp_path / "bag").is_dir(), 20.0, "the bag")
    for pid in (*children(launched, "planner_node.planner_node"), *children(launched, "latent_mpc.recorder_node")):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: (tmp_path / "bag-2").is_dir(), 40.0, "a second bag")
    wait_until(lambda: launched.output.count("arm1/planner_node is active") == 2, 60.0, "the planner again")
    assert launched.stop(timeout_s=30.0) == 0, launched.output


def test_everything_ends_with_the_guardrail_and_says_so(run, bundle):
    launched = run("sim", f"model:={bundle}")
    wait_until(lambda: "guardrail_node is active" in launched.output, 90.0, "the guardrail")
    for pid in children(launched, "planner_node.guardrail_node"):
        os.kill(pid, signal.SIGKILL)
    assert launched.process.wait(40) == 1
    assert "guardrail_node has died (status -9): everything is shut down" in launched.output


def test_nothing_outlives_a_launch_file_that_is_killed(run, bundle):
    launched = run("sim", f"model:={bundle}")
    wait_until(lambda: "planner_node is active" in launched.output, 90.0, "the planner")
    nodes = [pid for module in ("sim.sim_node", "planner_node", "world_model.perception_node") for pid in children(launched, module)]
    assert len(nodes) == 4
    launched.process.kill()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in nodes), 30.0, "the end of every node")


def test_what_a_node_refuses_ends_everything_instead_of_being_tried_for_ever(run, bundle, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("planner_node: {ros__parameters: {deadline_s: -1.0}}")
    launched = run("sim", f"model:={bundle}", f"params:={mine}")
    begun = time.monotonic()
    assert launched.process.wait(90) == 1, f"still there after {time.monotonic() - begun:.0f} s"
    assert "planner_node refuses what it was given" in launched.output and "deadline_s" in launched.output
