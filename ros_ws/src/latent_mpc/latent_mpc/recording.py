"""What a bag of a demo tells about its episodes, as arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.bag import NS_PER_S, pixels, read_messages, status_values

CAMERA_TOPIC, GOAL_TOPIC, TRUTH_TOPIC = "/camera/image_raw", "/goal/image", "/sim/ground_truth"
RESET_TOPIC = "/sim/goal_image"
PLANNER_TOPIC, GUARDRAIL_TOPIC = "/planner/status", "/guardrail/status"
# The arm comes to rest this long after the planner's last step.
_SETTLING_NS = 500_000_000
# Pictures of the next episode's scene may be received this long before the message that announces it.
_BEFORE_RESET_NS = 20_000_000


class RecordingError(ValueError):
    """A bag that lacks what a report or a video is made of, with the reason in one line."""


@dataclass(frozen=True)
class Series:
    """``times_ns (N,) int64`` and what was said at each: ``values (N, ...) float64``."""

    times_ns: NDArray[np.int64]
    values: NDArray[np.float64]

    def between(self, start_ns: int, end_ns: int) -> Series:
        """The part from ``start_ns`` up to ``end_ns``."""
        first, last = np.searchsorted(self.times_ns, [start_ns, end_ns])
        return Series(self.times_ns[first:last], self.values[first:last])


@dataclass(frozen=True)
class Frames:
    """``times_ns (N,) int64`` and as many pictures ``(H, W, 3) uint8``."""

    times_ns: NDArray[np.int64]
    pictures: tuple[NDArray[np.uint8], ...]

    def at(self, time_ns: int) -> NDArray[np.uint8] | None:
        """The newest picture at ``time_ns``, or the first one before there is any; None when there is none at all."""
        if not self.pictures:
            return None
        return self.pictures[max(0, int(np.searchsorted(self.times_ns, time_ns, side="right")) - 1)]


@dataclass(frozen=True)
class Span:
    """One episode: from its goal being shown to the arm at rest, and the goal picture ``(H, W, 3) uint8``."""

    start_ns: int
    end_ns: int
    goal: NDArray[np.uint8]


@dataclass(frozen=True)
class Recording:
    """Everything about a demo but its large pictures. ``distance`` in m, ``plan_ms`` per new plan, ``interventions`` as counted since the start."""

    start_ns: int
    end_ns: int
    distance: Series
    plan_ms: Series
    interventions: Series
    stopped: Series
    camera: Frames
    episodes: tuple[Span, ...]


def read_recording(bag: Path, seconds: Sequence[float]) -> Recording:
    """Read ``bag``; its n-th goal picture starts the episode that took ``seconds[n]``.

    Raises:
        BagError: the bag cannot be read.
        RecordingError: it holds no goal picture or no ground truth.
    """
    times: dict[str, list[int]] = defaultdict(list)
    rows: dict[str, list[Any]] = defaultdict(list)

    def keep(name: str, time_ns: int, value: object) -> None:
        times[name].append(time_ns)
        rows[name].append(value)

    plans = ""
    for entry in read_messages(bag, (CAMERA_TOPIC, GOAL_TOPIC, RESET_TOPIC, TRUTH_TOPIC, PLANNER_TOPIC, GUARDRAIL_TOPIC)):
        if entry.topic in (CAMERA_TOPIC, GOAL_TOPIC):
            keep(entry.topic, entry.time_ns, pixels(entry.message))
        elif entry.topic == RESET_TOPIC:
            keep(entry.topic, entry.time_ns, None)
        elif entry.topic == TRUTH_TOPIC:
            keep(entry.topic, entry.time_ns, float(entry.message.data[0]))
        elif entry.topic == PLANNER_TOPIC:
            values = status_values(entry.message)
            # The status is repeated between plans; each plan's time counts once.
            if entry.message.message == "PLANNING" and values.get("plans", "0") not in ("0", plans):
                plans = values["plans"]
                keep("plan_ms", entry.time_ns, float(values["plan_ms"]))
        else:
            keep("interventions", entry.time_ns, float(status_values(entry.message).get("interventions", "0")))
            keep("stopped", entry.time_ns, float(entry.message.message == "STOPPED"))
    for topic in (GOAL_TOPIC, TRUTH_TOPIC):
        if topic not in times:
            raise RecordingError(f"{bag} holds no message on {topic}: nothing to report")

    def series(name: str) -> Series:
        return Series(np.array(times[name], dtype=np.int64), np.array(rows[name], dtype=np.float64))

    last_ns = max(series_times[-1] for series_times in times.values())
    starts = times[GOAL_TOPIC]
    resets = [ns - _BEFORE_RESET_NS for ns in (*times[RESET_TOPIC], *starts)]
    spans = [
        Span(start, min([start + int(taken * NS_PER_S) + _SETTLING_NS, last_ns, *(reset for reset in resets if reset > start)]), goal)
        for start, taken, goal in zip(starts, seconds, rows[GOAL_TOPIC], strict=False)
    ]
    return Recording(
        start_ns=min(series_times[0] for series_times in times.values()),
        end_ns=last_ns,
        distance=series(TRUTH_TOPIC),
        plan_ms=series("plan_ms"),
        interventions=series("interventions"),
        stopped=series("stopped"),
        camera=Frames(np.array(times[CAMERA_TOPIC], dtype=np.int64), tuple(rows[CAMERA_TOPIC])),
        episodes=tuple(spans),
    )
