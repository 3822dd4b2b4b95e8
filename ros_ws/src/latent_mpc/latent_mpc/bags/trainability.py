"""Whether a bag can train a model: which of its topics are the camera, the joint states and the actions, and if it cannot, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latent_mpc.bags.candidates import absence, objections, serving, types_of
from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.roles import CAMERA, COMMANDS, MEASURED, Role


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


def training_topics(reader: BagReader, spans: Mapping[str, tuple[int, int]]) -> TrainingTopics:
    """Look at the names, the types and the first message of the candidates; ``spans`` are ns of the first and last message by topic.

    Raises:
        BagError: the bag is damaged where the candidates lie.
    """
    held = types_of(reader)
    obstacles: list[str] = []
    undecided: list[str] = []

    def choose(role: Role) -> str:
        objected = objections(reader, role)
        found = serving(role, held, objected)
        if len(found) > 1:
            undecided.append(f"{role.option} {' or '.join(found)}")
        elif not found:
            obstacles.append(absence(role, held, objected))
        return found[0] if found else ""

    camera, joint_states = choose(CAMERA), choose(MEASURED)
    moving = objections(reader, COMMANDS)
    commanded = serving(COMMANDS, held, moving)
    actions = commanded[0] if len(commanded) == 1 else ""
    # Which of several is meant, and so when it was recorded, the user has yet to say.
    if camera and joint_states and not undecided:
        used = [topic for topic in (camera, joint_states, actions) if topic]
        together = [spans[topic] for topic in used if topic in spans]
        if max(first for first, _ in together) >= min(last for _, last in together):
            obstacles.append(f"{', '.join(used[:-1])} and {used[-1]} were never recorded at the same time")
    others = tuple(topic for topic, objection in moving.items() if not objection and topic not in (actions, joint_states))
    return TrainingTopics(camera, joint_states, actions, tuple(obstacles), tuple(undecided), others)
