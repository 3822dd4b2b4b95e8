"""Strict CDR against an independent reader and writer."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from latent_mpc.bag import TYPES
from latent_mpc.faults_fuzz import _decodes, _mutated

from arm_model import load_arm
from ros_bridge.joints import JointError, read_joint_state_payload, read_trajectory, read_trajectory_payload

NAMES = load_arm().joints
STATE, PLAN = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
READ = {STATE: read_joint_state_payload, PLAN: read_trajectory_payload}


def message(kind, rng, names=NAMES, frame_id="base"):
    types = TYPES.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](7, 11), frame_id)
    rows = rng.normal(size=(5, 2, len(names)))
    if kind == STATE:
        return types[STATE](header, list(names), rows[0, 0], rows[0, 1], np.empty(0))
    duration = types["builtin_interfaces/msg/Duration"]
    points = [
        types["trajectory_msgs/msg/JointTrajectoryPoint"](position, velocity, np.empty(0), np.empty(0), duration(index, 500))
        for index, (position, velocity) in enumerate(rows)
    ]
    return types[PLAN](header, list(names), points)


def written(kind, rng, little=True, **given):
    msg = message(kind, rng, **given)
    return bytes(TYPES.serialize_cdr(msg, kind, little_endian=little)), msg


@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "base"])
def test_what_another_writer_wrote_is_read_as_it_was_meant(little, frame_id):
    rng = np.random.default_rng(0)
    order = rng.permutation(len(NAMES))
    shuffled = [NAMES[index] for index in order]
    payload, msg = written(STATE, rng, little, names=["gripper", *shuffled], frame_id=frame_id)
    reading = read_joint_state_payload(payload, NAMES)
    place = [msg.name.index(name) for name in NAMES]
    assert np.array_equal(reading.position, msg.position[place]) and np.array_equal(reading.velocity, msg.velocity[place])
    assert reading.stamp_ns == 7 * 10**9 + 11
    payload, msg = written(PLAN, rng, little, names=shuffled, frame_id=frame_id)
    plan = read_trajectory_payload(payload, NAMES)
    place = [msg.joint_names.index(name) for name in NAMES]
    assert np.array_equal(plan.positions, [point.positions[place] for point in msg.points])
    assert np.array_equal(plan.velocities, [point.velocities[place] for point in msg.points])
    assert plan.times == pytest.approx(np.arange(5) + 5e-7) and plan.accelerations is None


@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc"])  # what follows begins at another place
def test_points_of_all_shapes_are_read_as_an_independent_reader_reads_them(little, frame_id):
    """Those that are alike are taken at once, the others one by one: with and without accelerations, efforts, of one joint and of many."""
    types, rng = TYPES.types, np.random.default_rng(4)
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](7, 11), frame_id)
    point, duration = types["trajectory_msgs/msg/JointTrajectoryPoint"], types["builtin_interfaces/msg/Duration"]
    shapes = [(count, blocks, joints) for count in (1, 2, 7) for blocks in (2, 3, 4) for joints in (1, 2, 7)]
    for count, blocks, joints in shapes:
        names = [f"joint{number}" for number in rng.permutation(joints)]
        rows = [[rng.normal(size=joints) if block < blocks else np.empty(0) for block in range(4)] for _ in range(count)]
        msg = types[PLAN](header, names, [point(*row, duration(index, 500)) for index, row in enumerate(rows)])
        payload = bytes(TYPES.serialize_cdr(msg, PLAN, little_endian=little))
        at_once, meant = read_trajectory_payload(payload, sorted(names)), read_trajectory(msg, sorted(names))
        for field in ("times", "positions", "velocities", "accelerations"):
            one, other = getattr(at_once, field), getattr(meant, field)
            assert (one is None) == (other is None), (field, count, blocks, joints)
            assert one is None or (one.dtype == other.dtype and np.array_equal(one, other)), (field, count, blocks, joints)
    unlike = [point(np.ones(1), np.ones(1), np.ones(block), np.empty(0), duration(1 - block, 0)) for block in (1, 0)]
    odd = types[PLAN](header, ["joint0"], unlike)
    with pytest.raises(JointError, match="accelerations holds 0 values"):
        read_trajectory_payload(bytes(TYPES.serialize_cdr(odd, PLAN, little_endian=little)), ["joint0"])


@pytest.mark.parametrize("kind", [STATE, PLAN])
def test_a_payload_that_is_cut_anywhere_or_goes_on_is_refused(kind):
    payload, _ = written(kind, np.random.default_rng(1))
    READ[kind](payload, NAMES)
    for length in range(len(payload)):
        with pytest.raises(JointError):
            READ[kind](payload[:length], NAMES)
    for extra in (4, 6, 64):
        with pytest.raises(JointError, match="goes on"):
            READ[kind](payload + bytes(extra), NAMES)
    READ[kind](payload + bytes(3), NAMES)  # what a writer pads to whole words with


@pytest.mark.parametrize("kind", [STATE, PLAN])
def test_what_an_independent_reader_cannot_decode_is_refused(kind):
    rng = np.random.default_rng(2)
    payload, _ = written(kind, rng)
    refused = accepted = 0
    for _ in range(4000):
        candidate = _mutated(payload, rng)
        try:
            READ[kind](candidate, NAMES)
        except JointError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert _decodes(candidate, kind)
            accepted += 1
    assert refused > 1000 and accepted > 100, "the mutations try nothing"


def test_a_stamp_that_is_none_and_a_length_that_is_not_there_are_named():
    payload, _ = written(STATE, np.random.default_rng(3))
    with pytest.raises(JointError, match="ns"):
        READ[STATE](payload[:8] + (10**9).to_bytes(4, "little") + payload[12:], NAMES)
    with pytest.raises(JointError, match="begin as CDR"):
        READ[STATE](b"\x00\x07" + payload[2:], NAMES)
    at = payload.index(b"panda_joint1") - 8
    with pytest.raises(JointError, match="cannot hold 4294967295"):
        READ[STATE](payload[:at] + b"\xff\xff\xff\xff" + payload[at + 4 :], NAMES)
