"""Episodes as a LeRobot data set of version 3.0: tables, films and statistics, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.lerobot import layout, statistics
from latent_mpc.lerobot.layout import ACTION, DONE, OURS, STATE, LeRobotError, Place
from latent_mpc.lerobot.tables import write_records, write_rows, write_tasks
from latent_mpc.lerobot.video import CODEC, encode, pixel_format
from world_model.data import EpisodeDataset

_KEPT = ("task", "tool_step", "env", "action_space", "env_arguments", "camera", "joints", "policy", "seed", "steps", "sources")


@dataclass(frozen=True)
class LeRobotExport:
    """Which data set goes where. ``task``: what the robot is told, in words; ``fps``: for environments, whose steps have no length.

    ``most_frames``: of one file; by default as many as are sure to stay below LeRobot's 200 MB.
    """

    data: Path
    out: Path
    task: str | None = None
    robot: str | None = None
    camera: str = "camera"
    fps: float | None = None
    most_frames: int | None = None


@dataclass
class _Written:
    records: list[dict[str, Any]] = field(default_factory=list)
    columns: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    shades: NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 256), np.int64))
    frames: int = 0


def export_lerobot(asked: LeRobotExport, report: Callable[[int, int], None]) -> dict[str, Any]:
    """Write the data set and return its ``info.json``.

    An episode of T actions has T + 1 rows; the action of the last one leads nowhere, and is not read back.

    Raises:
        LeRobotError: the folder is not empty, pyarrow is missing, or ffmpeg fails.
        DatasetError: the data cannot be read.
    """
    layout.parquet()
    if asked.out.exists() and (not asked.out.is_dir() or any(asked.out.iterdir())):
        raise LeRobotError(f"{asked.out} is not empty; choose another --out or delete it")
    data = EpisodeDataset(asked.data)
    fps = _fps(asked, data.description)
    key = f"observation.images.{asked.camera}"
    height, width, _ = data.frame
    features: dict[str, dict[str, Any]] = {ACTION: layout.vector(_action_names(data))}
    joints = data.joints()
    if joints is not None:
        features[STATE] = layout.vector(_joint_names(data, joints.shape[-1]))
    features[key] = layout.video(height, width, fps, CODEC, pixel_format(height, width))
    features[DONE] = {"dtype": "bool", "shape": [1], "names": None}
    features |= {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in layout.INDEX.items()}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    staging = asked.out.with_name(f".{asked.out.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        task = asked.task or str(data.description.get("task", "move"))
        written = _write_files(asked, staging, data, joints, features, key, fps, task, report)
        everything = {name: np.concatenate([part[name] for part in written.columns]) for name in written.columns[0]}
        stats = {name: statistics.of_values(_rows(values)) for name, values in everything.items()}
        stats[key] = statistics.of_pictures(written.shades, written.frames)
        info = {
            "codebase_version": layout.VERSION,
            "robot_type": asked.robot,
            "total_episodes": data.episodes,
            "total_frames": written.frames,
            "total_tasks": 1,
            "chunks_size": layout.CHUNK_FILES,
            "data_files_size_in_mb": layout.DATA_MB,
            "video_files_size_in_mb": layout.VIDEO_MB,
            "fps": fps,
            "splits": {"train": f"0:{data.episodes}"},
            "data_path": layout.DATA,
            "video_path": layout.VIDEO,
            "features": features,
            OURS: {name: data.description[name] for name in _KEPT if name in data.description},
        }
        write_records(staging / Place.of(0).in_pattern(layout.EPISODES), written.records)
        write_tasks(staging / layout.TASKS, [task])
        (staging / layout.STATS).write_text(json.dumps(stats, indent=4))
        (staging / layout.INFO).write_text(json.dumps(info, indent=4))
        if asked.out.exists():
            asked.out.rmdir()
        staging.rename(asked.out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return info


def _write_files(
    asked: LeRobotExport,
    out: Path,
    data: EpisodeDataset,
    joints: NDArray[np.float32] | None,
    features: dict[str, dict[str, Any]],
    key: str,
    fps: float,
    task: str,
    report: Callable[[int, int], None],
) -> _Written:
    written, length, actions = _Written(), data.steps + 1, data.actions()
    # Even pictures of pure noise stay below 1.5 bytes a pixel at this quality.
    most = asked.most_frames or layout.VIDEO_MB * 2**20 // (data.frame[0] * data.frame[1] * 3 // 2)
    together = max(1, most // length)
    displaces = _displaces(data.description)
    report(0, data.episodes)
    for number, first in enumerate(range(0, data.episodes, together)):
        place, rows = Place.of(number), np.arange(first, min(first + together, data.episodes))

        def pictures(rows: NDArray[np.int_] = rows, place: Place = place, first: int = first) -> Iterator[NDArray[np.uint8]]:
            for episode in rows.tolist():
                frames = data.windows(np.array([episode]), np.array([0]), length)[0]
                shades = statistics.histogram(frames)
                written.shades += shades
                columns = _columns(episode, actions[episode], None if joints is None else joints[episode], length, fps, displaces)
                stats = {name: statistics.of_values(_rows(values)) for name, values in columns.items()}
                stats[key] = statistics.of_pictures(shades, length)
                written.columns.append(columns)
                written.records.append(_record(episode, first, place, length, fps, task, key, stats))
                written.frames += length
                yield from frames
                report(episode + 1, data.episodes)

        begun = len(written.columns)
        encode(out / place.in_pattern(layout.VIDEO, video_key=key), pictures(), data.frame[0], data.frame[1], fps)
        columns = {name: np.concatenate([part[name] for part in written.columns[begun:]]) for name in written.columns[begun]}
        write_rows(out / place.in_pattern(layout.DATA), columns, features)
    return written


def _columns(
    episode: int, actions: NDArray[np.float32], joints: NDArray[np.float32] | None, length: int, fps: float, displaces: bool
) -> dict[str, NDArray[Any]]:
    # Nothing is done after the last picture: a displacement of nothing, or what was said last.
    last = np.zeros_like(actions[-1:]) if displaces else actions[-1:]
    places = np.arange(length)
    columns: dict[str, NDArray[Any]] = {ACTION: np.concatenate([actions, last])}
    if joints is not None:
        columns[STATE] = joints
    columns[DONE] = places == length - 1
    columns["timestamp"] = (places / fps).astype(np.float32)
    columns["frame_index"] = places
    columns["episode_index"] = np.full(length, episode)
    columns["index"] = episode * length + places
    columns["task_index"] = np.zeros(length, np.int64)
    return columns


def _record(episode: int, first: int, place: Place, length: int, fps: float, task: str, key: str, stats: dict[str, Any]) -> dict[str, Any]:
    begins = (episode - first) * length
    record: dict[str, Any] = {
        "episode_index": episode,
        "tasks": [task],
        "length": length,
        "data/chunk_index": place.chunk_index,
        "data/file_index": place.file_index,
        "dataset_from_index": episode * length,
        "dataset_to_index": (episode + 1) * length,
        f"videos/{key}/chunk_index": place.chunk_index,
        f"videos/{key}/file_index": place.file_index,
        f"videos/{key}/from_timestamp": begins / fps,
        f"videos/{key}/to_timestamp": (begins + length) / fps,
    }
    record |= {f"stats/{name}/{what}": value for name, of_name in stats.items() for what, value in of_name.items()}
    return record | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


def _rows(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.ndim == 2 else values[:, None]


def _fps(asked: LeRobotExport, description: dict[str, Any]) -> float:
    space = description.get("action_space") or {}
    period = (description.get("tool_step") or {}).get("period_s") or space.get("period_s")
    if asked.fps is not None and period is not None:
        raise LeRobotError(f"{asked.data} has a step every {period:g} s: --fps is for sets whose steps have no length")
    fps = asked.fps if asked.fps is not None else 10.0 if period is None else 1.0 / float(period)
    return round(fps) if abs(fps - round(fps)) < 1e-6 else fps


def _displaces(description: dict[str, Any]) -> bool:
    return bool(description.get("tool_step")) or (description.get("action_space") or {}).get("meaning") == "joint displacement"


def _action_names(data: EpisodeDataset) -> list[str]:
    named = (data.description.get("action_space") or {}).get("names")
    axes = [f"tool_{axis}" for axis in "xyz"] if data.description.get("tool_step") else [f"action_{index}" for index in range(data.action_dim)]
    return list(named or axes[: data.action_dim])


def _joint_names(data: EpisodeDataset, count: int) -> list[str]:
    named = data.description.get("joints") or []
    return list(named) if len(named) == count else [f"joint_{index}" for index in range(count)]
