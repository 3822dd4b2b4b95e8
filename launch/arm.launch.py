"""A physical arm: perception, planner and guardrail between its driver and its camera, which are started beside it.

    latent-mpc check --robot ur5e                                                              (in another terminal, first)
    ros2 launch launch/arm.launch.py robot:=ur5e model:=my_bundle                              (shadow: nothing reaches the arm)
    ros2 launch launch/arm.launch.py robot:=ur5e model:=my_bundle shadow:=false speed:=0.1     (a first motion)

The guardrail starts disarmed: /guardrail_node/arm lets the arm move, a picture on /goal/image tells it where to. See docs/deploy.md.
"""

from latent_mpc.commissioning.arm_bringup import arm_nodes
from latent_mpc.launch_arguments import ARM
from latent_mpc.launching import Crew, describe

from launch import LaunchDescription


def actions(asked: dict[str, str]) -> list:
    """All actions for the arguments as they were given."""
    nodes, names = arm_nodes(asked)
    return Crew(asked["namespace"], asked["params"], names).actions(nodes)


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    return describe(ARM, actions)
