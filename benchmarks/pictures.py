"""Pictures from a camera's process to perception's callback: ``python benchmarks/pictures.py [--blocks N] [--json FILE]``.

Two processes for each way of sending, all of them started first; then blocks of 30 frames a second take turns, so that a busy moment hits all alike:

- ``default``: Fast DDS as it comes, best effort (sensor data), as cameras and perception speak.
- ``default_reliable``: the same, reliable: what the default has to be compared with where it loses most frames of the first kind.
- ``shipped``: ``launch/config/fastdds.xml``, best effort: what launch files and demo give to camera, framing, perception and recorder.

Latency runs from the moment before the camera calls ``publish`` to the first line of the reader's callback, both on CLOCK_MONOTONIC, which all
processes of a machine share. The reader does what ``perception_node`` does with a frame: it frames it, encodes it with a shipped bundle and
publishes the latent; meanwhile frames wait in a queue of depth 1. ``wait``: the mean over all frames, lost ones too, of the time until that frame
or the next that came was there.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from latent_mpc.domains import quiet_domain
from latent_mpc.json_file import write_json

from ros_bridge.transport import with_room_for_pictures

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / "launch" / "config" / "fastdds.xml"
SIZES = ((640, 480), (224, 224), (64, 64))
WAYS = {"default": (False, False), "default_reliable": (False, True), "shipped": (True, False)}
"""Whether the shipped profile is used, and whether the camera is reliable, by the name of the way."""
RATE_HZ = 30.0
_START_S, _SETTLE_S = 60.0, 0.4
_FAST_DDS = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
TOPIC, LATENTS = "/camera/image_raw", "/perception/latent"


@dataclass
class Delivery:
    """Frames that were sent; of each that came its latency, ms; of each, lost ones too, ms until it or the next one after it was there."""

    sent: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)

    def add(self, sent_ns: list[int], came_ns: dict[int, int]) -> None:
        """A block: when frames were sent, and when those that came did, by when they were sent. Lost ones that none followed count as lost alone."""
        self.sent += len(sent_ns)
        self.latencies_ms += [(at - stamp) * 1e-6 for stamp, at in came_ns.items()]
        after = sorted(came_ns)
        for stamp in sent_ns:
            place = bisect.bisect_left(after, stamp)
            if place < len(after):
                self.waits_ms.append((came_ns[after[place]] - stamp) * 1e-6)

    def to_json(self) -> dict[str, float | int | None]:
        """Percent delivered, and how latencies are spread; None where nothing came."""
        p50, p99 = (float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else None for percent in (50, 99))
        wait = float(np.mean(self.waits_ms)) if self.waits_ms else None
        return {
            "sent": self.sent,
            "delivered_percent": 100.0 * len(self.latencies_ms) / self.sent,
            "p50_ms": p50,
            "p99_ms": p99,
            "mean_wait_ms": wait,
        }


# The two processes. They hear a line at a time from the one that started them and answer with a line.


def camera(reliable: bool) -> None:
    """Publish as many frames as each line ``width height frames`` says, 30 a second; answer with when each was sent, ns."""
    import rclpy
    from sensor_msgs.msg import Image

    from ros_bridge.images import ReusedImage
    from ros_bridge.stamps import header_at

    rclpy.init()
    node = rclpy.create_node("camera")
    publisher = node.create_publisher(Image, TOPIC, _qos(5, reliable))
    _until(lambda: publisher.get_subscription_count() > 0)
    _say("ready")
    noise = np.random.default_rng(0)
    for line in sys.stdin:
        width, height, frames = (int(word) for word in line.split())
        picture = ReusedImage(height, width)
        picture.pixels[...] = noise.integers(0, 255, picture.pixels.shape, dtype=np.uint8)
        begin, sent = time.monotonic() + 1.0 / RATE_HZ, []
        for number in range(frames):
            time.sleep(max(0.0, begin + number / RATE_HZ - time.monotonic()))
            sent.append(time.monotonic_ns())
            publisher.publish(picture.message(header_at(sent[-1])))
        _say(json.dumps(sent))


def reader(model: Path, reliable: bool) -> None:
    """Do what perception does with frames; each line asks when those came that came since the last: [sent, came] ns."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    from ros_bridge.images import image_to_array, latent_to_image
    from ros_bridge.qos import LATENT
    from ros_bridge.stamps import stamp_ns
    from world_model.framing import Framing
    from world_model.perception import Perception
    from world_model.runtime import OnnxModel

    rclpy.init()
    node = rclpy.create_node("reader")
    perception = Perception(OnnxModel(model, 1), 0.05)
    height, width, _ = perception.model.manifest.frame
    framing = Framing(width, height)
    latents = node.create_publisher(Image, LATENTS, LATENT)
    found: list[tuple[int, int]] = []

    def on_frame(msg: Image) -> None:
        came = time.monotonic_ns()
        found.append((stamp_ns(msg.header.stamp), came))
        latents.publish(latent_to_image(perception.encode(image_to_array(msg, framing)), msg.header))

    node.create_subscription(Image, TOPIC, on_frame, _qos(1, reliable))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    _until(lambda: node.count_publishers(TOPIC) > 0)
    _say("ready")
    while True:
        executor.spin_once(timeout_sec=0.05)
        if select.select([sys.stdin], [], [], 0.0)[0]:
            if not sys.stdin.readline():
                return
            _say(json.dumps(found))
            found.clear()


def _qos(depth: int, reliable: bool) -> Any:
    from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

    policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=policy)


def _say(line: str) -> None:
    print(line, flush=True)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + _START_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the other process does not appear")
        time.sleep(0.02)


# The one that starts them.


class Pair:
    """A camera and a reader that have found each other."""

    def __init__(self, way: str, model: Path) -> None:
        profile, reliable = WAYS[way]
        environment = {key: value for key, value in os.environ.items() if key not in _FAST_DDS}
        environment |= {"ROS_DOMAIN_ID": str(quiet_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "OMP_NUM_THREADS": "1"}
        if profile:
            environment |= with_room_for_pictures(PROFILE, environment)
        wish = ["--reliable"] if reliable else []
        self._reader = self._start(["--role", "reader", "--model", str(model), *wish], environment)
        self._camera = self._start(["--role", "camera", *wish], environment)
        for process in (self._reader, self._camera):
            if self._answer(process) != "ready":
                raise RuntimeError(f"{way}: a process did not start")

    def block(self, width: int, height: int, frames: int) -> tuple[list[int], dict[int, int]]:
        """When frames were sent, and when those that came did, by when they were sent; ns."""
        _ask(self._camera, f"{width} {height} {frames}")
        sent = json.loads(self._answer(self._camera))
        time.sleep(_SETTLE_S)
        _ask(self._reader, "report")
        return sent, dict(json.loads(self._answer(self._reader)))

    def close(self) -> None:
        """End both."""
        for process in (self._camera, self._reader):
            process.kill()
            process.wait()

    @staticmethod
    def _start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        line = [sys.executable, __file__, *arguments]
        return subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> str:
        stream: IO[str] | None = process.stdout
        line = stream.readline().strip() if stream is not None else ""
        if not line:
            raise RuntimeError("a process ended without an answer")
        return line


def _ask(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


@contextlib.contextmanager
def pairs(model: Path) -> Iterator[dict[str, Pair]]:
    """A pair for each way."""
    started: dict[str, Pair] = {}
    try:
        for way in WAYS:
            started[way] = Pair(way, model)
        yield started
    finally:
        for pair in started.values():
            pair.close()


def measure(model: Path, blocks: int, seconds: float, sizes: tuple[tuple[int, int], ...] = SIZES) -> dict[tuple[int, int], dict[str, Delivery]]:
    """What was delivered of each size by each way, in ``blocks`` of ``seconds`` for each of both, which take turns. The first few are not counted."""
    found = {size: {way: Delivery() for way in WAYS} for size in sizes}
    with pairs(model) as running:
        for size in sizes:
            for pair in running.values():
                pair.block(*size, 10)
        for _ in range(blocks):
            for size in sizes:
                for way, pair in running.items():
                    found[size][way].add(*pair.block(*size, round(seconds * RATE_HZ)))
    return found


def verdict(ways: dict[str, Delivery]) -> dict[str, Any]:
    """All ways of one size, and the shipped one's median as a share of either default's."""
    rows = {way: delivery.to_json() for way, delivery in ways.items()}
    ours = rows["shipped"]["p50_ms"]
    ratios = {way: ours / other if ours is not None and (other := rows[way]["p50_ms"]) else None for way in ("default", "default_reliable")}
    return {**rows, "p50_ratio": ratios}


def main() -> None:
    """Print a table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "push")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--role", choices=("camera", "reader"), help=argparse.SUPPRESS)
    parser.add_argument("--reliable", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role == "camera":
        return camera(arguments.reliable)
    if arguments.role == "reader":
        return reader(arguments.model, arguments.reliable)
    results = {}
    for (width, height), ways in measure(arguments.model, arguments.blocks, arguments.seconds).items():
        found = results[f"{width}x{height}"] = verdict(ways)
        for way, delivery in ways.items():
            row = delivery.to_json()
            spread = (
                "nothing came"
                if row["p50_ms"] is None
                else f"p50 {row['p50_ms']:7.2f} ms  p99 {row['p99_ms']:7.2f} ms  wait {row['mean_wait_ms']:6.2f} ms"
            )
            print(f"{width:3}x{height:3}  {way:17} {row['delivered_percent']:6.1f} % of {row['sent']}  {spread}")
        words = ", ".join(f"{'none' if ratio is None else f'{ratio:.2f}'} of {way}" for way, ratio in found["p50_ratio"].items())
        print(f"{width:3}x{height:3}  shipped p50: {words}")
    if arguments.json is not None:
        write_json(arguments.json, {"rate_hz": RATE_HZ, "sizes": results})


if __name__ == "__main__":
    main()
