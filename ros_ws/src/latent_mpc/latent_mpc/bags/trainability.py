"""Whether a bag can train a model: which of its topics are the camera, the joint states and the actions, and if it cannot, why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.roles import CAMERA, COMMANDS, MEASURED, Role, fitting, likely
from latent_mpc.bags.storage import BagError
from ros_bridge.encodings import ImageError, picture_pixels

_FEWEST = 2


@dataclass(frozen=True)
class TrainingTopics:
    """The topics that ``latent-mpc dataset from-bag`` would use; empty where there is none. ``obstacles``: why the bag cannot train a model.

    Without ``actions`` what was done is read off the measured joints. ``undecided``: the options that have to be given because several topics can
    say it, such as ``--camera /left or /right``; the first of them stands for all. ``other_actions`` are commands that are read where ``--actions``
    names them.
    """

    camera: str
    joint_states: str
    actions: str
    obstacles: tuple[str, ...]
    undecided: tuple[str, ...] = ()
    other_actions: tuple[str, ...] = ()

    @property
    def possible(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.obstacles


def training_topics(reader: BagReader, counts: Mapping[str, int], spans: Mapping[str, tuple[int, int]]) -> TrainingTopics:
    """Look at the names, the types and the first message of the candidates; ``spans`` are ns of the first and last message by topic.

    Raises:
        BagError: the bag is damaged where the candidates lie.
    """
    held = {channel.topic: channel.msgtype for channel in reader.channels}
    obstacles: list[str] = []
    undecided: list[str] = []

    def choose(role: Role, use: Callable[[Any], str]) -> str:
        refused = {topic: _why_not(reader, topic, counts.get(topic, 0), use) for topic in fitting(role, held)}
        found = likely(role, {topic: held[topic] for topic, why_not in refused.items() if not why_not})
        if not found:
            reasons = "; ".join(why_not for why_not in refused.values() if why_not)
            obstacles.append(f"no {role.name}: {reasons or 'no topic of type ' + ' or '.join(role.types)}")
            return ""
        if len(found) > 1:
            undecided.append(f"{role.option} {' or '.join(found)}")
        return found[0]

    camera, joint_states = choose(CAMERA, _see), choose(MEASURED, _feel)
    moving = {topic: held[topic] for topic in fitting(COMMANDS, held) if topic != joint_states and counts.get(topic, 0) >= _FEWEST}
    commanded = likely(COMMANDS, moving)
    actions = commanded[0] if len(commanded) == 1 else ""
    if camera and joint_states:
        used = [topic for topic in (camera, joint_states, actions) if topic]
        together = [spans[topic] for topic in used if topic in spans]
        if max(first for first, _ in together) >= min(last for _, last in together):
            obstacles.append(f"{', '.join(used[:-1])} and {used[-1]} were never recorded at the same time")
    others = tuple(topic for topic in moving if topic != actions)
    return TrainingTopics(camera, joint_states, actions, tuple(obstacles), tuple(undecided), others)


def _why_not(reader: BagReader, topic: str, count: int, use: Callable[[Any], str]) -> str:
    if count < _FEWEST:
        return f"{topic} has {count} messages"
    try:
        for raw in reader.raw({topic}):
            why_not = use(reader.decode(raw))
            return f"{topic}: {why_not}" if why_not else ""
    except BagError as error:
        return f"{topic}: {str(error).removeprefix(f'{topic} ')}"
    return f"{topic}: no message can be read"


def _see(message: Any) -> str:
    try:
        picture_pixels(message)
    except ImageError as error:
        return str(error).split("; expected")[0]
    return ""


def _feel(message: Any) -> str:
    if not message.name:
        return "its joints have no names"
    return "" if len(message.position) == len(message.name) else f"{len(message.position)} positions for {len(message.name)} joints"
