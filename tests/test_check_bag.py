"""The checker passes what keeps the limits and finds one planted violation of each kind."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bag_writing import START_NS, STEP_NS, URDF, bag, floats, joint_state, trajectory
from latent_mpc.bag import BagError
from latent_mpc.check_bag import JOINT_STATES_TOPIC, TRAJECTORY_TOPIC, VELOCITY_TOPIC, CheckError, Command, check_bag, executed_stream
from latent_mpc.cli import run

TRAJECTORY, VELOCITY = "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray"
NONE = {"position": 0, "velocity": 0, "acceleration": 0, "jerk": 0, "non_finite": 0}


def quintic(start, end, seconds):
    """Rest to rest with the least jerk: peaks 1.875 D/T, 5.77 D/T^2, 60 D/T^3."""
    s = np.linspace(0.0, 1.0, round(seconds / 0.01) + 1)[:, None]
    return np.asarray(start, float) + (np.asarray(end, float) - np.asarray(start, float)) * (10 * s**3 - 15 * s**4 + 6 * s**5)


CLEAN = quintic((0.0, 1.0), (0.5, 0.5), 0.6)


def streamed(positions, start_ns=START_NS):
    """A command at every grid point of a motion that ends at rest: its first point is next, the rest is the motion's remainder."""
    return [(start_ns + k * STEP_NS, trajectory(start_ns + k * STEP_NS, positions[k:])) for k in range(len(positions))]


@pytest.fixture
def urdf(tmp_path):
    path = tmp_path / "two.urdf"
    path.write_text(URDF)
    return path


@pytest.fixture
def checked(tmp_path, urdf):
    def check(messages, topic=TRAJECTORY_TOPIC, msgtype=TRAJECTORY, extra=(), **options):
        with bag(tmp_path / "bag") as write:
            for time_ns, message in messages:
                write(topic, msgtype, time_ns, message)
            for entry in extra:
                write(*entry)
        return check_bag(tmp_path / "bag", urdf, **options)

    return check


def test_a_stream_inside_the_limits_is_clean(checked):
    report = checked(streamed(CLEAN))
    assert report.violations == NONE and report.total == 0
    assert (report.messages, report.segments, report.overlapping) == (len(CLEAN), 1, 0)
    # 1.875 D/T and 5.77 D/T^2 of the motion, found again from its positions.
    assert report.worst["a"]["velocity"].value == pytest.approx(1.5625, rel=0.01)
    assert report.worst["a"]["acceleration"].value == pytest.approx(8.02, rel=0.01)
    assert report.worst["b"]["position"].value == pytest.approx(0.5) and report.worst["b"]["position"].limit == -1.0


def bang_bang():
    """Acceleration +6 then -6: only the jerk of the switch, 1200, is too much."""
    acceleration = np.repeat([0.0, 6.0, -6.0, 0.0], [2, 10, 10, 2])
    return np.stack([np.cumsum(np.cumsum(acceleration)) * 1e-4] * 2, axis=1)


@pytest.mark.parametrize(
    ("kind", "motion"),
    [
        ("position", quintic((1.6, 0.0), (2.05, 0.0), 0.6)),
        ("velocity", quintic((-1.9, 0.0), (1.9, 0.0), 3.0)),
        ("acceleration", quintic((0.0, 0.0), (0.5, 0.0), 0.5)),
        ("jerk", bang_bang()),
    ],
)
def test_each_kind_of_violation_is_found_and_nothing_else(checked, kind, motion):
    report = checked(streamed(motion))
    assert report.violations[kind] > 0
    assert {name for name, count in report.violations.items() if count} == {kind}
    assert report.worst["a"][kind].margin < 0


def test_a_nan_is_found(checked):
    broken = CLEAN.copy()
    broken[20, 1] = np.nan
    assert checked([(START_NS, trajectory(START_NS, broken))]).violations["non_finite"] == 1


def test_one_displaced_point_between_two_messages_is_found(checked):
    """Only the executed stream shows a jump that no message contains."""
    moved = CLEAN + 0.01
    report = checked([*streamed(CLEAN)[:20], *streamed(moved)[20:]])
    assert report.violations["acceleration"] and report.violations["jerk"]
    assert report.promised == {"position": 0, "velocity": 0, "acceleration": 0, "jerk": 0}


def test_a_braking_trajectory_that_does_not_brake_is_found_although_it_was_replaced(checked):
    messages = streamed(CLEAN)
    time_ns, _ = messages[20]
    messages[20] = (time_ns, trajectory(time_ns, CLEAN[20:25]))  # in full motion at its last point
    report = checked(messages)
    assert report.violations == NONE
    assert report.promised["acceleration"] > 0 and report.total > 0


def test_the_velocities_that_a_message_states_are_judged(checked):
    speeds = np.zeros_like(CLEAN)
    speeds[3, 0] = -2.5
    report = checked([(START_NS, trajectory(START_NS, CLEAN, velocities=speeds))])
    assert report.carried == {"velocity": 1, "acceleration": 0} and report.total == 1


def test_a_late_cycle_that_continues_the_braking_trajectory_is_clean(checked):
    messages = streamed(CLEAN)
    assert checked(messages[:10] + messages[17:]).violations == NONE


def test_a_short_silence_is_a_hold_and_a_long_one_a_new_start(checked):
    end_ns = START_NS + len(CLEAN) * STEP_NS
    shifted = CLEAN + 0.3
    soon = checked([*streamed(CLEAN), *streamed(shifted, end_ns + 5 * STEP_NS)])
    assert soon.segments == 1 and soon.violations["velocity"] > 0


def test_a_stream_that_starts_anew_elsewhere_is_clean(checked):
    end_ns = START_NS + len(CLEAN) * STEP_NS
    later = checked([*streamed(CLEAN), *streamed(CLEAN + 0.3, end_ns + 15 * STEP_NS)])
    assert later.segments == 2 and later.violations == NONE


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (trajectory(START_NS, CLEAN, joints=("a", "c")), "other joint names"),
        (trajectory(START_NS, CLEAN[:0]), "no points"),
        (trajectory(START_NS, CLEAN, step_ns=5_000_000), "points not 10 ms apart"),
        (trajectory(START_NS, np.zeros((3, 1))), "positions of the wrong length"),
        (trajectory(START_NS + 3_000_000, CLEAN), "not on the 10 ms grid of the message before"),
    ],
)
def test_a_malformed_message_fails_the_check(checked, message, reason):
    report = checked([*streamed(CLEAN)[:2], (START_NS, message)])
    assert report.malformed == {reason: 1} and report.total == 1


def test_joints_in_another_order_are_reordered(checked):
    report = checked([(START_NS, trajectory(START_NS, CLEAN)), (START_NS, trajectory(START_NS + STEP_NS, CLEAN[1:, ::-1], joints=("b", "a")))])
    assert report.violations == NONE


def test_the_executed_stream_is_what_a_controller_would_follow():
    """Against a controller that overwrites its plan slot by slot."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        slot, commands, followed = 0, [], {}
        for _ in range(15):
            slot += int(rng.integers(1, 6))
            points = rng.normal(size=(int(rng.integers(1, 8)), 1))
            commands.append(Command((slot + np.arange(len(points))) * STEP_NS, points, np.empty((0, 1)), np.empty((0, 1))))
            followed = {at: value for at, value in followed.items() if at < slot} | {slot + k: points[k, 0] for k in range(len(points))}
        expected, value = [], np.nan
        for at in range(min(followed), max(followed) + 1):
            value = followed.get(at, value)
            expected.append(value)
        (stream,) = executed_stream(commands)
        assert stream[:-3, 0].tolist() == expected


def test_velocity_commands_are_judged_too(checked):
    speeds = np.concatenate([np.linspace(0, 1, 30), np.linspace(1, 0, 30)])
    speeds[-1] = 0.3
    messages = [(START_NS + k * STEP_NS, floats([speed, 0.0])) for k, speed in enumerate(speeds)]
    report = checked(messages, VELOCITY_TOPIC, VELOCITY)
    assert report.violations == NONE | {"acceleration": 1, "jerk": 1}
    assert report.worst["a"]["velocity"].value == 1.0


def test_velocity_commands_of_the_wrong_length_are_malformed(checked):
    assert checked([(START_NS, floats([0.0])), (START_NS, floats([0.0, 0.0]))], VELOCITY_TOPIC, VELOCITY).malformed == {"1 values for 2 joints": 1}


def test_measured_joints_are_reported_but_not_judged(checked):
    extra = [(JOINT_STATES_TOPIC, "sensor_msgs/msg/JointState", START_NS, joint_state(START_NS, ("b", "a"), (0.0, 2.5), (0.0, -3.0)))]
    report = checked(streamed(CLEAN), extra=extra)
    assert report.total == 0
    assert report.measured["a"]["position"].margin == pytest.approx(-0.5) and report.measured["a"]["velocity"].value == 3.0


def test_an_empty_check_does_not_pass(tmp_path, urdf):
    with bag(tmp_path / "bag") as write:
        write("/joint_states", "sensor_msgs/msg/JointState", START_NS, joint_state(START_NS, ("a",), (0.0,), (0.0,)))
    with pytest.raises(CheckError, match="holds no commands"):
        check_bag(tmp_path / "bag", urdf)


@pytest.mark.parametrize("attribute", ["jerk", "acceleration", "upper"])
def test_a_urdf_without_a_limit_is_refused(checked, urdf, attribute):
    urdf.write_text(URDF.replace(f"{attribute}=", "other="))
    with pytest.raises(CheckError, match=f"no {attribute} limit"):
        checked(streamed(CLEAN))


def test_a_killed_recorders_folder_is_named(tmp_path, urdf):
    (tmp_path / "bag").mkdir()
    with pytest.raises(BagError, match=r"metadata\.yaml"):
        check_bag(tmp_path / "bag", urdf)


def test_from_the_command_line(tmp_path, urdf, checked, capsys):
    checked(streamed(CLEAN))
    assert run(["check-bag", str(tmp_path / "bag"), "--urdf", str(urdf), "--json", str(tmp_path / "out.json")]) == 0
    assert "no violation" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    assert {"messages", "duration_s", "violations", "worst"} <= written.keys()
    assert written["violations"] == NONE and written["worst"]["a"]["jerk"]["limit"] == 1000.0


def test_the_command_line_fails_when_a_limit_was_broken(tmp_path, urdf, checked, capsys):
    checked(streamed(bang_bang()))
    assert run(["check-bag", str(tmp_path / "bag"), "--urdf", str(urdf)]) == 1
    assert "jerk" in capsys.readouterr().out
