"""What a launch file plays of a bag, and to which topics of the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from latent_mpc.bag import read_topics
from latent_mpc.topic_names import CAMERA_IMAGE, CAMERA_INFO, JOINT_STATES

_GOAL = "/goal/image"


def played_topics(bag: Path, asked: Mapping[str, str]) -> dict[str, str]:
    """What the nodes call each topic that is played, by what the bag calls it; ``asked`` names those that it calls otherwise, by launch argument.

    A calibration that nobody asked for and that the bag does not hold is left out: pictures are enough to plan from.

    Raises:
        BagError: ``bag`` cannot be read.
    """
    heard = {
        asked[argument] or topic: topic
        for argument, topic in (("joint_states", JOINT_STATES), ("camera_image", CAMERA_IMAGE), ("camera_info", CAMERA_INFO))
    }
    heard[_GOAL] = _GOAL
    if not asked["camera_info"] and CAMERA_INFO not in read_topics(bag):
        del heard[CAMERA_INFO]
    return heard
