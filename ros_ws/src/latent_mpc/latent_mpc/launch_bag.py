"""What a launch file plays of a bag, and to which topics of the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from latent_mpc.bags.candidates import absence, objections, serving, types_of
from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.roles import CAMERA, IMAGE, MEASURED, Role
from latent_mpc.bags.storage import BagError
from latent_mpc.topic_names import CAMERA_IMAGE, CAMERA_INFO, JOINT_STATES

_GOAL = "/goal/image"
# Perception hears raw pictures only.
_PLAYED = {"camera_image": replace(CAMERA, option="camera_image:=", types=(IMAGE,)), "joint_states": replace(MEASURED, option="joint_states:=")}


def played_topics(bag: Path, asked: Mapping[str, str]) -> dict[str, str]:
    """What the nodes call each topic that is played, by what the bag calls it; ``asked`` names topics of the bag by launch argument, or is empty.

    Joint states and pictures that nobody named are found by their types, names and first messages, in a namespace as well. Calibration and goal are
    left out where the bag lacks them: pictures are enough to plan from, and a goal can be shown meanwhile.

    Raises:
        BagError: ``bag`` cannot be read, or lacks joint states, pictures or a topic that was asked for, or holds several and none was named.
    """
    with BagReader(bag) as reader:
        camera, joints = (_topic(bag, reader, role, asked[argument]) for argument, role in _PLAYED.items())
        held = types_of(reader)
    if asked["camera_info"] and asked["camera_info"] not in held:
        raise BagError(f"{bag} holds no topic {asked['camera_info']} (camera_info:=); it holds {', '.join(sorted(held))}")
    heard = {camera: CAMERA_IMAGE, joints: JOINT_STATES}
    calibration = asked["camera_info"] or _calibration(camera, held)
    heard |= {calibration: CAMERA_INFO} if calibration else {}
    goals = [topic for topic in held if topic.endswith(_GOAL)]
    return heard | ({_GOAL: _GOAL} if _GOAL in held else {goals[0]: _GOAL} if len(goals) == 1 else {})


def _topic(bag: Path, reader: BagReader, role: Role, asked: str) -> str:
    held, objected = types_of(reader), objections(reader, role)
    if asked:
        if held.get(asked) not in role.types:
            there = f"; say {role.option} one of {', '.join(objected)}" if objected else ""
            raise BagError(f"{bag} holds no {role.name} of type {' or '.join(role.types)} on {asked}{there}")
        return asked
    found = serving(role, held, objected)
    if len(found) > 1:
        raise BagError(f"{bag} holds several topics for {role.name}; say {role.option} one of {', '.join(found)}")
    if not found:
        raise BagError(f"{bag} holds {absence(role, held, objected)}")
    return found[0]


def _calibration(camera: str, held: Mapping[str, str]) -> str:
    """The one beside the pictures, else the only one, unless it lies beside those of another camera."""
    if _beside(camera) in held:
        return _beside(camera)
    others = {_beside(topic) for topic, kind in held.items() if kind in CAMERA.types}
    free = [topic for topic in held if topic.endswith("/camera_info") and topic not in others]
    return free[0] if len(free) == 1 else ""


def _beside(camera: str) -> str:
    return f"{camera.rpartition('/')[0]}/camera_info"
