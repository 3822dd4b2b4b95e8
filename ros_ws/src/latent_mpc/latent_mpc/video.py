"""A demo as a film: the arm, what its camera sees, the picture it was shown, and what it imagined."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from latent_mpc.bag import NS_PER_S, pixels, read_messages, status_values
from latent_mpc.recording import PLANNER_TOPIC, Frames, Recording, Series, Span
from planner_node.guardrails.zone import Zone
from sim.camera import OVERVIEW, Camera

OVERVIEW_TOPIC, IMAGINED_TOPIC = "/overview/image_raw", "/planner/imagined"
FPS = 10
_LAST_FRAME_HELD = 8
_GAP, _CAPTION = 16, 52
_OVERVIEW_SIZE = (480, 360)
_SQUARE = 232
_WALL_HEIGHT_M = 0.34
_PAPER, _INK, _MUTED = (250, 251, 252), (28, 39, 51), (102, 115, 127)
_PATH, _END, _WALL, _EDGE = (37, 99, 235), (235, 60, 150), (220, 60, 30), (205, 211, 218)


@dataclass(frozen=True)
class Footage:
    """What a film needs beside the recording: overview pictures, the planner's step, and the imagined tool paths ``(K, 3) m`` by time."""

    overview: Frames
    step: Series
    steps: int
    imagined_ns: NDArray[np.int64]
    imagined: tuple[NDArray[np.float64], ...]

    def path_at(self, span: Span, time_ns: int) -> NDArray[np.float64] | None:
        """The newest path imagined in ``span`` by ``time_ns``."""
        index = int(np.searchsorted(self.imagined_ns, time_ns, side="right")) - 1
        return self.imagined[index] if index >= 0 and self.imagined_ns[index] >= span.start_ns else None


@dataclass(frozen=True)
class Shot:
    """One moment: pictures ``(H, W, 3) uint8``, the imagined ``path (K, 3) m`` if there is one, and two lines of text."""

    overview: NDArray[np.uint8] | None
    camera: NDArray[np.uint8]
    goal: NDArray[np.uint8]
    path: NDArray[np.float64] | None
    zone: Zone | None
    title: str
    caption: str


def read_footage(bag: Path) -> Footage:
    """Read from ``bag`` what only a film needs.

    Raises:
        BagError: the bag cannot be read.
    """
    times: dict[str, list[int]] = defaultdict(list)
    overview: list[NDArray[np.uint8]] = []
    imagined: list[NDArray[np.float64]] = []
    step: list[float] = []
    steps = 0
    for entry in read_messages(bag, (OVERVIEW_TOPIC, IMAGINED_TOPIC, PLANNER_TOPIC)):
        if entry.topic == OVERVIEW_TOPIC:
            overview.append(pixels(entry.message))
        elif entry.topic == IMAGINED_TOPIC:
            imagined.append(np.array([(pose.position.x, pose.position.y, pose.position.z) for pose in entry.message.poses]).reshape(-1, 3))
        else:
            values = status_values(entry.message)
            step.append(float(values.get("step", "0")))
            steps = max(steps, int(values.get("steps", "0")))
        times[entry.topic].append(entry.time_ns)
    at = {topic: np.array(times[topic], dtype=np.int64) for topic in (OVERVIEW_TOPIC, IMAGINED_TOPIC, PLANNER_TOPIC)}
    return Footage(Frames(at[OVERVIEW_TOPIC], tuple(overview)), Series(at[PLANNER_TOPIC], np.array(step)), steps, at[IMAGINED_TOPIC], tuple(imagined))


def write_episodes(out: Path, recording: Recording, footage: Footage, camera: Camera, title: str, zones: Sequence[Zone | None] = ()) -> None:
    """Film the episodes one after another into ``out`` (H.264, 10 pictures per second).

    ``camera`` is the one that took the pictures on /camera/image_raw; ``zones`` the forbidden zone of each episode, if any.

    Raises:
        OSError: the film cannot be written.
    """
    count = len(recording.episodes)
    films = (
        _episode(recording, footage, span, camera, f"{title}   episode {index + 1} of {count}", zone)
        for index, (span, zone) in enumerate(zip(recording.episodes, chain(zones, repeat(None)), strict=False))
    )
    _write(out, chain.from_iterable(films))


def write_side_by_side(
    out: Path,
    recording: Recording,
    footage: Footage,
    camera: Camera,
    pairs: Sequence[tuple[int, int]],
    titles: tuple[str, str],
    zones: Sequence[Zone | None] = (),
) -> None:
    """Film pairs of episodes (their indices), each pair next to each other from the moment its goals were shown, under ``titles``.

    ``zones`` holds the zone of each pair. The shorter of two episodes waits in its last picture.

    Raises:
        OSError: the film cannot be written.
    """
    films = (
        _next_to_each_other(
            [_episode(recording, footage, recording.episodes[index], camera, title, zone) for index, title in zip(pair, titles, strict=True)]
        )
        for pair, zone in zip(pairs, chain(zones, repeat(None)), strict=False)
    )
    _write(out, chain.from_iterable(films))


def compose(shot: Shot, camera: Camera) -> NDArray[np.uint8]:
    """One picture of the film ``(H, W, 3) uint8``: overview if there is one, camera, goal, and the caption below."""
    height = _OVERVIEW_SIZE[1]
    square = height if shot.overview is None else _SQUARE
    seen = _enlarged(shot.camera, (square, square))
    view = camera.resized(square, square)
    if shot.zone is not None:
        _draw_wall(seen, view.project(_corners(shot.zone)))
    if shot.path is not None and len(shot.path):
        _draw_path(seen, view.project(shot.path))
    tiles = [(seen, "camera, and the imagined way"), (_enlarged(shot.goal, (square, square)), "goal picture")]
    if shot.overview is not None:
        overview = _enlarged(shot.overview, _OVERVIEW_SIZE)
        if shot.zone is not None:
            _draw_wall(overview, OVERVIEW.resized(*_OVERVIEW_SIZE).project(_corners(shot.zone)))
        tiles.insert(0, (overview, ""))
    width = _GAP + sum(tile.shape[1] + _GAP for tile, _ in tiles)
    canvas = np.full((_CAPTION + height + 28 + _GAP, width, 3), _PAPER, dtype=np.uint8)
    _text(canvas, shot.title, (_GAP, 33), _INK, 0.66)
    _text(canvas, shot.caption, (width - _GAP, 33), _INK, 0.6, right=True)
    left = _GAP
    for tile, label in tiles:
        tall, wide, _ = tile.shape
        top = _CAPTION + (height - tall) // 2
        canvas[top : top + tall, left : left + wide] = tile
        cv2.rectangle(canvas, (left - 1, top - 1), (left + wide, top + tall), _EDGE, 1)
        _text(canvas, label, (left, top + tall + 20), _MUTED, 0.42 if square == _SQUARE else 0.5)
        left += wide + _GAP
    return canvas


def _episode(recording: Recording, footage: Footage, span: Span, camera: Camera, title: str, zone: Zone | None) -> Iterator[NDArray[np.uint8]]:
    overview = footage.overview if len(footage.overview.pictures) else None
    frame = None
    for time_ns in range(span.start_ns, span.end_ns + 1, NS_PER_S // FPS):
        seen = recording.camera.at(time_ns)
        if seen is None:
            continue
        distance = recording.distance.between(span.start_ns, time_ns + 1).values
        step = footage.step.between(span.start_ns, time_ns + 1).values
        caption = f"step {int(step[-1]) if len(step) else 0}/{footage.steps}"
        if len(distance):
            caption += f"    {distance[-1] * 100:4.1f} cm to go"
        picture = None if overview is None else overview.at(time_ns)
        frame = compose(Shot(picture, seen, span.goal, footage.path_at(span, time_ns), zone, title, caption), camera)
        yield frame
    if frame is not None:
        yield from repeat(frame, _LAST_FRAME_HELD)


def _next_to_each_other(films: Sequence[Iterator[NDArray[np.uint8]]]) -> Iterator[NDArray[np.uint8]]:
    last: list[NDArray[np.uint8] | None] = [None] * len(films)
    while True:
        fresh = [next(film, None) for film in films]
        if all(frame is None for frame in fresh):
            return
        last = [frame if frame is not None else before for frame, before in zip(fresh, last, strict=True)]
        shown = [frame for frame in last if frame is not None]
        if len(shown) == len(films):
            yield np.concatenate(shown, axis=1)


def _write(out: Path, frames: Iterator[NDArray[np.uint8]]) -> None:
    """Encode ``frames``, all of one size, and let ``out`` appear when it is whole. Writes nothing when there is no frame."""
    first = next(frames, None)
    if first is None:
        return
    # H.264 with 4:2:0 colour needs even sides; ffmpeg tells the container by the name's ending.
    height, width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
    partial = out.with_name(f".{os.getpid()}.{out.name}")
    options = ["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"]
    writer = imageio_ffmpeg.write_frames(
        str(partial), (width, height), fps=FPS, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=2, output_params=options
    )
    try:
        writer.send(None)
        for frame in chain([first], frames):
            writer.send(np.ascontiguousarray(frame[:height, :width]))
        writer.close()
        partial.replace(out)
    finally:
        writer.close()
        partial.unlink(missing_ok=True)


def _corners(zone: Zone) -> NDArray[np.float64]:
    """Corners ``(8, 3) m`` of the zone as a wall that stands on the table, taller than the tool ever is."""
    flat = zone.corners()
    return np.concatenate([np.column_stack([flat, np.full(4, z)]) for z in (0.0, _WALL_HEIGHT_M)])


def _draw_wall(canvas: NDArray[np.uint8], corners: NDArray[np.float64]) -> None:
    points = np.rint(corners).astype(np.int32)
    hull = cv2.convexHull(points)
    tinted = canvas.copy()
    cv2.fillPoly(tinted, [hull], _WALL)
    cv2.addWeighted(tinted, 0.35, canvas, 0.65, 0.0, dst=canvas)
    cv2.polylines(canvas, [hull, points[4:].reshape(-1, 1, 2)], True, _WALL, 1, cv2.LINE_AA)


def _draw_path(canvas: NDArray[np.uint8], points: NDArray[np.float64]) -> None:
    # Far points of a wild imagination would overflow OpenCV's integers.
    places = [(int(x), int(y)) for x, y in np.clip(np.rint(points), -9999, 9999)]
    for place in places[:-1]:
        cv2.circle(canvas, place, 4, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(canvas, place, 3, _PATH, -1, cv2.LINE_AA)
    cv2.circle(canvas, places[-1], 7, (255, 255, 255), -1, cv2.LINE_AA)
    cv2.circle(canvas, places[-1], 5, _END, -1, cv2.LINE_AA)


def _enlarged(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    resized: NDArray[np.uint8] = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    return resized


def _text(canvas: NDArray[np.uint8], text: str, place: tuple[int, int], colour: tuple[int, int, int], scale: float, right: bool = False) -> None:
    """``place`` is the left end of the base line, or the right end of it."""
    if right:
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        place = place[0] - width, place[1]
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
