"""From the bytes of a camera's message to the network's input, beside a bare resize: ``python benchmarks/preprocess.py [--json FILE]``.

Contenders take turns in one process with one thread, and what counts is processor time (``time.process_time``):

- ``bare``: ``cv2.resize`` of the whole uint8 picture to the network's size, with the interpolation that framing uses (INTER_AREA).
- ``bare_part``: the same of the middle square alone, which is what the network sees of 640 x 480.
- ``ours_<encoding>``: what ``perception_node`` does with a message: checks, view of the bytes, part, resize, order of colours, a batch of one.
- ``naive``: whole picture to float32, divided by 255, resized, mean and deviation taken off, channels first, as tutorials have it.

Normalisation is a part of the graph and costs no pass of its own. The ratio is ours to ``bare``; beside it ours to ``bare_part``.
"""

from __future__ import annotations

import argparse
import array
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from latent_mpc.json_file import write_json
from numpy.typing import NDArray

from ros_bridge.encodings import colour_pixels
from world_model.framing import Framing

WIDTH, HEIGHT = 640, 480
SIZES = (64, 224)
BAR = 1.5
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


@dataclass
class Message:
    """What ``sensor_msgs/Image`` holds; ``data`` is an array.array, as rclpy delivers it."""

    height: int
    width: int
    encoding: str
    step: int
    data: Any
    is_bigendian: int = 0


def message(encoding: str, channels: int, generator: np.random.Generator) -> Message:
    """A picture of noise, in ``encoding``."""
    pixels = generator.integers(0, 255, (HEIGHT, WIDTH, channels), dtype=np.uint8)
    return Message(HEIGHT, WIDTH, encoding, channels * WIDTH, array.array("B", pixels.tobytes()))


def naive(pixels: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Floats first, then everything else."""
    scaled = cv2.resize(pixels.astype(np.float32) / 255.0, (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(((scaled - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None]).astype(np.float32)


def contenders(size: int, generator: np.random.Generator) -> dict[str, Callable[[], object]]:
    """What is timed, by name, for a network that takes ``size`` x ``size`` pixels."""
    framing = Framing(size, size)
    messages = {encoding: message(encoding, channels, generator) for encoding, channels in (("rgb8", 3), ("bgr8", 3), ("bgra8", 4), ("mono8", 1))}
    whole = np.frombuffer(messages["rgb8"].data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    part = np.ascontiguousarray(whole[:, (WIDTH - HEIGHT) // 2 :][:, :HEIGHT])
    scaled = np.empty((size, size, 3), np.uint8)

    def ours(of: Message) -> Callable[[], object]:
        return lambda: colour_pixels(of, framing)[None]

    return {
        "bare": lambda: cv2.resize(whole, (size, size), dst=scaled, interpolation=cv2.INTER_AREA),
        "bare_part": lambda: cv2.resize(part, (size, size), dst=scaled, interpolation=cv2.INTER_AREA),
        **{f"ours_{encoding}": ours(of) for encoding, of in messages.items()},
        "naive": lambda: naive(whole, size),
    }


def measure(size: int, rounds: int, repeats: int) -> dict[str, float]:
    """Median processor milliseconds of each contender over ``rounds``, in each of which all of them run ``repeats`` times."""
    work = contenders(size, np.random.default_rng(0))
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            call()
            began = time.process_time()
            for _ in range(repeats):
                call()
            times[name].append(1e3 * (time.process_time() - began) / repeats)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    results = {}
    for size in SIZES:
        ms = measure(size, arguments.rounds, arguments.repeats)
        ratios = {name: ms[name] / ms["bare"] for name in ms}
        to_part = {name: ms[name] / ms["bare_part"] for name in ms}
        results[str(size)] = {"cpu_ms": ms, "ratio_to_bare": ratios, "ratio_to_bare_part": to_part, "met": ratios["ours_rgb8"] <= BAR}
        for name in ms:
            print(f"640x480 -> {size:3}  {name:10} {ms[name]:6.3f} ms   {ratios[name]:5.2f} of bare   {to_part[name]:5.2f} of bare_part")
    if arguments.json is not None:
        write_json(arguments.json, {"bar": BAR, "interpolation": "INTER_AREA", "sizes": results})


if __name__ == "__main__":
    main()
