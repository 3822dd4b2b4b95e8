"""Playing: a process plays over real DDS, the test listens."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from bag_writing import joint_state
from conftest import REPOSITORY, wait_until
from latent_mpc.bag import NS_PER_S, TYPES
from latent_mpc.bags import ros_qos
from latent_mpc.bags.pace import Pace
from latent_mpc.bags.qos import OfferedQos
from latent_mpc.bags.storage import Channel
from latent_mpc.bags.writer import FolderWriter, Format
from latent_mpc.cli import run

pytest.importorskip("rclpy")
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from ros_bridge.qos import GOAL

START = 1_700_000_000 * NS_PER_S
JOINTS, WORD = "sensor_msgs/msg/JointState", "std_msgs/msg/String"
BEST_EFFORT = OfferedQos("keep_last", 7, "best_effort", "volatile", deadline_ns=2_000_000_000)
RELIABLE = OfferedQos("keep_last", 50, "reliable", "volatile")
LATCHED = OfferedQos("keep_last", 1, "reliable", "transient_local")


@pytest.fixture
def bag(tmp_path):
    """A second of joint states at 50 Hz, one latched word, and a type that is installed nowhere."""
    writer = FolderWriter(tmp_path / "bag", Format())

    def channel(topic, msgtype, *qos):
        return Channel(topic, msgtype, TYPES.generate_msgdef(msgtype, ros_version=2)[0], "ros2msg", TYPES.hash_rihs01(msgtype), qos)

    writer.write(channel("/word", WORD, LATCHED), START, bytes(TYPES.serialize_cdr(TYPES.types[WORD]("latched"), WORD)))
    writer.write(Channel("/own", "my_msgs/msg/Own"), START, b"\0\1\0\0")
    for index in range(50):
        if index % 5 == 0:
            word = bytes(TYPES.serialize_cdr(TYPES.types[WORD](str(index)), WORD))
            writer.write(channel("/count", WORD, RELIABLE), START + index * 20_000_000, word)
        message = joint_state(START + index, ["a"], [index], [0.0])
        writer.write(channel("/joint_states", JOINTS, BEST_EFFORT), START + index * 20_000_000, bytes(TYPES.serialize_cdr(message, JOINTS)))
    writer.close()
    return tmp_path / "bag"


class Audience:
    def __init__(self):
        self.node = Node("audience")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.heard, self.clock, self.offered = {}, [], {}

    def listen_to_clock(self):
        """Last of all: end points are found in the order in which they were made, and a player makes its clock last, too.

        Whoever hears its clock hears everything else of it.
        """
        self.node.create_subscription(Clock, "/clock", lambda m: self.clock.append(m.clock.sec * NS_PER_S + m.clock.nanosec), 100)

    def catch(self, start_ns, *arguments):
        """A player whose first word was heard. One that began before it was found is begun again, and given longer for that."""
        self.listen_to_clock()
        for delay_s in (4, 8, 16):
            process = player(*arguments, "--delay", delay_s, start=PATIENT)
            self.spin(lambda process=process: self.clock or process.poll() is not None, "a clock", 60.0)
            if self.clock[:1] == [start_ns]:
                return process
            process.kill()
            process.communicate()
            for entries in (self.clock, *self.heard.values()):
                entries.clear()
        raise AssertionError("the first word of no player was heard")

    def listen(self, topic, kind, read, reliability=ReliabilityPolicy.BEST_EFFORT):
        entries = self.heard.setdefault(topic, [])
        profile = QoSProfile(depth=200, reliability=reliability, durability=DurabilityPolicy.VOLATILE)
        self.node.create_subscription(kind, topic, lambda m: entries.append((time.monotonic(), read(m))), profile)

    def spin(self, until, what, timeout_s=20.0):
        wait_until(lambda: self.executor.spin_once(timeout_sec=0.005) or until(), timeout_s, what)

    def note_offers(self):
        for topic in ("/count", "/moved", "/word"):
            for info in self.node.get_publishers_info_by_topic(topic):
                self.offered[topic] = info.qos_profile


@pytest.fixture
def audience(ros_context):
    made = Audience()
    yield made
    made.executor.shutdown()
    made.node.destroy_node()


# A player that stays for longer after its last message: for a listener that stands still just then, and has to hear all of them.
PATIENT = (
    "-c",
    "import sys; from latent_mpc.bags import play; from latent_mpc.cli import run; play._READ_OUT_S = 2.0; sys.exit(run(sys.argv[1:]))",
)


def player(*arguments, start=("-m", "latent_mpc.cli"), **options):
    command = [sys.executable, *start, "bag", "play", *map(str, arguments)]
    return subprocess.Popen(command, **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options})


def test_messages_come_with_their_bytes_their_spacing_their_quality_of_service_and_a_clock(tmp_path, bag, audience):
    # With the times at which they were sent: when this process gets to hear of them is its own business.
    moved, profile = audience.heard.setdefault("/moved", []), QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
    audience.node.create_subscription(JointState, "/moved", lambda m, info: moved.append((info["source_timestamp"], m.position[0])), profile)
    audience.listen("/joint_states", JointState, lambda m: m.position[0])
    process = audience.catch(
        START + 200_000_000,
        bag, "--rate", 0.5, "--clock", 50, "--remap", "/joint_states:=/moved", "--start-offset", 0.2, "--duration", 0.6,
        "--json", tmp_path / "played.json",
    )  # fmt: skip
    audience.spin(lambda: audience.note_offers() or process.poll() is not None, "the end", 30.0)
    audience.spin(lambda: bool(moved) and moved[-1][1] == 39, "the last joint state")
    printed, complaints = process.communicate()
    assert process.returncode == 0, complaints
    assert [number for _, number in moved] == list(range(10, 40)) and not audience.heard["/joint_states"]
    # 40 ms apart: half of them, and half of what the longest pause of the player left, were sent when they were due, counted from the most punctual.
    sent_s = np.array([ns - moved[0][0] for ns, _ in moved]) * 1e-9
    late_s, pause_s = sent_s - 0.04 * np.arange(30), np.diff(sent_s).max()
    assert np.count_nonzero(late_s < late_s.min() + 0.01) >= 0.5 * (30 - pause_s / 0.04), np.diff(sent_s)
    offered = audience.offered["/moved"]
    assert offered.reliability == ReliabilityPolicy.BEST_EFFORT and offered.deadline.nanoseconds == 2_000_000_000
    assert audience.offered["/word"].durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert audience.offered["/word"].reliability == ReliabilityPolicy.RELIABLE
    clock = np.array(audience.clock) - START
    assert (np.diff(clock) >= 0).all() and clock[0] == 200_000_000 and 0.7e9 < clock[-1] <= 0.78e9
    assert np.median(np.diff(clock)) == pytest.approx(10_000_000, rel=0.5)
    assert "/own is not played: unknown type my_msgs/msg/Own" in complaints
    report = json.loads((tmp_path / "played.json").read_text())
    assert report["topics"] == {"/count": 6, "/joint_states": 30} and report["skipped"] == {"/own": "unknown type my_msgs/msg/Own"}
    assert 0 <= report["late_ms"]["p50"] <= report["late_ms"]["p99"] <= report["late_ms"]["max"]
    # 29 intervals of 20 ms at half the speed; what a busy machine took away is in the lateness, but for a moment at the beginning.
    assert 1.16 <= report["seconds"] <= 1.16 + 1e-3 * report["late_ms"]["max"] + 1.0
    assert printed.startswith("played 36 messages of 2 topics")


def test_the_clock_waits_for_what_a_player_that_stood_still_has_yet_to_say(bag, audience):
    audience.listen("/joint_states", JointState, lambda m: m.position[0])
    process = audience.catch(START, bag, "--clock", 100, "--rate", 0.5, "--topic", "/joint_states")
    heard = audience.heard["/joint_states"]
    audience.spin(lambda: len(heard) > 10, "the beginning")
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(2.5)  # longer than the rest of the bag takes
    finally:
        process.send_signal(signal.SIGCONT)
    audience.spin(lambda: heard[-1][1] == 49, "the end")
    assert process.wait(20) == 0
    audience.spin(lambda: audience.clock[-1] >= START + 49 * 20_000_000, "the last word of the clock")
    assert max(audience.clock) == START + 49 * 20_000_000


def test_goals_whose_quality_of_service_nobody_recorded_are_latched():
    """A planner or perception that asks for latched goals hears no publisher that does not offer that: in a namespace and renamed, too."""
    for names in (("/goal/image",), ("/arm1/planner/zones",), ("/old", "/sim/goal_image")):
        offered = ros_qos.offering((), names)
        assert offered.durability == DurabilityPolicy.TRANSIENT_LOCAL and offered.reliability == ReliabilityPolicy.RELIABLE
    assert ros_qos.offering((), ("/count",)).durability == DurabilityPolicy.VOLATILE
    assert ros_qos.offering((BEST_EFFORT,), ("/goal/image",)).durability == DurabilityPolicy.VOLATILE, "what was recorded counts"
    published, heard = set(), set()
    for folder in ("sim", "world_model", "planner_node", "ros_ws/src/latent_mpc/latent_mpc"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            found = re.findall(
                r'create_(?:lifecycle_)?(publisher|subscription)\(\s*\w+, "(/[\w/]+)",(?: [\w.]+,)? (?:qos\.)?GOAL\)', file.read_text()
            )
            published |= {topic for kind, topic in found if kind == "publisher"}
            heard |= {topic for kind, topic in found if kind == "subscription"}
    assert len(heard) > 2 and published | heard == set(ros_qos.LATCHED)


def test_a_late_listener_hears_a_goal_of_a_bag_without_quality_of_service(tmp_path, audience):
    writer = FolderWriter(tmp_path / "bare", Format())
    for number, topic in enumerate(("/goal/image", "/count")):
        channel = Channel(topic, WORD, TYPES.generate_msgdef(WORD, ros_version=2)[0], "ros2msg")
        for index in range(30):
            if topic == "/count" or not index:
                data = bytes(TYPES.serialize_cdr(TYPES.types[WORD](f"{topic} {index}"), WORD))
                writer.write(channel, START + index * 100_000_000 + number, data)
    writer.close()
    audience.listen("/count", String, lambda m: m.data)
    process = player(tmp_path / "bare", "--delay", 1, "--rate", 0.1)
    try:
        audience.spin(lambda: len(audience.heard["/count"]) > 2, "the goal is long over")
        goals = []
        audience.node.create_subscription(String, "/goal/image", lambda m: goals.append(m.data), GOAL)
        audience.spin(lambda: goals, "the latched goal")
        assert goals == ["/goal/image 0"]
    finally:
        process.kill()
        process.communicate()


def test_a_loop_begins_again_until_it_is_ended(bag, audience):
    audience.listen("/count", String, lambda m: int(m.data), ReliabilityPolicy.RELIABLE)
    audience.listen("/word", String, lambda m: m.data, ReliabilityPolicy.RELIABLE)
    process = player(bag, "--loop", "--rate", 5, "--delay", 4, "--topic", "/count", "--topic", "/word")
    audience.spin(lambda: len(audience.heard["/count"]) > 35, "two rounds")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    numbers = [number for _, number in audience.heard["/count"]]
    numbers = numbers[numbers.index(0) :]  # the audience may have come late
    assert numbers[:20] == list(range(0, 50, 5)) * 2
    assert {word for _, word in audience.heard["/word"]} == {"latched"} and len(audience.heard["/word"]) >= 2


def test_pause_step_and_quit_from_the_keyboard(bag, audience):
    """Through a pseudo-terminal, as a user types."""
    audience.listen("/joint_states", JointState, lambda m: m.position[0])
    ours, theirs = pty.openpty()
    audience.listen_to_clock()
    arguments = ("--paused", "--rate", 0.1, "--topic", "/joint_states", "--clock", 20)
    process = player(bag, *arguments, stdin=theirs, start_new_session=True, preexec_fn=take_terminal)
    os.close(theirs)
    heard = audience.heard["/joint_states"]
    try:
        audience.spin(lambda: len(audience.clock) > 3, "the clock of a paused player")
        assert set(audience.clock) == {START}, "time stands"
        for number, key in enumerate((b"s", b"\x1b[C", b"s")):
            os.write(ours, key)
            audience.spin(lambda: len(heard) == number + 1, f"step {number}")  # noqa: B023
        assert [number for _, number in heard] == [0, 1, 2]
        audience.spin(lambda: audience.clock[-1] == START + 40_000_000, "the clock of the last step")
        os.write(ours, b" ")
        audience.spin(lambda: len(heard) > 10, "playing")
        os.write(ours, b" ")
        audience.spin(lambda: len(set(audience.clock[-5:])) == 1, "time that stands again")
        for _ in range(20):
            audience.executor.spin_once(timeout_sec=0.02)
        stopped, ticks = len(heard), len(audience.clock)
        audience.spin(lambda: len(audience.clock) > ticks + 10, "more of the clock")
        assert len(heard) == stopped < 50 and len(set(audience.clock[ticks - 5 :])) == 1
        os.write(ours, b"q")
        assert process.wait(20) == 0
    finally:
        process.kill()
        os.close(ours)
    printed, said = process.communicate()
    assert "space pauses" in said and said.count("paused\n") == 1 and f"played {stopped} messages" in printed


def test_a_terminal_of_somebody_else_is_no_keyboard(bag):
    """As in a container, or under a supervisor: it is a terminal, but not the session's."""
    ours, theirs = pty.openpty()
    process = player(bag, "--rate", 20, "--topic", "/count", stdin=theirs, start_new_session=True)
    os.close(theirs)
    try:
        printed, said = process.communicate(timeout=60)
        assert process.returncode == 0 and "played 10 messages" in printed and "space pauses" not in said, said
    finally:
        process.kill()
        os.close(ours)


def take_terminal():
    """What a shell does: the terminal on stdin becomes that of the session."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_time_scales_stands_and_steps():
    """Against a clock that the test turns."""
    now = [100.0]
    pace = Pace(5_000, 2.0, lambda: now[0])
    assert pace.now_ns() == 5_000 and pace.wait_s(5_000 + 4 * NS_PER_S) == pytest.approx(2.0)
    now[0] += 1.0
    assert pace.now_ns() == 5_000 + 2 * NS_PER_S and pace.wait_s(5_000) == pytest.approx(-1.0)
    pace.toggle()
    now[0] += 50.0
    assert pace.paused and pace.now_ns() == 5_000 + 2 * NS_PER_S and pace.wait_s(5_000) is None
    pace.step(5_000 + 3 * NS_PER_S)
    assert pace.now_ns() == 5_000 + 3 * NS_PER_S
    pace.step(5_000)  # never backward
    assert pace.now_ns() == 5_000 + 3 * NS_PER_S
    pace.toggle()
    now[0] += 0.5
    assert pace.now_ns() == 5_000 + 4 * NS_PER_S


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--rate", "0"], "rate is 0.0, must be at least 0.001"),
        (["--rate", "nan"], "rate is nan"),
        (["--start-offset", "5"], "nothing comes after a start offset of 5 s"),
        (["--topic", "/nope"], "holds no topic /nope; it holds /count, /joint_states, /own, /word"),
        (["--remap", "/joint_states=/x"], "remap '/joint_states=/x' is not of the form /old:=/new"),
        (["--remap", "/word:=/a", "--remap", "/word:=/b"], "/word is remapped twice"),
        (["--remap", "/nope:=/b"], "holds no remapped topic /nope"),
        (["--clock", "-1"], "clock is -1.0"),
        (["--domain", "400"], "domain is 400, must be 0 to 232"),
    ],
)
def test_what_cannot_be_played_is_one_line(bag, capsys, arguments, reason):
    assert run(["bag", "play", str(bag), *arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
