"""What a launch file plays of a bag, and to which topics of the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from latent_mpc.bag import BagError, read_topics
from latent_mpc.bags.roles import CAMERA, IMAGE, MEASURED, Role, fitting, likely
from latent_mpc.topic_names import CAMERA_IMAGE, CAMERA_INFO, JOINT_STATES

_GOAL = "/goal/image"


def played_topics(bag: Path, asked: Mapping[str, str]) -> dict[str, str]:
    """What the nodes call each topic that is played, by what the bag calls it; ``asked`` names topics of the bag by launch argument, or is empty.

    Joint states and pictures that nobody named are found by their types and names. The calibration is that of the camera, a goal what was shown;
    where the bag lacks one of these it is left out: pictures are enough to plan from, and a goal can be shown meanwhile.

    Raises:
        BagError: ``bag`` cannot be read, or lacks joint states, pictures or a topic that was asked for, or holds several and none was named.
    """
    held = read_topics(bag)
    camera = _topic(bag, held, CAMERA, (IMAGE,), "camera_image", asked)
    heard = {_topic(bag, held, MEASURED, MEASURED.types, "joint_states", asked): JOINT_STATES, camera: CAMERA_IMAGE}
    if asked["camera_info"] and asked["camera_info"] not in held:
        raise BagError(f"{bag} holds no topic {asked['camera_info']} (camera_info:=); it holds {', '.join(sorted(held))}")
    beside = f"{camera.rpartition('/')[0]}/camera_info"
    calibration = asked["camera_info"] or next((topic for topic in (beside, CAMERA_INFO) if topic in held), "")
    heard |= {calibration: CAMERA_INFO} if calibration else {}
    return heard | ({_GOAL: _GOAL} if _GOAL in held else {})


def _topic(bag: Path, held: Mapping[str, str], role: Role, types: tuple[str, ...], argument: str, asked: Mapping[str, str]) -> str:
    fit = {topic: kind for topic, kind in held.items() if kind in types}
    found = (asked[argument],) if asked[argument] in fit else () if asked[argument] else likely(role, fit)
    if len(found) == 1:
        return found[0]
    there = ", ".join(found or fitting(role, fit))
    if not there:
        raise BagError(f"{bag} holds no {role.name}: no topic of type {' or '.join(types)}")
    trouble = f"no {role.name} on {asked[argument]}" if asked[argument] else f"several topics for {role.name}"
    raise BagError(f"{bag} holds {trouble}; say {argument}:= one of {there}")
