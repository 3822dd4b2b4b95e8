"""The launch file, where ROS's launch is installed: the wheels do not bring it."""

import importlib.util
import sys

import pytest
from bundles import write_bundle
from conftest import REPOSITORY, NodeProcess, wait_until
from latent_mpc.bringup import MODULES

launch = pytest.importorskip("launch")
launch_ros = pytest.importorskip("launch_ros")

FILE = REPOSITORY / "launch" / "sim.launch.py"


@pytest.fixture(scope="module")
def file():
    spec = importlib.util.spec_from_file_location("sim_launch", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("models") / "untrained")


def started(file, **arguments):
    """The modules that the nodes of the launch file run, and all its actions, for launch ``arguments``."""
    context = launch.LaunchContext()
    context.launch_configurations.update({name: value for name, value, *_ in file.ARGUMENTS} | arguments)
    actions = file.nodes(context)
    nodes = [action for action in actions if isinstance(action, launch_ros.actions.Node)]
    modules = []
    for node in nodes:
        command = [launch.utilities.perform_substitutions(context, part) for part in node.cmd[:3]]
        assert command[:2] == [sys.executable, "-m"]
        modules.append(command[2])
    return modules, actions


def test_every_argument_is_declared_with_a_description(file):
    declared = [a for a in file.generate_launch_description().entities if isinstance(a, launch.actions.DeclareLaunchArgument)]
    assert {"task", "model", "mode", "zones", "output", "record", "domain", "gui"} <= {argument.name for argument in declared}
    assert all(argument.description and argument.default_value is not None for argument in declared)


def test_starts_every_node_and_the_recorder_only_when_asked(file, bundle):
    modules, actions = started(file, model=str(bundle))
    assert modules == [MODULES[name] for name in ("sim_node", "perception_node", "planner_node", "guardrail_node")]
    assert len(actions) == 4
    modules, actions = started(file, model=str(bundle), record="somewhere", domain="7")
    assert modules[-1] == MODULES["recorder_node"] and isinstance(actions[0], launch.actions.SetEnvironmentVariable)


def test_a_model_that_is_nowhere_is_one_line(file):
    with pytest.raises(ValueError, match=r"^models/none does not exist$"):
        started(file, model="models/none")


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


def test_the_nodes_come_up_and_go_down(bundle, tmp_path, ros_context):
    import rclpy

    listener = rclpy.create_node("launch_listener")
    zones = "[{centre: [0.5, 0.1], half: [0.09, 0.02], yaw: 0.8}]"
    launched = NodeProcess(("-c", RUN, str(FILE), f"model:={bundle}", f"zones:={zones}", f"record:={tmp_path / 'bag'}"), tmp_path / "log")
    try:
        wait_until(lambda: set(MODULES) <= set(listener.get_node_names()), 40.0, "all nodes")
        wait_until(lambda: listener.count_publishers("/perception/latent") > 0, 40.0, "perception")
        wait_until(lambda: (tmp_path / "bag" / "bag.mcap").is_file(), 10.0, "the bag")
    finally:
        status = launched.stop(timeout_s=30.0)
        listener.destroy_node()
    assert status == 0 and "has died" not in launched.output, launched.output
    assert (tmp_path / "bag" / "metadata.yaml").is_file()
