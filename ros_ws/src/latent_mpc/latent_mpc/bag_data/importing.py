"""Recorded bags as a data set: what the camera saw a model step apart, where the joints were, and what was commanded in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm_model import Kinematics, load_arm
from latent_mpc.bag import BagError, read_messages
from latent_mpc.bag_data.commands import POSITIONS, TOOL_VELOCITY, TWIST_NAMES
from latent_mpc.bag_data.cut import Cut, Cutting, Episode, Run, cut, find_runs
from latent_mpc.bag_data.log import BagRead, read_bag
from latent_mpc.bag_data.meaning import JOINTS, SAID, Meaning, ToolMeaning, VectorMeaning, meaning_from
from latent_mpc.bag_data.pictures import picture
from latent_mpc.bag_data.topics import AskedTopics
from latent_mpc.shard_collection import all_or_nothing
from sim.tasks import task_named
from world_model.data import ShardWriter

MEANINGS = {"joints": JOINTS, "command": SAID}
_UNITS = {POSITIONS: "rad", TOOL_VELOCITY: "m/s, rad/s"}


@dataclass(frozen=True)
class BagImport:
    """Which ``bags`` become episodes in ``out``, and what their actions are to mean.

    That of a simulated ``task``; or that of a data set or bundle whose description is ``like``, called ``like_name``; or else ``means``, one of
    "joints" and "command", a frame every ``period_s``. ``size`` = ``(h, w)`` of the pictures. ``joints`` names them in the order to come; by default
    an arm's own where the tool moves, else that of the first joint state. ``velocities``: a Float64MultiArray holds rad/s instead of rad.
    ``late``, ``idle_s``, ``joints_s``: see ``Cutting``.
    """

    bags: tuple[Path, ...]
    task: str | None
    out: Path
    steps: int = 40
    episodes_per_shard: int = 25
    topics: AskedTopics = field(default_factory=AskedTopics)
    means: str = "joints"
    like: dict[str, Any] = field(default_factory=dict)
    like_name: str = ""
    joints: tuple[str, ...] | None = None
    robot: str = "panda_stick"
    size: tuple[int, int] = (64, 64)
    period_s: float = 0.2
    velocities: bool = False
    late: float = 1 / 6
    idle_s: float = 2.0
    joints_s: float = 0.05
    name: str = "bag"


@dataclass(frozen=True)
class Imported:
    """What came of it: ``dropped`` counts steps by the reason why they are in no episode, ``frames`` frames; ``cut_at`` what ended runs.

    ``used``: for each role the topics that were read, of all bags.
    """

    episodes: int
    steps: int
    dropped: dict[str, int]
    frames: dict[str, int] = field(default_factory=dict)
    cut_at: dict[str, int] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """For people."""
        parts = [f"{self.episodes} episodes of {self.steps} steps", *(f"{role}: {topics}" for role, topics in self.used.items())]
        for what, counts in (("steps not used", self.dropped), ("frames not used", self.frames), ("cut at", self.cut_at)):
            if counts:
                parts.append(f"{what}: " + ", ".join(f"{count} {reason}" for reason, count in counts.items()))
        return "; ".join(parts)


def import_bags(asked: BagImport, report: Callable[[int, int], None]) -> Imported:
    """Write the episodes of all bags; ``report(done, all)`` after each bag is read and after its pictures are.

    Raises:
        UnknownTaskError: there is no such task.
        BagError: a bag cannot be used, or no episode of that length is in any.
        DatasetError: the folder holds another data set.
    """
    arm = Kinematics(load_arm(asked.robot))
    said, size, joints = _asked_meaning(asked, arm)
    cutting = Cutting(asked.steps, asked.late, asked.idle_s, asked.joints_s)
    every = 2 * len(asked.bags)
    report(0, every)
    read: list[BagRead] = []
    for bag in asked.bags:
        read.append(read_bag(bag, asked.topics, joints, size, arm if joints == arm.arm.joints else None, asked.velocities))
        joints = read[0].joints  # the first bag says which, unless somebody did
        report(len(read), every)
    meaning = said or _own_meaning(asked, read)
    found = Cut()
    runs = [[run for log in of_bag.logs for run in find_runs(log, meaning, cutting, found)] for of_bag in read]
    known = [run.raw for several in runs for run in several]
    if not known:
        apart = f"no two pictures with a joint state beside them are {meaning.period_s:g} s apart"
        raise BagError(
            f"{apart} in these bags: is the camera too slow for this --period, or are its stamps by another clock than those of the joints?"
        )
    meaning = meaning.scaled_by(np.concatenate(known))
    cuts = [_episodes_of(several, meaning, cutting, found) for several in runs]
    for of_bag in read:
        found.dropped_frames.update(of_bag.dropped_frames)
        found.ends["clock jumps"] += len(of_bag.logs) - 1
    if not any(cuts):
        raise BagError(f"no unbroken motion of {asked.steps} steps in these bags, the longest has {found.longest}: give fewer --episode-steps")
    counts = found.counts()
    sources = [{"bag": _name(of_bag.path), "stamp_ns": episode.stamp_ns} for of_bag, episodes in zip(read, cuts, strict=True) for episode in episodes]
    description = {
        "task": asked.task or asked.name,
        **meaning.description(),
        "frame": [*size, 3],
        "joints": list(read[0].joints),
        "policy": "bags",
        "steps": asked.steps,
        "episodes_per_shard": asked.episodes_per_shard,
        "sources": sources,
        **counts,
    }
    _write(asked, description, read, cuts, size, lambda done: report(len(read) + done, every))
    return Imported(len(sources), asked.steps, counts["dropped_steps"], counts["dropped_frames"], counts["cut_at"], _used(read))


def _used(read: Sequence[BagRead]) -> dict[str, str]:
    """Topics by what they were read for: whoever did not name them sees which they were."""
    roles = {
        "pictures": [bag.topics.camera for bag in read],
        "joints": [bag.topics.joint_states for bag in read],
        "actions": [bag.topics.actions or "from the measured joints" for bag in read],
    }
    return {role: ", ".join(dict.fromkeys(topics)) for role, topics in roles.items()}


def _asked_meaning(asked: BagImport, arm: Kinematics) -> tuple[Meaning | None, tuple[int, int], tuple[str, ...] | None]:
    """Meaning of the actions where somebody else has said it, size of the pictures, names of the joints."""
    if asked.task is not None:
        task = task_named(asked.task)
        return ToolMeaning(task.tool_step, arm), (task.camera.height, task.camera.width), arm.arm.joints
    if not asked.like:
        if asked.means not in MEANINGS:
            raise BagError(f"actions can mean {', '.join(MEANINGS)}, not '{asked.means}'; tool displacement needs --task or --like")
        return None, asked.size, asked.joints
    meaning = meaning_from(asked.like, asked.like_name, arm)
    try:
        height, width, _ = asked.like["frame"]
    except (KeyError, TypeError, ValueError) as error:
        raise BagError(f"{asked.like_name} does not say how large its pictures are: its frame is {asked.like.get('frame')}, not [h, w, 3]") from error
    named = asked.like.get("joints") or (arm.arm.joints if isinstance(meaning, ToolMeaning) else None)
    if named and asked.joints and tuple(named) != asked.joints:
        raise BagError(f"--joints are {', '.join(asked.joints)}, but {asked.like_name} has {', '.join(named)}: leave --joints out")
    return meaning, (int(height), int(width)), tuple(named) if named else asked.joints


def _own_meaning(asked: BagImport, read: Sequence[BagRead]) -> VectorMeaning:
    """What the bags themselves can say; the scale is not known yet."""
    commands = next((log.commands for bag in read for log in bag.logs if log.commands is not None), None)
    if asked.means == "joints":
        return VectorMeaning(JOINTS, read[0].joints, asked.period_s)
    if commands is None:
        raise BagError(f"{read[0].path} holds no commands: --means command needs --actions")
    names = TWIST_NAMES if commands.kind == TOOL_VELOCITY else read[0].joints
    return VectorMeaning(SAID, names, asked.period_s, _UNITS.get(commands.kind, "rad/s"))


def _episodes_of(runs: Sequence[Run], meaning: Meaning, cutting: Cutting, found: Cut) -> list[Episode]:
    before = len(found.episodes)
    for run in runs:
        cut(run, meaning, cutting, found)
    return found.episodes[before:]


def _name(bag: Path) -> str:
    whole = bag.resolve()
    return f"{whole.parent.name}/{whole.name}"


def _write(
    asked: BagImport,
    description: dict[str, Any],
    read: Sequence[BagRead],
    cuts: Sequence[Sequence[Episode]],
    size: tuple[int, int],
    report: Callable[[int], None],
) -> None:
    """Write shards one after another; pictures are decoded only now, bag by bag."""
    waiting: list[tuple[Episode, NDArray[np.uint8]]] = []
    truth = all(episode.state is not None for episodes in cuts for episode in episodes)

    def write(folder: Path, index: int, part: Sequence[tuple[Episode, NDArray[np.uint8]]]) -> None:
        state = np.stack([episode.state for episode, _ in part if episode.state is not None]) if truth else None
        actions, joints = (np.stack([getattr(episode, name) for episode, _ in part]) for name in ("actions", "joints"))
        ShardWriter(folder, index).write(np.stack([frames for _, frames in part]), actions, state, joints)

    with all_or_nothing(asked.out, description) as folder:
        index = 0
        for number, (bag, episodes) in enumerate(zip(read, cuts, strict=True)):
            waiting += zip(episodes, _frames(bag, episodes, size), strict=True)
            while len(waiting) >= asked.episodes_per_shard or (number + 1 == len(read) and waiting):
                write(folder, index, waiting[: asked.episodes_per_shard])
                del waiting[: asked.episodes_per_shard]
                index += 1
            report(number + 1)


def _frames(bag: BagRead, episodes: Sequence[Episode], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Pictures ``(T+1, h, w, 3)`` of each episode."""
    uses = Counter(int(place) for episode in episodes for place in episode.pictures)
    wanted: dict[int, NDArray[np.uint8]] = {}
    for place, entry in enumerate(read_messages(bag.path, (bag.topics.camera,))):
        if place in uses:
            wanted[place] = picture(f"{bag.path}, {bag.topics.camera}", entry.message, size)
    for episode in episodes:
        yield np.stack([wanted[int(place)] for place in episode.pictures])
