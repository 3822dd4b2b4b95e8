"""A recorded bag through perception, planner and guardrail: what would they have done? The guardrail is in shadow, so nothing moves.

    ros2 launch launch/replay.launch.py bag:=runs/bag model:=models/push

The bag's pictures, joints and goals are played with its clock; what the nodes said when it was recorded is left out, since they say it anew.
Everything ends with the bag.
"""

import sys

from latent_mpc.bringup import find_shared
from latent_mpc.launch_arguments import REPLAY
from latent_mpc.launch_bag import played_topics
from latent_mpc.launch_parameters import existing, given
from latent_mpc.launching import Crew, describe, when_active
from latent_mpc.topic_names import CAMERA_INFO, remaps
from launch.actions import EmitEvent, ExecuteProcess, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown

from launch import LaunchDescription


def actions(asked: dict[str, str]) -> list:
    """All actions for the arguments as they were given."""
    model = str(find_shared(asked["model"]))
    arm, simulated = existing(asked["arm"]), {"use_sim_time": True}
    names = remaps(asked["namespace"])
    moved = dict(names)
    bag = find_shared(asked["bag"])
    heard = played_topics(bag, asked)
    # Without calibrations the guardrail hears by perception alone whether the camera lives.
    watched = {} if CAMERA_INFO in heard.values() else {"camera_info_topic": ""}
    play = [sys.executable, "-m", "latent_mpc.cli", "bag", "play", str(bag), "--clock", "100", "--rate", asked["rate"]]
    play += ["--start-offset", asked["start_offset"], *(["--loop"] if asked["loop"] == "true" else [])]
    for recorded, topic in heard.items():
        play += ["--topic", recorded]
        if recorded != moved.get(topic, topic):
            play += ["--remap", f"{recorded}:={moved.get(topic, topic)}"]
    player = ExecuteProcess(cmd=play, output="screen", name="bag_player")
    nodes = {
        "perception_node": {"model": model, **simulated},
        "planner_node": {"model": model, "robot": arm, **simulated, **given(asked, mode="mode", zones="zones")},
        "guardrail_node": {"robot": arm, "shadow": True, "auto_arm": True, **watched, **simulated},
    }
    if asked["record"]:
        nodes["recorder_node"] = {"output": asked["record"], **simulated}
    return [
        *Crew(asked["namespace"], asked["params"], names).actions(nodes),
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="the bag is over"))])),
        # Nothing of the bag is played to nobody.
        RegisterEventHandler(when_active("planner_node", player)),
    ]


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    return describe(REPLAY, actions)
