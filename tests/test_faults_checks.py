"""Judgement of recordings: each check passes a good one and fails one that is bad on purpose; the oracle; the motion across a jump of time."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

pytest.importorskip("rclpy")

from bag_writing import START_NS, STEP_NS, bag, msg, trajectory
from conftest import REPOSITORY
from latent_mpc.bag import TYPES, BagMessage
from latent_mpc.faults_checks import CHECKS
from latent_mpc.faults_evidence import Evidence
from latent_mpc.faults_oracle import Oracle
from latent_mpc.faults_recording import Recording, Sent, Status, braking, continues, guardrail_alone, load
from latent_mpc.faults_run import Played
from latent_mpc.faults_scenario import parse_scenario

from arm_model import Kinematics, load_arm

ARM = load_arm()
MS = 1_000_000
T0 = START_NS
LIMITED = {"name": "x", "row": "e-stop", "checks": {"limits": 0}}


# Reading what was published.


def sent(index, positions, late_ns=2 * MS):
    """A command in cycle ``index`` after T0."""
    stamp = T0 + index * STEP_NS
    return Sent(stamp + late_ns, stamp, np.atleast_2d(np.asarray(positions, float)), values=3, non_finite=0)


def stop_from(position, speed=1.0, samples=6):
    """Positions of a stop that begins at ``position``, one joint."""
    return (position + speed * 0.01 * np.cumsum(np.linspace(1.0, 0.0, samples)))[:, None]


def tracked_then_stopped(follow=20, until=60):
    """A joint follows a plan for ``follow`` cycles, then its last braking trajectory."""
    commands = [sent(k, stop_from(0.01 * k)) for k in range(follow)]
    for k in range(follow, until):
        commands.append(sent(k, commands[-1].positions[1:] if len(commands[-1].positions) > 1 else commands[-1].positions))
    return commands


def test_braking_is_where_commands_only_continue_what_was_promised():
    commands = tracked_then_stopped()
    assert continues(commands[20], commands[21]) and not continues(commands[10], commands[11])
    first, rest = braking(commands, since_ns=T0 + 100 * MS, until_ns=T0 + 10**9)
    assert (first, rest) == (commands[20], commands[24])
    assert first.sent_ns == T0 + 202 * MS
    late = dataclasses.replace(commands[20], received_ns=T0 + 300 * MS)
    assert late.sent_ns == T0 + 210 * MS, "heard late by the recorder, sent in its cycle"
    assert braking(commands, T0 + 400 * MS, T0 + 10**9) is None, "it stood already"
    assert braking(commands[:20], T0 + 100 * MS, T0 + 10**9) is None, "it never stops"
    assert braking(commands, T0 + 100 * MS, T0 + 210 * MS) is None, "it stops too late"


def events(*entries):
    return tuple({"what": what, "time_ns": T0 + ms * MS, **dict(more)} for what, ms, more in entries)


FAULT = (("repeat", 100, {}), ("fault", 100, {}), ("end", 500, {}))


def said(ms, message="TRACKING", level=0, name="guardrail_node", **values):
    return Status(T0 + ms * MS, name, message, level, {key: str(value) for key, value in values.items()})


def joints_at(ms, position):
    return BagMessage("/joint_states", T0 + ms * MS, msg("sensor_msgs/msg/JointState", **joint_fields(position)))


def joint_fields(position):
    header = msg("std_msgs/msg/Header", stamp=msg("builtin_interfaces/msg/Time", sec=0, nanosec=0), frame_id="")
    return {"header": header, "name": ["a"], "position": np.array([position]), "velocity": np.empty(0), "effort": np.empty(0)}


def evidence(recording=None, dead=None, printed=None, window_s=1.0, **changes):
    base = Recording(
        bag=REPOSITORY,
        commands=tuple(tracked_then_stopped()),
        joint_states=(joints_at(-1, 0.01), joints_at(0, 0.01)),
        plans=(),
        latents_ns=(T0, T0 + 50 * MS),
        guard=(said(50), said(150, reason="")),
        others=(),
        events=events(*FAULT),
    )
    recording = recording or dataclasses.replace(base, **changes)
    scenario = parse_scenario({**LIMITED, "window_s": window_s}, CHECKS)
    played = Played(REPOSITORY, printed or {}, dead or {}, {}, {}, 1.0)
    return Evidence(scenario, recording, played, recording.windows(window_s))


FAST = tracked_then_stopped(follow=15)
SLOW = tracked_then_stopped(follow=45)
NEVER = tracked_then_stopped(follow=60)
QUIET = (said(50, "STOPPED"), said(150, "STOPPED"), said(800, "STOPPED"), said(900, "STOPPED"))
REARMED = {"guardrail_starts": 1}
AWAY = [sent(k, [[0.5]]) for k in (60, 61)]
HELD = [sent(k, [[0.3]]) for k in range(60)]
PLANS = {age: BagMessage("/planner/plan", T0 + 200 * MS, trajectory(T0 + (200 - age) * MS, np.zeros((1, 2)), np.zeros((1, 2)))) for age in (80, 900)}
BAD_VALUES = [dataclasses.replace(command, non_finite=1) for command in FAST]


def received(ms):
    """Commands stamped before a stop that come so late."""
    return tuple(dataclasses.replace(command, received_ns=T0 + ms * MS) for command in FAST[:5])


GAPS = tuple(itertools.chain(FAST[:12], FAST[12:50:4], FAST[50:]))


@pytest.mark.parametrize(
    ("check", "bar", "good", "bad"),
    [
        ("finite_values", 100.0, {}, {"commands": tuple(BAD_VALUES)}),
        ("finite_values", 100.0, {}, {"commands": tuple(FAST[:10])}),
        ("cycles", 30.0, {}, {"commands": tuple(FAST[:30])}),
        ("braking_within_ms", 100.0, {"commands": tuple(FAST)}, {"commands": tuple(SLOW)}),
        ("braking_within_ms", 10_000.0, {"commands": tuple(FAST)}, {"commands": tuple(NEVER)}),
        ("braking_after_ms", 100.0, {"commands": tuple(SLOW)}, {"commands": tuple(FAST)}),
        ("rest_within_ms", 50.0, {"commands": tuple(FAST)}, {"commands": tuple(NEVER)}),
        ("cycles_to_brake", 6.0, {"commands": tuple(FAST)}, {"commands": tuple(SLOW)}),
        ("noticed_within_ms", 100.0, {"guard": (said(150, "BRAKING", 1),), "commands": tuple(SLOW)}, {"commands": tuple(SLOW)}),
        ("unchanged", 1e-9, {"commands": tuple(HELD)}, {"commands": tuple(FAST)}),
        ("unchanged", 1e-9, {"commands": tuple(HELD)}, {"commands": ()}),
        ("tracking_share", 0.9, {"commands": tuple(NEVER)}, {"commands": tuple(FAST)}),
        ("silent_when_stopped", 0.0, {"guard": QUIET, "commands": tuple(FAST[:5])}, {"guard": QUIET}),
        ("silent_when_stopped", 0.0, {"guard": QUIET, "commands": tuple(FAST[:5])}, {"commands": tuple(FAST[:5])}),
        ("silent_when_stopped", 0.0, {"guard": QUIET, "commands": received(200)}, {"guard": QUIET, "commands": received(400)}),
        (
            "first_command_rad",
            1e-3,
            {"commands": (*FAST[:1], *AWAY), "joint_states": (joints_at(0, 0.01), joints_at(590, 0.5))},
            {"commands": (*FAST[:1], *AWAY)},
        ),
        ("loop_slower_by", 0.02, {}, {"commands": GAPS}),
        ("largest_gap_ms", 35.0, {}, {"commands": GAPS}),
        ("reaches", "STOPPED", {"guard": (said(150, "STOPPED"),)}, {}),
        ("reason", "no joint", {"guard": (said(150, reason="no joint states"),)}, {"guard": (said(50, reason="no joint states"),)}),
        (
            "error_within_ms",
            200.0,
            {"guard": (said(150, level=2),), "others": (said(400, level=2),)},
            {"guard": (said(150, level=1),), "others": (said(400, level=2),)},
        ),
        ("error_within_ms", 200.0, {"guard": (said(150, level=2),), "others": (said(400, level=2),)}, {"guard": (said(150, level=2),)}),
        ("counted", "refused", {"guard": (said(50, refused=3), said(300, refused=4))}, {"guard": (said(50, refused=3), said(300, refused=3))}),
        ("counted", "eyes refused", {"others": (said(300, name="eyes", refused=1),)}, {"others": (said(300, name="ears", refused=1),)}),
        ("fuzzed", 10.0, {"events": events(*FAULT, ("end", 600, {"fuzzed": 11}))}, {}),
        ("plan_age_ms", 100.0, {"plans": (PLANS[80],)}, {"plans": (PLANS[80], PLANS[900])}),
        ("no_latents", 0.0, {}, {"latents_ns": (T0, T0 + 400 * MS)}),
        ("no_latents", 0.0, {}, {"latents_ns": ()}),
        (
            "rearmed",
            1.0,
            {"events": events(*FAULT, ("rearmed", 900, REARMED))},
            {"events": events(*FAULT, ("rearmed", 900, {"guardrail_starts": 2}))},
        ),
        (
            "rearmed",
            1.0,
            {"events": events(*FAULT, ("rearmed", 900, REARMED))},
            {"events": events(*FAULT, ("not_rearmed", 900, {"reason": "no", **REARMED}))},
        ),
        ("rearmed", 1.0, {"events": events(*FAULT, ("rearmed", 900, REARMED))}, {}),
        (
            "arm_refused",
            1.0,
            {"events": events(*FAULT, ("arm_answer", 600, {"success": False}))},
            {"events": events(*FAULT, ("arm_answer", 600, {"success": True}))},
        ),
        ("arm_refused", 1.0, {"events": events(*FAULT, ("arm_answer", 600, {"success": False}))}, {}),
        ("alive", 0.0, {}, {"dead": {"planner_node": "ended with status 1"}}),
        ("alive", 0.0, {}, {"printed": {"planner_node": "Traceback (most recent call last)"}}),
        ("ends_with", "incomplete", {"printed": {"recorder_node": "it is incomplete\n"}}, {"printed": {"recorder_node": "12 messages\n"}}),
    ],
)
def test_a_check_passes_a_good_recording_and_fails_a_bad_one(check, bar, good, bad):
    passed = CHECKS[check](evidence(**good), bar)
    assert passed.met, passed.measured
    failed = CHECKS[check](evidence(**bad), bar)
    assert not failed.met, failed.measured


def seven(position, ns, jump_ns=0, frame=""):
    """A command of the Panda's at recorder time ``ns``, whose clock is ``jump_ns`` ahead."""
    made = trajectory(ns + jump_ns, position, np.zeros_like(position), joints=ARM.joints)
    made.header.frame_id = frame
    return ns + 2 * MS, made


def recorded(folder, entries):
    with bag(folder) as write:
        for time_ns, message in entries:
            write("/joint_trajectory_controller/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", time_ns, message)
    return folder


def test_limits_are_checked_without_rivals_and_across_a_jump_of_time(tmp_path):
    s = np.linspace(0.0, 1.0, 41)[:, None]
    path = ARM.home + 0.1 * (10 * s**3 - 15 * s**4 + 6 * s**5)
    # After 20 cycles the clock of whoever commands is set by five seconds; the motion goes on. A rival stands elsewhere all the time.
    smooth = [seven(path[k:], T0 + k * STEP_NS, 5_000_000_000 * (k >= 20)) for k in range(41)]
    rivals = [(time_ns + MS, seven(np.ones((1, 7)), T0, frame="faults_rival")[1]) for time_ns, _ in smooth[::5]]
    good = recorded(tmp_path / "good", sorted([*smooth, *rivals], key=lambda entry: entry[0]))
    assert len(load(good).commands) == 41
    alone = guardrail_alone(good, tmp_path / "alone")
    stamps = [command.stamp_ns for command in load(alone).commands]
    assert np.diff(stamps).tolist() == [STEP_NS] * 40
    assert CHECKS["limits"](evidence(recording=load(good)), 0.0).met
    broken = [entry for k, entry in enumerate(smooth) if not 18 <= k < 25]
    jumped = CHECKS["limits"](
        evidence(recording=load(recorded(tmp_path / "bad", broken[:18] + [seven(path[k:] + 0.05, T0 + k * STEP_NS) for k in range(18, 41)]))), 0.0
    )
    assert not jumped.met, jumped.measured


def test_a_payload_that_is_no_message_is_passed_over(tmp_path):
    with bag(tmp_path / "bag") as write:
        write("/joint_states", "sensor_msgs/msg/JointState", T0, joints_at(0, 0.1).message)
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(tmp_path / "raw", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=TYPES)
        whole = bytes(TYPES.serialize_cdr(joints_at(0, 0.1).message, "sensor_msgs/msg/JointState"))
        writer.write(connection, T0, whole[:-9])
        writer.write(connection, T0 + 1, whole)
    assert len(load(tmp_path / "raw").joint_states) == 1


# The oracle.


def test_the_oracle_knows_free_air_from_table_and_own_links():
    def command(*rows):
        return (sent(0, np.array(rows)),)

    kinematics = Kinematics(ARM)
    folded = ARM.home + np.array([0.0, -0.3, 0.0, -0.8, 0.0, -1.9, 0.0])
    dived = ARM.home + np.array([0.0, 1.4, 0.0, 0.3, 0.0, 0.2, 0.0])
    with Oracle() as oracle:
        assert oracle.distance(ARM.home)[0] > 0.03
        assert oracle.distance(folded)[0] < 0.0 and "table" not in oracle.distance(folded)[1]
        assert oracle.distance(dived)[0] < 0.0 and "table" in oracle.distance(dived)[1]
        # Another library's kinematics; the table's top is at height 0.
        for q in (ARM.home, folded, ARM.home + 0.2):
            assert oracle.tool(q) == pytest.approx(kinematics.tool_point(q), abs=1e-4)
        assert oracle.least_distance(command(ARM.home, dived)) == oracle.distance(dived)
    for check in ("clearance_m", "above_table_m"):
        assert CHECKS[check](evidence(commands=command(ARM.home)), 0.01).met
        assert not CHECKS[check](evidence(commands=command(ARM.home, dived)), 0.01).met
    assert not CHECKS["clearance_m"](evidence(commands=command(ARM.home, folded)), 0.01).met
    boxed = evidence(commands=command(ARM.home))
    for side, met in ((0.5, True), (0.2, False)):
        given = f"'{{min: [0.2, -0.4, 0.1], max: [0.4895, {side}, 0.9]}}'" if not met else "'{min: [0.2, -0.4, 0.1], max: [0.75, 0.4, 0.9]}'"
        scenario = dataclasses.replace(boxed.scenario, parameters={"guardrail_node": {"workspace": given}})
        assert CHECKS["workspace_m"](dataclasses.replace(boxed, scenario=scenario), 0.0).met is met
