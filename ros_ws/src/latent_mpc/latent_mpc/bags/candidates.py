"""Which topics of an open bag serve as the camera, the joint states and the commands: told once, for all that read bags.

What ``latent-mpc bag info`` promises, ``latent-mpc dataset from-bag`` reads and ``replay.launch.py`` plays. Besides names and types the first
message counts.
"""

from __future__ import annotations

from typing import Any

from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.roles import CAMERA, MEASURED, Role, fitting, likely, ours
from latent_mpc.bags.storage import BagError
from ros_bridge.encodings import ImageError, picture_pixels


def types_of(reader: BagReader) -> dict[str, str]:
    """Message type of every topic that the bag holds."""
    return {channel.topic: channel.msgtype for channel in reader.channels}


def objections(reader: BagReader, role: Role) -> dict[str, str]:
    """The topics whose type fits, by name, each with why it cannot serve; empty where it can."""
    held, counts = types_of(reader), reader.counts()
    return {topic: _objection(reader, topic, held[topic], counts.get(topic, 0), role) for topic in fitting(role, held)}


def serving(role: Role, held: dict[str, str], objected: dict[str, str]) -> tuple[str, ...]:
    """What ``role`` is when nobody says, of the topics that can serve: one, several that only the user can tell apart, or none."""
    return likely(role, {topic: held[topic] for topic, objection in objected.items() if not objection})


def absence(role: Role, held: dict[str, str], objected: dict[str, str]) -> str:
    """Why there is none, in words."""
    if objected:
        return f"no {role.name}: {'; '.join(objected.values())}"
    passed_over = [topic for topic in sorted(held) if held[topic] in role.types and ours(topic)]
    if passed_over:
        return f"no {role.name}: only {', '.join(passed_over)}, which this software publishes itself; name it with {role.option} if it is meant"
    return f"no {role.name}: no topic of type {' or '.join(role.types)}"


def _objection(reader: BagReader, topic: str, msgtype: str, count: int, role: Role) -> str:
    if count < role.least:
        return f"{topic} has {count} messages"
    try:
        for raw in reader.raw({topic}):
            if raw.channel.msgtype == msgtype:
                why_not = _unusable(role, reader.decode(raw))
                return f"{topic}: {why_not}" if why_not else ""
    except BagError as error:
        return f"{topic}: {str(error).removeprefix(f'{topic} ')}"
    return f"{topic}: no message can be read"


def _unusable(role: Role, message: Any) -> str:
    if role.name == CAMERA.name:
        try:
            picture_pixels(message)
        except ImageError as error:
            return str(error).split("; expected")[0]
    if role.name == MEASURED.name:
        if not message.name:
            return "its joints have no names"
        return "" if len(message.position) == len(message.name) else f"{len(message.position)} positions for {len(message.name)} joints"
    return ""
