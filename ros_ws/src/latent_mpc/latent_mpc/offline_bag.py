"""What an offline replay needs of a bag but its pictures, which perception reads by itself."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.bag import BagError, BagMessage, read_messages, read_topics, stamp_ns, status_values
from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.storage import RawMessage
from latent_mpc.topic_names import OURS, resolved
from planner_node.journal import COLUMNS, Entry, JournalError, Moment, checksum, read_rows, require_journal
from ros_bridge.images import image_to_latent
from ros_bridge.joints import JointError, Trajectory, read_joint_state, read_trajectory, read_trajectory_payload

PLAN, PLANNER_STATUS, GUARDRAIL_STATUS = "/planner/plan", "/planner/status", "/guardrail/status"
_PLANNER_JOURNAL, _GUARDRAIL_JOURNAL = "/planner/journal", "/guardrail/journal"
_PLANNER_SETTINGS, _GUARDRAIL_SETTINGS = "/planner/settings", "/guardrail/settings"
_LATENT, _GOAL_LATENT, _WITNESS, _ZONES, _SURPRISE = (
    "/perception/latent",
    "/goal/latent",
    "/perception/witness",
    "/planner/zones",
    "/planner/surprise",
)

_SOON_NS, _SAME_CLOCK_NS, _JOINING_NS = 20_000_000, 1_000_000_000, 500_000_000

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class ReplayTopics:
    """Where a bag holds what is needed; ``command`` empty is the topic of the arm's trajectory controller.

    ``namespace``: the one that the nodes were in; our own names lie in it, others are taken as they are.
    """

    camera: str = "/camera/image_raw"
    goal: str = "/goal/image"
    joint_states: str = "/joint_states"
    camera_info: str = "/camera/camera_info"
    command: str = ""
    namespace: str = ""

    def held(self, topic: str) -> str:
        """What the bag calls ``topic``."""
        return resolved(topic.lstrip("/"), self.namespace) if topic in OURS else topic

    def messages(self, bag: Path, wanted: Iterable[str]) -> Iterator[BagMessage]:
        """Messages of ``wanted`` by these names, whatever the bag calls them; those that cannot be decoded are passed over.

        Raises:
            BagError: the bag cannot be opened.
        """
        ours = {self.held(topic): topic for topic in wanted}
        for entry in read_messages(bag, ours, pass_over_malformed=True):
            yield replace(entry, topic=ours[entry.topic])


@dataclass(frozen=True)
class Timed:
    """A value, the stamp that it carries, and when the recorder received it, both ns."""

    time_ns: int
    stamp_ns: int
    value: Any


@dataclass
class Recorded:
    """A bag without its pictures. Lists are in the order of reception.

    ``joints`` hold ``JointReading``, ``plans`` and ``commands`` ``Trajectory``, ``latents``, ``witnesses`` and ``goal_latents`` ``(D,) float32``,
    ``zones`` text, ``infos`` None, ``planner`` and ``guardrail`` the values of a status with its message as ``state``. A journal is empty where there
    is none. ``settings`` by node and checksum. ``refused`` counts messages that could not be used, by topic.
    """

    start_ns: int = 0
    end_ns: int = 0
    joints: list[Timed] = field(default_factory=list)
    infos: list[Timed] = field(default_factory=list)
    latents: list[Timed] = field(default_factory=list)
    witnesses: list[Timed] = field(default_factory=list)
    goal_latents: list[Timed] = field(default_factory=list)
    zones: list[Timed] = field(default_factory=list)
    plans: list[Timed] = field(default_factory=list)
    commands: list[Timed] = field(default_factory=list)
    surprise: list[Timed] = field(default_factory=list)
    planner: list[Timed] = field(default_factory=list)
    guardrail: list[Timed] = field(default_factory=list)
    planner_journal: list[Entry] = field(default_factory=list)
    guardrail_journal: list[Entry] = field(default_factory=list)
    planner_settings: dict[int, dict[str, Any]] = field(default_factory=dict)
    guardrail_settings: dict[int, dict[str, Any]] = field(default_factory=dict)
    lost_rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    first_refusal: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the first message to the last, s."""
        return (self.end_ns - self.start_ns) * 1e-9

    def refuse(self, topic: str, error: Exception) -> None:
        """Count a message that cannot be used."""
        self.refused[topic] += 1
        self.first_refusal.setdefault(topic, " ".join(str(error).split()))


class _Pages:
    """The messages of a journal, put in order by the numbers of their rows: a recorder that comes late gets the newest first."""

    def __init__(self) -> None:
        self._pages: list[tuple[int, int, NDArray[np.int64]]] = []

    def take(self, entry: Timed) -> None:
        """Add a message.

        Raises:
            JournalError: it holds no rows of a journal.
        """
        message = entry.value
        columns = int(message.layout.dim[1].size) if len(message.layout.dim) == 2 else 0
        data = np.asarray(message.data, dtype=np.int64)
        if columns < 1 or data.size % columns:
            raise JournalError(f"{data.size} numbers in rows of {columns}")
        rows = data.reshape(-1, columns)
        require_journal(rows)  # what is no journal is refused here, message by message
        self._pages.append((int(message.layout.data_offset), entry.time_ns, rows))

    def entries(self) -> tuple[list[Entry], int]:
        """All entries, and how many rows are missing between them. What was journaled before the recorder came is not missing, nor what the
        middleware loses while it hands over what was there when it came.
        """
        numbers = [first for first, _, _ in self._pages]
        # A node that was started anew counts anew: then the order of reception is all there is.
        pages = sorted(self._pages, key=lambda page: page[0]) if len(set(numbers)) == len(numbers) else self._pages
        joined_ns = min((time_ns for _, time_ns, _ in pages), default=0) + _JOINING_NS
        gaps = [(after - before - len(rows), time_ns) for (before, _, rows), (after, time_ns, _) in pairwise(pages)]
        missing = sum(max(0, gap) for gap, time_ns in gaps if time_ns > joined_ns)
        return read_rows(np.concatenate([np.empty((0, COLUMNS), np.int64), *(rows for _, _, rows in pages)])), missing


def read_recorded(
    bag: Path,
    topics: ReplayTopics,
    joints: Sequence[str],
) -> Recorded:
    """Read ``bag`` but for its pictures; ``joints`` are the names that count.

    Raises:
        BagError: it cannot be read, or lacks what nothing can be replayed without; the message says what.
    """
    found = read_topics(bag)
    needed = {
        topics.camera: "camera picture (--camera-topic)",
        topics.joint_states: "joint state (--joint-topic)",
        topics.goal: "goal picture (--goal-topic)",
    }
    for topic, what in needed.items():
        if topics.held(topic) not in found:
            raise BagError(
                f"{bag} has no topic {topics.held(topic)}: without a {what} nothing can be replayed; "
                f"it has {', '.join(sorted(found)) or 'no topic at all'}"
            )
    recorded, planner_pages, guardrail_pages = Recorded(), _Pages(), _Pages()

    def kept(into: list[Timed], made: Callable[[Any], Any]) -> Callable[[Timed], None]:
        return lambda entry: into.append(Timed(entry.time_ns, entry.stamp_ns, made(entry.value)))

    def joint_state(entry: Timed) -> None:
        reading = read_joint_state(entry.value, joints)
        recorded.joints.append(Timed(entry.time_ns, reading.stamp_ns, reading))

    def latent(message: Any) -> F32:
        # Latents of another model are of another size; they are compared with nothing.
        return image_to_latent(message)

    def trajectory(message: Any) -> Trajectory:
        return read_trajectory(message, joints)

    def settings(into: dict[int, dict[str, Any]]) -> Callable[[Timed], None]:
        return lambda entry: into.update({checksum(entry.value.data): json.loads(entry.value.data)})

    takers: dict[str, Callable[[Timed], None]] = {
        topics.joint_states: joint_state,
        topics.camera_info: kept(recorded.infos, lambda message: None),
        topics.command: kept(recorded.commands, trajectory),
        PLAN: kept(recorded.plans, trajectory),
        _LATENT: kept(recorded.latents, latent),
        _WITNESS: kept(recorded.witnesses, latent),
        _GOAL_LATENT: kept(recorded.goal_latents, latent),
        _ZONES: kept(recorded.zones, lambda message: str(message.data)),
        _SURPRISE: kept(recorded.surprise, lambda message: np.array(message.data, dtype=np.float64)),
        PLANNER_STATUS: kept(recorded.planner, lambda message: {**status_values(message), "state": str(message.message)}),
        GUARDRAIL_STATUS: kept(recorded.guardrail, lambda message: {**status_values(message), "state": str(message.message)}),
        _PLANNER_JOURNAL: planner_pages.take,
        _GUARDRAIL_JOURNAL: guardrail_pages.take,
        _PLANNER_SETTINGS: settings(recorded.planner_settings),
        _GUARDRAIL_SETTINGS: settings(recorded.guardrail_settings),
    }
    of_trajectories = {topics.command: recorded.commands, PLAN: recorded.plans}
    ours = {topics.held(topic): topic for topic in takers}
    with BagReader(bag) as reader:
        for raw in reader.raw(ours):
            topic = ours[raw.channel.topic]
            path = _trajectory_in(raw, joints) if topic in of_trajectories else None
            if path is not None:
                of_trajectories[topic].append(Timed(raw.time_ns, path.stamp_ns, path))
            else:
                try:
                    message = reader.decode(raw)
                except BagError:
                    continue  # somebody may have published no message at all
                header = getattr(message, "header", None)
                try:
                    takers[topic](Timed(raw.time_ns, stamp_ns(header.stamp) if header is not None else raw.time_ns, message))
                except (ValueError, IndexError, TypeError) as error:
                    recorded.refuse(topic, error)
            recorded.start_ns = recorded.start_ns or raw.time_ns
            recorded.end_ns = max(recorded.end_ns, raw.time_ns)
    if not recorded.joints:
        reason = recorded.first_refusal.get(topics.joint_states, "it is empty")
        raise BagError(f"{bag}: no usable joint state on {topics.joint_states}: {reason}")
    recorded.planner_journal, lost = planner_pages.entries()
    recorded.guardrail_journal, lost_too = guardrail_pages.entries()
    recorded.lost_rows = lost + lost_too
    return recorded


def _trajectory_in(raw: RawMessage, joints: Sequence[str]) -> Trajectory | None:
    """What is in the bytes of a trajectory, without a message made of them, which takes three times as long; None: the message may say more."""
    if raw.channel.msgtype != "trajectory_msgs/msg/JointTrajectory":
        return None
    try:
        return read_trajectory_payload(raw.data, joints)
    except JointError:
        return None


def by_stamp(entries: Sequence[Timed]) -> dict[int, list[Timed]]:
    """Entries by the stamp that they carry, in order."""
    found: dict[int, list[Timed]] = defaultdict(list)
    for entry in entries:
        found[entry.stamp_ns].append(entry)
    return found


def heard_ns(entry: Timed) -> int:
    """When a node that was not busy heard a message: soon after its stamp where that is the recorder's time, else when the recorder did."""
    late = entry.time_ns - entry.stamp_ns
    return entry.stamp_ns + min(late, _SOON_NS) if 0 <= late < _SAME_CLOCK_NS else entry.time_ns


def moment_of(time_ns: int, start_ns: int) -> Moment:
    """The recorder's time as both clocks of a node, the steady one counted from the beginning of the bag."""
    return Moment(time_ns, (time_ns - start_ns) * 1e-9)


def perception_then(bag: Path, topics: ReplayTopics) -> dict[str, str]:
    """The ``runtime`` that the recorded perception was asked for and the ``precision`` that its encoder ran in; empty where it did not.

    Raises:
        BagError: the bag cannot be read.
    """
    for entry in topics.messages(bag, ("/diagnostics",)):
        for status in entry.message.status:
            values = status_values(status) if status.name == "perception_node: runtime" else {}
            ran = values.get("runtime_encoder", "").split()
            if len(ran) >= 2 and "runtime_asked" in values:
                # On a CPU a graph in int8 calls itself int8_dynamic, which nobody asks for by that name.
                return {"runtime": values["runtime_asked"], "precision": ran[1].removesuffix("_dynamic")}
    return {}


def first_settings(bag: Path, topics: ReplayTopics) -> tuple[dict[str, Any], dict[str, Any], int, str]:
    """The parameters of planner and guardrail that the bag holds first, and the ``steps`` and ``mode`` of a status; empty or 0 where it holds none.

    Raises:
        BagError: the bag cannot be read.
    """
    found: dict[str, dict[str, Any]] = {_PLANNER_SETTINGS: {}, _GUARDRAIL_SETTINGS: {}}
    steps, mode = 0, ""
    for entry in topics.messages(bag, (*found, PLANNER_STATUS)):
        if entry.topic != PLANNER_STATUS:
            try:
                content = json.loads(entry.message.data)
            except ValueError:
                continue
            found[entry.topic] = found[entry.topic] or (content if isinstance(content, dict) else {})
        elif not steps:
            values = status_values(entry.message)
            steps, mode = int(values.get("steps", 0)), values.get("mode", "")
        if steps and all(found.values()):
            break
    return found[_PLANNER_SETTINGS], found[_GUARDRAIL_SETTINGS], steps, mode
