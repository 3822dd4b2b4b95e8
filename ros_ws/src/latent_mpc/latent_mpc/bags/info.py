"""What is inside a bag, at a glance: from its indexes as far as it has any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.storage import Arrivals, BagError, Channel
from latent_mpc.bags.trainability import TrainingTopics, training_topics

_NS = 1e9
# Compressed data that are looked into for stamps: more would take longer than a glance.
_STAMP_BYTES = 100_000_000
_HEADED = ("std_msgs/Header ", "std_msgs/msg/Header ", "Header ")
# Types of ROS's own that begin with a header, for bags that hold no definitions.
_HEADED_TYPES = frozenset(
    f"{package}/msg/{name}"
    for package, names in {
        "sensor_msgs": "Image CompressedImage CameraInfo JointState Imu Joy PointCloud2 LaserScan Range Temperature MultiDOFJointState",
        "geometry_msgs": "TwistStamped PoseStamped PointStamped WrenchStamped TransformStamped PoseArray Vector3Stamped AccelStamped",
        "trajectory_msgs": "JointTrajectory MultiDOFJointTrajectory",
        "nav_msgs": "Odometry Path OccupancyGrid",
        "diagnostic_msgs": "DiagnosticArray",
    }.items()
    for name in names.split()
)


@dataclass(frozen=True)
class TopicSummary:
    """One topic. ``rate_hz`` and gaps count by the time of reception; the jumps are those backward, None where nobody looked."""

    topic: str
    msgtype: str
    count: int
    rate_hz: float
    largest_gap_s: float
    largest_gap_at_s: float
    backward_receptions: int
    backward_stamps: int | None
    qos: tuple[str, ...]
    unreadable: str


@dataclass(frozen=True)
class BagSummary:
    """A bag at a glance. ``troubles`` say why it is not whole, and what to do."""

    bag: str
    storage: str
    metadata_version: int
    distro: str
    files: tuple[str, ...]
    size_bytes: int
    starts_ns: int
    duration_s: float
    messages: int
    topics: tuple[TopicSummary, ...]
    training: TrainingTopics
    troubles: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "can_train": self.training.possible}


def summarize(path: Path) -> BagSummary:
    """Look at the bag ``path``.

    Raises:
        BagError: it is no bag, or one of which nothing can be read.
    """
    with BagReader(path) as reader:
        arrivals: dict[str, list[Arrivals]] = {}
        spend = _STAMP_BYTES
        troubles = list(reader.troubles)
        for file in reader.files:
            found = file.arrivals(spend)
            spend = max(0, spend - file.path.stat().st_size)
            for entry in found:
                arrivals.setdefault(entry.channel.topic, []).append(entry)
        span = reader.span_ns() or (0, 0)
        topics, spans = [], {}
        for channel in sorted(reader.channels, key=lambda channel: (channel.topic, channel.msgtype)):
            mine = [entry for entry in arrivals.get(channel.topic, []) if entry.channel.msgtype == channel.msgtype]
            topics.append(_topic(channel, mine, span[0], reader.definitions.trouble(channel) if not channel.definition else ""))
            if mine:
                spans[channel.topic] = (min(int(e.times_ns.min()) for e in mine), max(int(e.times_ns.max()) for e in mine))
        counts: dict[str, int] = {}
        for topic in topics:
            counts[topic.topic] = counts.get(topic.topic, 0) + topic.count
        try:
            training = training_topics(reader, spans)
        except BagError as error:
            training = TrainingTopics("", "", "", (str(error),))
        folder = reader.folder
        if not folder.has_metadata and folder.path.is_dir():
            troubles.append("metadata.yaml is missing: its recorder was killed, or is still at work")
        if troubles:
            troubles.append(f"`latent-mpc bag recover {path} --out NEW` makes a whole bag of it")
        return BagSummary(
            bag=str(path),
            storage="mcap" if ".mcap" in folder.files[0].name else "sqlite3" if folder.files else "",
            metadata_version=folder.version,
            distro=folder.distro,
            files=tuple(file.name for file in folder.files),
            size_bytes=sum(file.stat().st_size for file in folder.files),
            starts_ns=span[0],
            duration_s=(span[1] - span[0]) / _NS,
            messages=sum(counts.values()),
            topics=tuple(topics),
            training=training,
            troubles=tuple(troubles),
        )


def summary_text(summary: BagSummary) -> str:
    """For people."""
    began = datetime.fromtimestamp(summary.starts_ns / _NS, timezone.utc)
    version = f", metadata version {summary.metadata_version}" if summary.metadata_version else ""
    distro = f", {summary.distro}" if summary.distro else ""
    files = "1 file" if len(summary.files) == 1 else f"{len(summary.files)} files"
    lines = [
        f"{summary.bag}: {summary.storage}, {files}, {summary.size_bytes / 1e6:.1f} MB{version}{distro}",
        f"{summary.messages} messages in {summary.duration_s:.1f} s from {began:%Y-%m-%d %H:%M:%S} UTC",
    ]
    rows = [("topic", "type", "count", "Hz", "largest gap", "backward", "QoS")]
    for topic in summary.topics:
        gap = f"{topic.largest_gap_s:.3f} s at {topic.largest_gap_at_s:.1f} s" if topic.count > 1 else ""
        stamps = "?" if topic.backward_stamps is None else str(topic.backward_stamps)
        rows.append(
            (
                topic.topic,
                topic.msgtype,
                str(topic.count),
                f"{topic.rate_hz:.1f}" if topic.rate_hz else "",
                gap,
                f"{topic.backward_receptions}/{stamps}" if topic.count else "",
                " | ".join(topic.qos) or "unknown",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("backward: jumps backward of reception times / of stamps (?: not looked at)")
    lines += [f"{topic.topic} can be played, but not decoded: {topic.unreadable}" for topic in summary.topics if topic.unreadable]
    training = summary.training
    if training.possible:
        actions = training.actions or "from the measured joints, nothing was commanded"
        lines.append(f"can train a model: camera {training.camera}, joint states {training.joint_states}, actions {actions}")
        lines += [f"say which in `latent-mpc dataset from-bag`: {choice}" for choice in training.undecided]
        if training.other_actions:
            lines.append(f"commands that `latent-mpc dataset from-bag --actions` could read as well: {', '.join(training.other_actions)}")
    else:
        lines += [f"cannot train a model: {obstacle}" for obstacle in training.obstacles]
    lines += [f"broken: {trouble}" for trouble in summary.troubles]
    return "\n".join(lines)


def _topic(channel: Channel, arrivals: Sequence[Arrivals], begins_ns: int, unreadable: str) -> TopicSummary:
    times = np.concatenate([entry.times_ns for entry in arrivals]) if arrivals else np.empty(0, np.int64)
    steps = np.diff(times)
    lasts = (int(times.max()) - int(times.min())) / _NS if times.size else 0.0
    largest = int(steps.argmax()) if steps.size else -1
    stamps: NDArray[np.int64] | None = None
    if _headed(channel) and arrivals:
        parts = [entry.stamps_ns for entry in arrivals if entry.stamps_ns is not None]
        stamps = np.concatenate(parts) if len(parts) == len(arrivals) else None
    return TopicSummary(
        topic=channel.topic,
        msgtype=channel.msgtype,
        count=int(times.size),
        rate_hz=(times.size - 1) / lasts if lasts > 0 else 0.0,
        largest_gap_s=float(steps[largest]) / _NS if steps.size else 0.0,
        largest_gap_at_s=float(times[largest] - begins_ns) / _NS if steps.size else 0.0,
        backward_receptions=int((steps < 0).sum()),
        backward_stamps=0 if not _headed(channel) else None if stamps is None else int((np.diff(stamps) < 0).sum()),
        qos=tuple(dict.fromkeys(profile.text for profile in channel.qos)),
        unreadable=unreadable,
    )


def _headed(channel: Channel) -> bool:
    """Whether messages begin with a header."""
    if not channel.definition or channel.encoding != "ros2msg":
        return channel.msgtype in _HEADED_TYPES
    for line in channel.definition.splitlines():
        text = line.split("#")[0].strip()
        if text and "=" not in text:
            return " ".join(text.split()).startswith(_HEADED)
    return False
