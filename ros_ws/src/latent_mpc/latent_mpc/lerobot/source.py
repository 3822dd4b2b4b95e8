"""A LeRobot data set as it lies on disk, version 3.0 or 2.1: which rows and which part of which film make an episode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from latent_mpc.lerobot.layout import EPISODES, LeRobotError, Place
from latent_mpc.lerobot.tables import read_columns
from latent_mpc.lerobot.video import decode

READABLE = ("v3.0", "v2.1", "v2.0")
_EPISODE_FILES = EPISODES.split("chunk-")[0]


@dataclass(frozen=True)
class EpisodePlace:
    """An episode of ``length`` rows: its number, the ``data`` file with it, and the ``film`` in which it begins at ``begins_s``."""

    number: int
    length: int
    data: Path
    film: Path | None
    begins_s: float


class LeRobotSource:
    """A data set opened for reading. Attributes: ``info``, the content of ``meta/info.json``; ``fps``; ``camera``, the key of its pictures.

    Raises:
        LeRobotError: there is none, it is of another version, or it has no such camera.
    """

    def __init__(self, directory: Path, camera: str | None) -> None:
        self.directory = directory
        file = directory / "meta" / "info.json"
        try:
            self.info: dict[str, Any] = dict(json.loads(file.read_text()))
            self.version, self.fps = str(self.info["codebase_version"]), float(self.info["fps"])
            self.features: dict[str, dict[str, Any]] = dict(self.info["features"])
        except FileNotFoundError as error:
            raise LeRobotError(f"{directory} is no LeRobot data set: it holds no meta/info.json") from error
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise LeRobotError(f"{file} cannot be read: {error!r}") from error
        if self.version not in READABLE:
            raise LeRobotError(f"{directory} is of version {self.version}; this software reads {', '.join(READABLE)}")
        cameras = [key for key, feature in self.features.items() if feature.get("dtype") in ("video", "image")]
        if camera is None and len(cameras) == 1:
            camera = cameras[0]
        if camera is None or camera not in cameras:
            asked = "several cameras, say --camera" if camera is None else f"no camera {camera}"
            raise LeRobotError(f"{directory} has {asked}; it has {', '.join(cameras) or 'none'}")
        self.camera = camera
        height, width, *_ = self._shape()
        self.height, self.width = int(height), int(width)
        # Columns of the files that are being read: numbers of episodes, actions, states.
        self._column = lru_cache(4)(self._read_column)

    def _shape(self) -> list[int]:
        feature = self.features[self.camera]
        shape, names = list(feature["shape"]), list(feature.get("names") or [])
        channels_first = names[:1] in (["channel"], ["channels"]) or (not names and shape[0] in (1, 3))
        return shape[1:] if channels_first else shape

    def width_of(self, key: str) -> int:
        """Numbers in each row of a feature; 0 where there is none."""
        return int(self.features[key]["shape"][0]) if key in self.features else 0

    def names_of(self, key: str) -> list[str]:
        """What the numbers of a feature are called."""
        names = self.features[key].get("names")
        while isinstance(names, dict):  # some say {"motors": [...]}
            names = next(iter(names.values()), None)
        flat = [str(name) for name in names or []]
        return flat if len(flat) == self.width_of(key) else [f"{key}_{index}" for index in range(self.width_of(key))]

    def episodes(self) -> list[EpisodePlace]:
        """Every episode, in order.

        Raises:
            LeRobotError: the tables are missing or damaged.
        """
        try:
            places = list(self._episodes_v3() if self.version == "v3.0" else self._episodes_v2())
        except (KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, LeRobotError):
                raise
            raise LeRobotError(f"{self.directory}: the list of its episodes cannot be read: {error!r}") from error
        if not places:
            raise LeRobotError(f"{self.directory} holds no episodes")
        return places

    def _episodes_v3(self) -> Iterator[EpisodePlace]:
        filmed = self.features[self.camera]["dtype"] == "video"
        names = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        names += [f"videos/{self.camera}/{what}" for what in ("chunk_index", "file_index", "from_timestamp")] if filmed else []
        files = sorted((self.directory / _EPISODE_FILES).glob("*/*.parquet"))
        for file in files:
            columns = read_columns(file, names)
            for number, length, *place in zip(*(columns[name] for name in names), strict=True):
                data = self.directory / Place(place[0], place[1]).in_pattern(self.info["data_path"])
                film = self.directory / Place(place[2], place[3]).in_pattern(self.info["video_path"], video_key=self.camera) if filmed else None
                yield EpisodePlace(int(number), int(length), data, film, float(place[4]) if filmed else 0.0)

    def _episodes_v2(self) -> Iterator[EpisodePlace]:
        filmed = self.features[self.camera]["dtype"] == "video"
        file = self.directory / "meta" / "episodes.jsonl"
        try:
            lines = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        except OSError as error:
            raise LeRobotError(f"{file} cannot be read: {error.strerror}") from error
        for line in lines:
            number = int(line["episode_index"])
            where = {"episode_chunk": number // int(self.info["chunks_size"]), "episode_index": number}
            film = self.directory / self.info["video_path"].format(**where, video_key=self.camera) if filmed else None
            yield EpisodePlace(number, int(line["length"]), self.directory / self.info["data_path"].format(**where), film, 0.0)

    def rows(self, episode: EpisodePlace, key: str) -> NDArray[np.float64]:
        """Column ``key`` of an episode: ``(length, K)``.

        Raises:
            LeRobotError: the table is missing, damaged, or has another number of rows.
        """
        rows: NDArray[np.float64] = self._column(episode.data, key)[self._column(episode.data, "episode_index")[:, 0] == episode.number]
        if len(rows) != episode.length:
            raise LeRobotError(f"{episode.data}: episode {episode.number} has {len(rows)} rows, the list of episodes says {episode.length}")
        return rows

    def _read_column(self, file: Path, key: str) -> NDArray[np.float64]:
        try:
            values = np.array(read_columns(file, [key])[key], np.float64)
        except (TypeError, ValueError) as error:
            if isinstance(error, LeRobotError):
                raise
            raise LeRobotError(f"{file}: the rows of {key} are not numbers, as many in each") from error
        return values if values.ndim == 2 else values[:, None]


class Pictures:
    """The pictures of episodes that are asked for in order: each film is decoded once, from its begin on."""

    def __init__(self, source: LeRobotSource) -> None:
        self._source = source
        self._film: Path | None = None
        self._frames: Iterator[NDArray[np.uint8]] = iter(())
        self._next = 0

    def of(self, episode: EpisodePlace) -> Iterator[NDArray[np.uint8]]:
        """``length`` pictures ``(h, w, 3) uint8``.

        Raises:
            LeRobotError: the film is missing, cut short or damaged.
        """
        if episode.film is None:
            yield from self._stored(episode)
            return
        first = round(episode.begins_s * self._source.fps)
        if episode.film != self._film or first < self._next:
            if not episode.film.is_file():
                raise LeRobotError(f"{episode.film} is missing")
            self._film, self._next = episode.film, 0
            self._frames = decode(episode.film, self._source.height, self._source.width)
        for place in range(self._next, first + episode.length):
            frame = next(self._frames, None)
            self._next = place + 1
            if frame is None:
                raise LeRobotError(f"{episode.film} ends after {place} pictures, within episode {episode.number}")
            if place >= first:
                yield frame

    def _stored(self, episode: EpisodePlace) -> Iterator[NDArray[np.uint8]]:
        source = self._source
        columns = read_columns(episode.data, [source.camera, "episode_index"])
        for picture, number in zip(columns[source.camera], columns["episode_index"], strict=True):
            if number == episode.number:
                content = picture.get("bytes") if isinstance(picture, dict) else None
                decoded = None if not content else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
                if decoded is None:
                    raise LeRobotError(f"{episode.data}: a picture of episode {number} cannot be decoded")
                yield np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
