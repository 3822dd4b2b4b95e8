"""The simulated arm with everything around it: simulator, perception, planner, guardrail and, if asked for, recorder.

    ros2 launch launch/sim.launch.py task:=push
    ros2 launch latent_mpc sim.launch.py record:=my_bag         (after colcon build)

The guardrail starts disarmed: /guardrail_node/arm lets the arm move, a picture on /goal/image tells it where to.
"""

from latent_mpc.bringup import SHIPPED_MODELS, find_shared
from latent_mpc.launch_arguments import SIM
from latent_mpc.launch_parameters import given
from latent_mpc.launching import Crew, describe
from latent_mpc.topic_names import remaps

from launch import LaunchDescription
from sim.tasks import TASKS


def actions(asked: dict[str, str]) -> list:
    """All actions for the arguments as they were given."""
    model = str(find_shared(asked["model"] or SHIPPED_MODELS[asked["task"]]))
    guardrail = given(asked, output="output")
    if asked["auto_arm"]:
        guardrail["auto_arm"] = asked["auto_arm"] == "true"
    nodes = {
        "sim_node": {"task": asked["task"], "gui": asked["gui"] == "true", "episode_seed": int(asked["episode_seed"])},
        "perception_node": {"model": model},
        "planner_node": {"model": model, "steps": TASKS[asked["task"]].steps, **given(asked, mode="mode", zones="zones")},
        "guardrail_node": guardrail,
    }
    if asked["record"]:
        nodes["recorder_node"] = {"output": asked["record"]}
    return Crew(asked["namespace"], asked["params"], remaps(asked["namespace"])).actions(nodes)


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    return describe(SIM, actions)
