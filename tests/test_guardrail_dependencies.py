"""What the guardrail rests on: a planner that lives, memory that nobody locks, a priority, and payloads that are messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPOSITORY, wait_until

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from latent_mpc.bringup import MODULES, node_command
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from test_guardrail_node import ARM, JOINTS_LATE, MODULE, arm  # noqa: F401  (a fixture)
from trajectory_msgs.msg import JointTrajectory

from ros_bridge import qos
from ros_bridge.diagnostics import Spread, status_values
from ros_bridge.joints import joint_state_message
from ros_bridge.stamps import header_at, now_ns
from ros_bridge.transport import PICTURES, with_room_for_pictures, without_shared_memory

PROFILE = REPOSITORY / "launch" / "config" / "fastdds.xml"
PLANNER = "latent_mpc.faults_planner_node"
PLAN_TIMEOUT_S = 10.0
LEASED = (*JOINTS_LATE, "-p", "auto_arm:=true", "-p", f"plan_timeout_s:={PLAN_TIMEOUT_S}", "-p", "frame_timeout_s:=5.0")


def footing(arm):  # noqa: F811
    """What the guardrail says of what it rests on, and how bad that is."""
    found = [status for array in arm.diagnostics for status in array.status if status.name == "guardrail_node: footing"]
    return (status_values(found[-1]), found[-1]) if found else ({}, None)


def test_a_planner_that_is_killed_is_missed_long_before_its_plan_times_out_and_another_one_is_followed(arm, start_node):  # noqa: F811
    node = start_node(MODULE, *LEASED)
    arm.wait_for("HOLDING")
    arm.node.destroy_publisher(arm.plans)
    planner = start_node(PLANNER)
    arm.wait_for("TRACKING")
    wait_until(lambda: footing(arm)[0].get("planner") == "alive", what="a planner that lives")
    os.kill(planner.process.pid, signal.SIGKILL)
    killed = time.monotonic()
    wait_until(lambda: "no sign of life" in arm.values["reason"], what="a planner that is missed")
    assert time.monotonic() - killed < 0.5 * PLAN_TIMEOUT_S, "its plan timed out first"
    arm.wait_for("HOLDING")
    assert arm.statuses[-1].level == DiagnosticStatus.WARN
    wait_until(lambda: footing(arm)[0].get("planner") == "gone", what="diagnostics that say so")
    start_node(PLANNER)
    # In one status: a planner on a busy machine may be missed, and found again, at any time.
    followed = ("TRACKING", DiagnosticStatus.OK)
    wait_until(lambda: (arm.statuses[-1].message, arm.statuses[-1].level) in [followed], what="another planner that is followed")
    arm.assert_limits_kept()
    assert node.stop() == 0, node.output


def test_a_planner_that_offers_no_liveliness_is_followed_and_warned_of(arm, start_node):  # noqa: F811
    node = start_node(MODULE, *LEASED)
    arm.wait_for("HOLDING")
    arm.node.destroy_publisher(arm.plans)
    arm.plans = arm.node.create_publisher(JointTrajectory, "/planner/plan", qos.PLAN)
    wait_until(lambda: "offers no liveliness" in footing(arm)[0].get("planner", ""), what="a warning")
    assert footing(arm)[1].level == DiagnosticStatus.WARN and "liveliness" in footing(arm)[1].message
    arm.plan_until(lambda: arm.state == "TRACKING", 0.3, seconds=1.0)
    assert node.stop() == 0, node.output


def test_payloads_that_are_no_messages_and_joint_states_from_the_past_are_counted_and_change_nothing(arm, start_node):  # noqa: F811
    node = start_node(MODULE, *LEASED)
    arm.wait_for("HOLDING")
    before = dict(arm.values)
    state = bytes(serialize_message(joint_state_message(ARM.joints, arm.position + 0.2, np.zeros(7), header_at(now_ns(arm.node) + 10**8))))
    old = joint_state_message(ARM.joints, arm.position + 0.02, np.zeros(7), header_at(now_ns(arm.node) - 10**10))
    states = arm.node.create_publisher(JointState, "/joint_states", qos.JOINT_STATES)
    wait_until(lambda: states.get_subscription_count() > 0, what="somebody who listens")

    def refused():
        # Joint states are sent once, and only the newest waits to be read: those of the arm may push these out.
        states.publish(state[: len(state) // 2])
        arm.plans.publish(b"\x00\x01\x00\x00" + bytes(40) + b"\xff" * 11)
        states.publish(old)
        time.sleep(0.02)
        plans, joint_states = (int(arm.values[key]) - int(before[key]) for key in ("rejected_plans", "rejected_joint_states"))
        return plans > 0 and joint_states > 5

    wait_until(refused, what="plans and joint states that are refused")
    assert arm.state == "HOLDING"
    assert np.ptp([points[0] for _, points, _ in arm.commands], axis=0).max() < 1e-9
    assert "Traceback" not in node.output and node.stop() == 0, node.output


THREADS = """
import glob, sys
from ros_bridge.transport import without_shared_memory
if sys.argv[1] == "without":
    without_shared_memory()
import rclpy
rclpy.init()
node = rclpy.create_node("alone")
print(sum(open(task + "/comm").read().startswith("dds.shm") for task in glob.glob("/proc/self/task/*")))
"""


@pytest.mark.parametrize("profile", [False, True], ids=["alone", "with the pictures' profile"])
@pytest.mark.parametrize("reach", ["LOCALHOST", "SUBNET"])
def test_without_shared_memory_nobody_of_this_process_waits_on_it(reach, profile):
    def threads(how):
        environment = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": reach, **(with_room_for_pictures(PROFILE, {}) if profile else {})}
        found = subprocess.run([sys.executable, "-c", THREADS, how], env=environment, capture_output=True, text=True, check=True)
        return int(found.stdout.split()[-1])

    assert threads("with") > 0, "there is nothing to switch off"
    assert threads("without") == 0


def test_transports_that_somebody_chose_stay(tmp_path):
    chosen = {"FASTDDS_BUILTIN_TRANSPORTS": "SHM", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    given = dict(chosen)
    without_shared_memory(given)
    assert given == chosen
    own = tmp_path / "own.xml"
    own.write_text(PROFILE.read_text().replace(PICTURES, "lab"))
    given = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(own)}
    without_shared_memory(given)
    assert given == {"FASTRTPS_DEFAULT_PROFILES_FILE": str(own)}
    for distro, variable in (("kilted", "FASTDDS_DEFAULT_PROFILES_FILE"), ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE")):
        assert with_room_for_pictures(PROFILE, {"ROS_DISTRO": distro}) == {variable: str(PROFILE)}
    assert with_room_for_pictures(PROFILE, chosen) == with_room_for_pictures(PROFILE, given) == {}


def test_only_who_passes_pictures_on_is_given_memory_for_them(monkeypatch):
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)
    given = {name: node_command(name).environment for name in MODULES}
    assert {name for name, environment in given.items() if environment} == {"sim_node", "framing_node", "perception_node", "recorder_node"}
    assert set(given["sim_node"].values()) == {str(PROFILE)}


TALK = """
import sys, time
from ros_bridge.transport import without_shared_memory
if sys.argv[1] == "hears":
    without_shared_memory()
import rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node(sys.argv[1])
heard = []
if sys.argv[1] == "hears":
    node.create_subscription(String, "/word", heard.append, 10)
    until = time.monotonic() + 30.0
    while not heard and time.monotonic() < until:
        rclpy.spin_once(node, timeout_sec=0.1)
    print(len(heard) > 0)
else:
    words = node.create_publisher(String, "/word", 10)
    while True:
        words.publish(String(data="x" * 100_000))
        time.sleep(0.05)
"""


@pytest.mark.parametrize("reach", ["LOCALHOST", "SUBNET"])
def test_who_shares_pictures_is_heard_by_who_speaks_over_udp_alone(reach):
    environment = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": reach, **with_room_for_pictures(PROFILE, {})}
    speaker = subprocess.Popen([sys.executable, "-c", TALK, "speaks"], env=environment)
    try:
        found = subprocess.run([sys.executable, "-c", TALK, "hears"], env=environment, capture_output=True, text=True, check=True)
    finally:
        speaker.kill()
        speaker.wait()
    assert found.stdout.split()[-1] == "True"


@pytest.mark.parametrize(("wish", "policies"), [("none", ("SCHED_OTHER",)), ("auto", ("SCHED_FIFO", "SCHED_OTHER"))])
def test_what_is_said_of_the_priority_is_what_was_obtained(wish, policies):
    code = f"""
import os, threading, time
threading.Thread(target=time.sleep, args=(1.0,), daemon=True).start()
from ros_bridge.scheduling import go_first
said = go_first({wish!r})
tasks = [int(task) for task in os.listdir("/proc/self/task")]
print(said, sorted({{os.sched_getscheduler(task) for task in tasks}}), os.getpriority(os.PRIO_PROCESS, 0), sep=";")
"""
    said, schedulers, niceness = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip().split(";")
    assert schedulers in {str([getattr(os, policy)]) for policy in policies}
    assert ("FIFO" in said) == (schedulers == str([os.SCHED_FIFO]))
    assert ("nice -" in said) == (int(niceness) < 0)


def test_a_spread_gives_the_percentiles_of_everything_that_was_added():
    spread, durations = Spread(), np.random.default_rng(0).gamma(2.0, 1.5, 5000)
    assert spread.percentile(99) == 0.0
    for duration in durations:
        spread.add(float(duration))
    spread.add(250.0)
    for percent in (50, 90, 99):
        assert spread.percentile(percent) == pytest.approx(np.percentile(durations, percent), abs=0.06)
    assert spread.max == spread.percentile(100) == 250.0
