"""Does the recorder keep up? Camera 30 Hz, joint states 250 Hz and plans from one process, the recorder in another; loss by sequence numbers.

    python benchmarks/record.py --minutes 10 [--compression zstd]

Every message carries its number in a field: frame_id of header stamps, so that what the bag lacks is known whatever ROS says.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

CAMERA, JOINTS, PLAN = "/camera/image_raw", "/joint_states", "/planner/plan"
HZ = {CAMERA: 30.0, JOINTS: 250.0, PLAN: 5.0}
_TRANSPORT = Path(__file__).resolve().parents[1] / "launch" / "config" / "fastdds.xml"
_TICKS = os.sysconf("SC_CLK_TCK")


def publish(seconds: float, width: int, height: int) -> None:
    """Publish until the time is over, then print how many messages went to each topic."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image, JointState
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    rclpy.init()
    node = rclpy.create_node("record_benchmark")
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    publishers = {
        CAMERA: node.create_publisher(Image, CAMERA, best_effort),
        JOINTS: node.create_publisher(JointState, JOINTS, best_effort),
        PLAN: node.create_publisher(JointTrajectory, PLAN, QoSProfile(depth=10)),
    }
    names = [f"joint{number}" for number in range(7)]
    point = JointTrajectoryPoint(positions=[0.0] * 7, velocities=[0.0] * 7)
    # Noise: what compresses well would flatter the compressed runs.
    noise = array("B", os.urandom(3 * width * height))
    messages = {
        CAMERA: Image(width=width, height=height, step=3 * width, encoding="rgb8", data=noise),
        JOINTS: JointState(name=names, position=[0.0] * 7, velocity=[0.0] * 7),
        PLAN: JointTrajectory(joint_names=names, points=[point] * 20),
    }
    while not all(publisher.get_subscription_count() for publisher in publishers.values()):
        time.sleep(0.05)
    time.sleep(0.5)
    begins = time.monotonic()
    sent = dict.fromkeys(HZ, 0)
    while (now := time.monotonic() - begins) < seconds:
        for topic, hz in HZ.items():
            while sent[topic] < now * hz:
                messages[topic].header.frame_id = str(sent[topic])
                publishers[topic].publish(messages[topic])
                sent[topic] += 1
        following = min((sent[topic] + 1) / hz for topic, hz in HZ.items())
        time.sleep(max(0.0, min(following - (time.monotonic() - begins), 0.004)))
    time.sleep(1.0)
    print(json.dumps(sent), flush=True)
    rclpy.shutdown()


def cpu_seconds(process: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Record what the publisher sends and count."""
    from latent_mpc.bags.reader import BagReader

    folder = Path(arguments.out or tempfile.mkdtemp(prefix="record-", dir=arguments.scratch))
    bag = folder / "bag"
    environment = {**os.environ, "ROS_DOMAIN_ID": str(arguments.domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    if not arguments.default_transport:
        environment["FASTDDS_DEFAULT_PROFILES_FILE"] = str(_TRANSPORT)
    options = ["--compression", arguments.compression, "--split-mb", "2000"]
    topics = [part for topic in HZ for part in ("--topic", topic)]
    recorder = subprocess.Popen([sys.executable, "-m", "latent_mpc.cli", "bag", "record", "--out", str(bag), *options, *topics], env=environment)
    seconds = 60.0 * arguments.minutes
    child = [sys.executable, __file__, "--publish", str(seconds), "--width", str(arguments.width), "--height", str(arguments.height)]
    try:
        publisher = subprocess.Popen(child, env=environment, stdout=subprocess.PIPE, text=True)
        # From when the publisher runs: what starting Python costs is not recording.
        time.sleep(5.0)
        began, used = time.monotonic(), cpu_seconds(recorder.pid)
        time.sleep(max(0.0, seconds - 5.0))
        share = (cpu_seconds(recorder.pid) - used) / (time.monotonic() - began)
        sent = json.loads(publisher.communicate()[0])
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait()
    got: dict[str, set[int]] = {topic: set() for topic in HZ}
    twice = 0
    with BagReader(bag) as reader:
        for raw in reader.raw():
            # Stamp, then the length of frame_id, then frame_id.
            length = int.from_bytes(raw.data[12:16], "little")
            number = int(raw.data[16 : 16 + length - 1])
            twice += number in got[raw.channel.topic]
            got[raw.channel.topic].add(number)
    size = sum(file.stat().st_size for file in bag.glob("*.mcap"))
    result: dict[str, object] = {
        "minutes": arguments.minutes,
        "compression": arguments.compression,
        "transport": "default" if arguments.default_transport else _TRANSPORT.name,
        "picture": [arguments.width, arguments.height],
        "sent": sent,
        "lost": {topic: sent[topic] - len(got[topic] & set(range(sent[topic]))) for topic in HZ},
        "twice": twice,
        "recorder_cpu_share": round(share, 3),
        "bag_mb": round(size / 1e6, 1),
        "files": len(list(bag.glob("*.mcap"))),
    }
    if not arguments.out:
        shutil.rmtree(folder)
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--compression", default="none")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--default-transport", action="store_true", help="without the shared memory of launch/config/fastdds.xml")
    parser.add_argument("--domain", type=int, default=93)
    parser.add_argument("--scratch", default=None, help="where the bag goes meanwhile; 1.7 GB a minute")
    parser.add_argument("--out", default=None, help="folder to keep the bag in")
    parser.add_argument("--publish", type=float, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish is not None:
        publish(arguments.publish, arguments.width, arguments.height)
    else:
        print(json.dumps(measure(arguments), indent=2))


if __name__ == "__main__":
    main()
