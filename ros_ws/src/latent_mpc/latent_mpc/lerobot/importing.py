"""A LeRobot data set as episodes of ours: actions scaled to [-1, 1], and the scale written down."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.lerobot.layout import ACTION, OURS, STATE, STATS, LeRobotError, parquet
from latent_mpc.lerobot.source import EpisodePlace, LeRobotSource, Pictures
from latent_mpc.picture_size import fitted
from latent_mpc.shard_collection import all_or_nothing
from world_model.data import ShardWriter

STATES = {"rad": 1.0, "deg": math.pi / 180}
# A narrow component gets at least this share of the widest one's range: noise must not become the full range.
_LEAST_SHARE = 1e-3
# An action may go this many times as far as the scale of another set says; up to there it is clipped.
_ROUNDING, _FURTHER = 1e-5, 1.25


@dataclass(frozen=True)
class LeRobotImport:
    """Which data set becomes episodes of ``steps`` actions in ``out``; by default as many as its episodes have, 40 at most.

    ``every``: a step is that many rows. ``state``: what observation.state is, "rad", "deg", or "none" to leave it out. ``like``: description of a
    data set whose scale of actions is taken, called ``like_name``. ``size`` of the pictures; by default their own up to 64 x 64.
    """

    source: Path
    out: Path
    camera: str | None = None
    steps: int | None = None
    every: int = 1
    state: str | None = None
    size: tuple[int, int] | None = None
    like: dict[str, Any] = field(default_factory=dict)
    like_name: str = ""
    episodes_per_shard: int = 25
    name: str | None = None


@dataclass(frozen=True)
class LeRobotImported:
    """What came of it; ``dropped`` steps by the reason."""

    episodes: int
    steps: int
    dropped: dict[str, int]

    def text(self) -> str:
        """For people."""
        lost = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        return f"{self.episodes} episodes of {self.steps} steps" + (f"; steps not used: {lost}" if lost else "")


@dataclass(frozen=True)
class _Window:
    place: EpisodePlace
    first: int
    actions: NDArray[np.float32]
    joints: NDArray[np.float32] | None


def import_lerobot(asked: LeRobotImport, report: Callable[[int, int], None]) -> LeRobotImported:
    """Write the episodes.

    Raises:
        LeRobotError: the data set cannot be read, or has no episode of that length.
        DatasetError: the folder holds another data set.
    """
    parquet()
    source = LeRobotSource(asked.source, asked.camera)
    ours = dict(source.info.get(OURS) or {})
    places = source.episodes()
    steps = asked.steps or int(ours.get("steps", 0)) or max(1, min(40, max((place.length - 1) // asked.every for place in places)))
    meaning, low, high = _meaning(asked, source, ours)
    unit = _unit(asked, source, ours, places)
    size = asked.size or (min(source.height, 64), min(source.width, 64))
    dropped: Counter[str] = Counter()
    windows = [window for place in places for window in _windows(asked, source, place, steps, (low, high), unit, dropped)]
    if not windows:
        longest = max((place.length - 1) // asked.every for place in places)
        why = ", ".join(f"{count} steps {reason}" for reason, count in (+dropped).items())
        raise LeRobotError(f"{asked.source} has no episode of {steps} steps, the longest has {longest} ({why}): give fewer --episode-steps")
    description = {
        "task": asked.name or ours.get("task") or asked.source.name,
        **{key: ours[key] for key in ("env", "env_arguments", "camera") if key in ours},
        **meaning,
        "frame": [*size, 3],
        **({} if unit is None else {"joints": ours.get("joints") or source.names_of(STATE)}),
        "policy": "lerobot",
        "steps": steps,
        "episodes_per_shard": asked.episodes_per_shard,
        "sources": [{"lerobot": asked.source.resolve().name, "episode": window.place.number, "row": window.first} for window in windows],
        "dropped_steps": dict(+dropped),
    }
    _write(asked, source, windows, steps, size, description, report)
    return LeRobotImported(len(windows), steps, dict(+dropped))


def _meaning(
    asked: LeRobotImport, source: LeRobotSource, ours: dict[str, Any]
) -> tuple[dict[str, Any], NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """``tool_step`` or ``action_space``, and what -1 and 1 stand for in the numbers of the set; None where they are actions already."""
    width = source.width_of(ACTION)
    if width == 0:
        raise LeRobotError(f"{source.directory} has no feature '{ACTION}'")
    kept = {key: ours[key] for key in ("tool_step", "action_space") if ours.get(key)}
    if kept:
        if asked.every != 1 or asked.like:
            raise LeRobotError(f"{source.directory} says what its actions mean and how long a step is: leave out --every and --like")
        return kept, None, None
    if asked.like:
        space = asked.like.get("action_space") or {}
        if space.get("names") != source.names_of(ACTION) or space.get("unit") != "lerobot":
            raise LeRobotError(f"the actions of {asked.like_name} are not those of {source.directory}: {', '.join(source.names_of(ACTION))}")
        low, high = np.array(space["low"]), np.array(space["high"])
        period = asked.every / source.fps
        if abs(period - float(space["period_s"])) > 1e-6:
            raise LeRobotError(f"a step of {asked.like_name} takes {space['period_s']:g} s, one of {source.directory} {period:g} s: say --every")
        return {"action_space": space}, low, high
    try:
        stats = json.loads((source.directory / STATS).read_text())[ACTION]
        low, high = np.array(stats["min"], np.float64).reshape(width), np.array(stats["max"], np.float64).reshape(width)
    except (OSError, KeyError, TypeError, ValueError):  # version 2.1 keeps them by episode
        every = np.concatenate([source.rows(place, ACTION) for place in source.episodes()])
        low, high = every.min(0), every.max(0)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise LeRobotError(f"{source.directory}: an action is not finite")
    middle, half = (low + high) / 2, (high - low) / 2
    half = np.maximum(half, max(_LEAST_SHARE * half.max(), 1e-6))
    low, high = middle - half, middle + half
    space = {"low": low.tolist(), "high": high.tolist(), "dim": width, "meaning": "command", "names": source.names_of(ACTION)}
    return {"action_space": {**space, "unit": "lerobot", "period_s": asked.every / source.fps}}, low, high


def _unit(asked: LeRobotImport, source: LeRobotSource, ours: dict[str, Any], places: list[EpisodePlace]) -> float | None:
    """What observation.state is to be multiplied by to be radians; None where there is none, or it is to be left out."""
    if source.width_of(STATE) == 0 or asked.state == "none":
        return None
    if asked.state is not None:
        if asked.state not in STATES:
            raise LeRobotError(f"{STATE} can be {', '.join(STATES)} or none, not '{asked.state}'")
        return STATES[asked.state]
    if ours:
        return 1.0
    most = max(float(np.abs(source.rows(place, STATE)).max()) for place in places)
    if most > 2 * math.pi:
        raise LeRobotError(f"{STATE} of {source.directory} goes up to {most:.4g}, so it is not in radians: say --state deg, or --state none")
    return 1.0


def _windows(
    asked: LeRobotImport,
    source: LeRobotSource,
    place: EpisodePlace,
    steps: int,
    scale: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None],
    unit: float | None,
    dropped: Counter[str],
) -> list[_Window]:
    actions = source.rows(place, ACTION)
    low, high = scale
    if low is not None and high is not None:
        actions = 2 * (actions - low) / (high - low) - 1
    if not np.isfinite(actions).all() or (not asked.like and np.abs(actions).max() > 1 + _ROUNDING):
        raise LeRobotError(
            f"episode {place.number} of {source.directory}: an action is not finite, or outside what the set says its actions lie between"
        )
    too_far = np.abs(actions).max(1) > _FURTHER
    joints = None if unit is None else (source.rows(place, STATE) * unit).astype(np.float32)
    actions = np.clip(actions, -1, 1).astype(np.float32)
    length = (place.length - 1) // asked.every
    windows = []
    for begin in range(0, length - steps + 1, steps):
        rows = np.arange(begin, begin + steps + 1) * asked.every
        if too_far[rows[:-1]].any():
            dropped["in a window with an action that the scale does not reach"] += steps
            continue
        windows.append(_Window(place, int(rows[0]), actions[rows[:-1]], None if joints is None else joints[rows]))
    dropped["at the end of an episode"] += length % steps if length >= steps else length
    return windows


def _write(
    asked: LeRobotImport,
    source: LeRobotSource,
    windows: list[_Window],
    steps: int,
    size: tuple[int, int],
    description: dict[str, Any],
    report: Callable[[int, int], None],
) -> None:
    pictures = Pictures(source)
    seen: tuple[int, list[NDArray[np.uint8]]] = (-1, [])
    with all_or_nothing(asked.out, description) as folder:
        for index, first in enumerate(range(0, len(windows), asked.episodes_per_shard)):
            part = windows[first : first + asked.episodes_per_shard]
            frames = []
            for window in part:
                if seen[0] != window.place.number:
                    seen = window.place.number, [fitted(frame, size) for frame in pictures.of(window.place)]
                frames.append(np.stack([seen[1][window.first + k * asked.every] for k in range(steps + 1)]))
                report(first + len(frames), len(windows))
            joints = [window.joints for window in part if window.joints is not None]
            actions = np.stack([window.actions for window in part])
            ShardWriter(folder, index).write(np.stack(frames), actions, None, np.stack(joints) if joints else None)
