"""How long does `latent-mpc bag info` look at a large bag? One is written first, then the command runs as a process of its own, a few times.

    python benchmarks/bag_info.py --gb 4.3 [--compression zstd]

The bag: pictures of noise, 640 x 480 at 30 Hz, joint states at 250 Hz and trajectories at 5 Hz.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from latent_mpc.bag import TYPES
from latent_mpc.bags.storage import Channel
from latent_mpc.bags.writer import FolderWriter, Format

_NS, _START_NS = 1_000_000_000, 1_700_000_000_000_000_000
_JOINTS = [f"joint{number}" for number in range(7)]


def _channel(topic: str, msgtype: str) -> Channel:
    definition, _ = TYPES.generate_msgdef(msgtype, ros_version=2)
    return Channel(topic, msgtype, definition, "ros2msg", TYPES.hash_rihs01(msgtype))


def _serialized(msgtype: str, **fields: object) -> bytearray:
    stamp = TYPES.types["builtin_interfaces/msg/Time"](sec=0, nanosec=0)
    header = TYPES.types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
    return bytearray(TYPES.serialize_cdr(TYPES.types[msgtype](header=header, **fields), msgtype))


def write_bag(folder: Path, size_bytes: float, compression: str) -> int:
    """Write the bag and return how many messages it holds; only stamps and noise differ from one message to the next."""
    rng = np.random.default_rng(0)
    height, width, empty = 480, 640, np.empty(0)
    noise = rng.integers(0, 256, (height * width * 3,), dtype=np.uint8)
    point = TYPES.types["trajectory_msgs/msg/JointTrajectoryPoint"](
        np.zeros(7), np.zeros(7), empty, empty, TYPES.types["builtin_interfaces/msg/Duration"](sec=0, nanosec=0)
    )
    image, joints, trajectory = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
    streams = (
        (
            _NS // 30,
            _channel("/camera/image_raw", image),
            _serialized(image, height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width, data=noise),
        ),
        (_NS // 250, _channel("/joint_states", joints), _serialized(joints, name=_JOINTS, position=np.zeros(7), velocity=np.zeros(7), effort=empty)),
        (
            _NS // 5,
            _channel("/joint_trajectory_controller/joint_trajectory", trajectory),
            _serialized(trajectory, joint_names=_JOINTS, points=[point] * 20),
        ),
    )
    writer = FolderWriter(folder, Format(compression))
    due, written = [0] * len(streams), 0
    while written < size_bytes:
        index = due.index(min(due))
        every, channel, data = streams[index]
        time_ns = _START_NS + due[index]
        data[4:12] = (time_ns // _NS).to_bytes(4, "little") + (time_ns % _NS).to_bytes(4, "little")
        if channel.msgtype == image:
            data[64:4160] = rng.bytes(4096)  # no two chunks are the same
        writer.write(channel, time_ns, bytes(data))
        due[index] += every
        written += len(data)
    writer.close()
    return writer.written


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Wall clock and processor time of the command, everything that Python loads included; the medians of a few runs, s."""
    with tempfile.TemporaryDirectory(prefix="bag-info-", dir=arguments.scratch) as scratch:
        bag = Path(scratch) / "bag"
        messages = write_bag(bag, arguments.gb * 1e9, arguments.compression)
        wall, cpu = [], []
        for _ in range(arguments.runs):
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-m", "latent_mpc.cli", "bag", "info", str(bag)], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            wall.append(time.perf_counter() - began)
            cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        size = sum(file.stat().st_size for file in bag.iterdir())
    return {
        "gb": round(size / 1e9, 2),
        "compression": arguments.compression,
        "messages": messages,
        "runs": arguments.runs,
        "wall_s": round(float(np.median(wall)), 2),
        "cpu_s": round(float(np.median(cpu)), 2),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=4.3)
    parser.add_argument("--compression", default="none")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scratch", default=None, help="where the bag goes meanwhile")
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
