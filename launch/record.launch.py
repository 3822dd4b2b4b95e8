"""The recorder alone, beside whatever runs.

ros2 launch launch/record.launch.py output:=runs/bag
ros2 launch launch/record.launch.py output:=runs/bag topics:=/joint_states,/camera/image_raw
"""

from latent_mpc.launch_arguments import RECORDER
from latent_mpc.launching import Crew, describe
from latent_mpc.topic_names import remaps

from launch import LaunchDescription


def actions(asked: dict[str, str]) -> list:
    """All actions for the arguments as they were given."""
    parameters = {"output": asked["output"]}
    if asked["topics"]:
        parameters["topics"] = [topic.strip() for topic in asked["topics"].split(",") if topic.strip()]
    if asked["profile"]:
        parameters["profile"] = asked["profile"]
    return Crew(asked["namespace"], asked["params"], remaps(asked["namespace"])).actions({"recorder_node": parameters})


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    return describe(RECORDER, actions)
