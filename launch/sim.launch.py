"""The simulated arm with everything around it: simulator, perception, planner, guardrail and, if asked for, recorder.

    ros2 launch launch/sim.launch.py task:=push
    ros2 launch latent_mpc sim.launch.py record:=my_bag         (after colcon build)

The guardrail starts disarmed: /guardrail_node/arm lets the arm move, a picture on /goal/image tells it where to.
"""

import sys

from latent_mpc.bringup import MODULES, SHIPPED_MODELS, find_shared, parameter_file
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from sim.tasks import TASKS

ARGUMENTS = (
    ("task", "reach", f"what is simulated: {', '.join(TASKS)}", list(TASKS)),
    ("model", "", "folder of a model bundle; by default the shipped one for the task", None),
    ("mode", "planner", "planner: searches along the actor; actor: the actor alone; cem: searches without the actor", ["planner", "actor", "cem"]),
    ("zones", "", "forbidden zones in YAML: a list of {centre: [x, y], half: [a, b], yaw: rad}", None),
    ("output", "trajectory", "which controller the guardrail commands", ["trajectory", "velocity"]),
    ("auto_arm", "false", "let the guardrail arm itself as soon as joint states arrive", ["true", "false"]),
    ("episode_seed", "0", "seed of start and goal of the first episode", None),
    ("gui", "false", "open PyBullet's window", ["true", "false"]),
    ("record", "", "folder of a bag to record into; must not exist yet; by default nothing is recorded", None),
    ("domain", "", "ROS domain; by default that of the environment", None),
)


def node(name: str, parameters: dict[str, object]) -> Node:
    """A node of ours with its parameter file, run by the Python that runs this file, from a checkout as well as from a colcon workspace."""
    return Node(
        executable=sys.executable,
        arguments=["-m", MODULES[name]],
        parameters=[str(parameter_file(name)), parameters],
        output="screen",
        emulate_tty=True,
    )


def nodes(context: LaunchContext) -> list[Node | SetEnvironmentVariable]:
    """All actions for the arguments as they were given."""
    asked = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    model = str(find_shared(asked["model"] or SHIPPED_MODELS[asked["task"]]))
    actions: list[Node | SetEnvironmentVariable] = [SetEnvironmentVariable("ROS_DOMAIN_ID", asked["domain"])] if asked["domain"] else []
    # As text: launch would read YAML where the planner wants to read it itself.
    zones = ParameterValue(asked["zones"], value_type=str)
    actions += [
        node("sim_node", {"task": asked["task"], "gui": asked["gui"] == "true", "episode_seed": int(asked["episode_seed"])}),
        node("perception_node", {"model": model}),
        node("planner_node", {"model": model, "mode": asked["mode"], "steps": TASKS[asked["task"]].steps, "zones": zones}),
        node("guardrail_node", {"output": asked["output"], "auto_arm": asked["auto_arm"] == "true"}),
    ]
    if asked["record"]:
        actions.append(node("recorder_node", {"output": asked["record"]}))
    return actions


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [DeclareLaunchArgument(name, default_value=value, description=text, choices=choices) for name, value, text, choices in ARGUMENTS]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])
