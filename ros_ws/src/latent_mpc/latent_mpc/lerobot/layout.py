"""What a LeRobot data set of version 3.0 holds, and where: as `lerobot` 0.4 reads it (`LeRobotDatasetMetadata`, `datasets/utils`)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_MB, VIDEO_MB = 100, 200
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
ACTION, STATE, DONE = "action", "observation.state", "next.done"
OURS = "latent_mpc"
"""Key of info.json that keeps what LeRobot has no word for: what an action means, so that a set can come back as it went."""
INDEX = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64"}
"""The columns that every row has, and their types."""


class LeRobotError(ValueError):
    """A LeRobot data set that cannot be read or written, with the reason in one line."""


@dataclass(frozen=True)
class Place:
    """Chunk and number of a file; of every kind of file there is one with each number."""

    chunk_index: int
    file_index: int

    @staticmethod
    def of(number: int) -> Place:
        """The place of the ``number``-th file."""
        return Place(number // CHUNK_FILES, number % CHUNK_FILES)

    def in_pattern(self, pattern: str, **more: str) -> str:
        """A path relative to the data set."""
        return pattern.format(chunk_index=self.chunk_index, file_index=self.file_index, **more)


def parquet() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``, imported only when they are needed.

    Raises:
        LeRobotError: they are not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise LeRobotError("LeRobot data sets need pyarrow: pip install 'latent-mpc[train]', or -r requirements-train.txt") from error


def vector(names: list[str]) -> dict[str, Any]:
    """A feature of one float32 for each name."""
    return {"dtype": "float32", "shape": [len(names)], "names": names}


def video(height: int, width: int, fps: float, codec: str, pixel_format: str) -> dict[str, Any]:
    """A feature of pictures."""
    info = {
        "video.height": height,
        "video.width": width,
        "video.codec": codec,
        "video.pix_fmt": pixel_format,
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }
    return {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"], "info": info}
