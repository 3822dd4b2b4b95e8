"""Which topics of a bag say what: asked for by name, or the only ones that can."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latent_mpc.bag import BagError
from latent_mpc.bags.candidates import absence, objections, serving, types_of
from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.roles import CAMERA, COMMANDS, FLOATS, MEASURED, Role
from latent_mpc.recording import GOAL_TOPIC, RESET_TOPIC, TRUTH_TOPIC

# Besides the picture that the arm is to bring about, the simulator's announcement of a new scene.
_USUAL_MARKERS = (RESET_TOPIC, GOAL_TOPIC)


@dataclass(frozen=True)
class AskedTopics:
    """What the user said; None is "find it". No markers means the usual ones that the bag holds."""

    camera: str | None = None
    joint_states: str | None = None
    actions: str | None = None
    markers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Topics:
    """What is read: ``actions`` is None where nothing was commanded, ``truth`` where nobody knows the truth; ``types`` of all that the bag holds."""

    camera: str
    joint_states: str
    actions: str | None
    markers: tuple[str, ...]
    truth: str | None
    types: dict[str, str]

    def all(self) -> tuple[str, ...]:
        """Every topic that is read, without doubles."""
        named = (self.camera, self.joint_states, self.actions, self.truth, *self.markers)
        return tuple(dict.fromkeys(topic for topic in named if topic is not None))


def choose_topics(bag: Path, asked: AskedTopics) -> Topics:
    """What is read of ``bag``: what was asked for, else what ``latent-mpc bag info`` names.

    Raises:
        BagError: it cannot be opened; a topic that was asked for is missing or of a type that cannot say that, or none or several could.
    """
    with BagReader(bag) as reader:
        held = types_of(reader)
        camera = _asked(bag, held, asked.camera, CAMERA) or _only(bag, reader, CAMERA, None)
        actions = _asked(bag, held, asked.actions, COMMANDS)
        joints = _asked(bag, held, asked.joint_states, MEASURED) or _only(bag, reader, MEASURED, actions)
        if actions is None:
            commanded = serving(COMMANDS, held, objections(reader, COMMANDS))
            actions = commanded[0] if len(commanded) == 1 else None
    missing = [topic for topic in asked.markers if topic not in held]
    if missing:
        raise BagError(f"{bag} holds no topic {missing[0]} (--marker); it holds {', '.join(sorted(held))}")
    markers = asked.markers or tuple(topic for topic in _USUAL_MARKERS if topic in held)
    truth = TRUTH_TOPIC if held.get(TRUTH_TOPIC) == FLOATS else None
    return Topics(camera, joints, actions, markers, truth, dict(held))


def _asked(bag: Path, held: dict[str, str], topic: str | None, role: Role) -> str | None:
    if topic is None:
        return None
    if topic not in held:
        raise BagError(f"{bag} holds no topic {topic} ({role.option}); it holds {', '.join(sorted(held)) or 'none'}")
    if held[topic] not in role.types:
        raise BagError(f"{bag}: {topic} is of type {held[topic]}; {role.option} takes {', '.join(role.types)}")
    return topic


def _only(bag: Path, reader: BagReader, role: Role, other: str | None) -> str:
    """The one topic that serves, rather not ``other``, which says something else already."""
    held, objected = types_of(reader), objections(reader, role)
    rest = {topic: objection for topic, objection in objected.items() if topic != other}
    found = serving(role, held, rest) or serving(role, held, objected)
    if len(found) == 1:
        return found[0]
    if not found:
        raise BagError(f"{bag} holds {absence(role, held, objected)}")
    raise BagError(f"{bag} holds several topics for {role.option}: {', '.join(found)}; say which")
