import numpy as np
import pytest

from sim.controllers import CommandError, ForwardVelocityController, JointControllers, JointTrajectoryController, TrajectoryCommand
from sim.pacing import Pacer

MS = 1_000_000
NAMES = ("a", "b")


def command(times_ms, positions, velocities=None, stamp_ms=0, joints=NAMES):
    return TrajectoryCommand(
        stamp_ns=stamp_ms * MS,
        joints=tuple(joints),
        times_ns=tuple(t * MS for t in times_ms),
        positions=tuple(positions),
        velocities=tuple(velocities if velocities is not None else [[]] * len(positions)),
    )


@pytest.fixture
def controller():
    return JointTrajectoryController(NAMES, np.zeros(2))


def test_holds_its_start_until_told_otherwise(controller):
    point = controller.sample(5 * MS)
    assert point.position.tolist() == [0.0, 0.0] and point.velocity.tolist() == [0.0, 0.0]


def test_points_without_velocities_are_joined_by_straight_lines(controller):
    controller.accept(command([100, 200], [[1.0, 0.0], [1.0, 2.0]], stamp_ms=1000), 1000 * MS)
    assert controller.sample(1050 * MS).position == pytest.approx([0.5, 0.0])
    assert controller.sample(1150 * MS).position == pytest.approx([1.0, 1.0])
    assert controller.sample(1150 * MS).velocity == pytest.approx([0.0, 20.0])


def test_points_with_velocities_are_joined_by_cubics_that_meet_both_ends(controller):
    controller.accept(command([0, 100], [[0.0, 0.0], [1.0, 1.0]], [[0.0, 5.0], [0.0, 0.0]], stamp_ms=1000), 1000 * MS)
    times = np.arange(1000, 1100, 0.5)
    points = [controller.sample(int(t * MS)) for t in times]
    positions, velocities = np.array([p.position for p in points]), np.array([p.velocity for p in points])
    assert positions[100] == pytest.approx([0.5, 0.5 + 0.5 * 0.05 * 5.0 / 2])
    assert velocities[0] == pytest.approx([0.0, 5.0], abs=1e-6)
    assert np.gradient(positions, times / 1e3, axis=0)[1:-1] == pytest.approx(velocities[1:-1], abs=1e-2)


def test_the_last_point_is_held(controller):
    controller.accept(command([10], [[1.0, -1.0]], [[0.0, 0.0]], stamp_ms=1000), 1000 * MS)
    point = controller.sample(9000 * MS)
    assert point.position.tolist() == [1.0, -1.0] and not point.velocity.any()


def test_stamp_zero_means_now(controller):
    controller.accept(command([100], [[1.0, 0.0]]), 7000 * MS)
    assert controller.sample(7050 * MS).position == pytest.approx([0.5, 0.0])


def test_joints_are_reordered_by_name(controller):
    controller.accept(command([10], [[1.0, 2.0]], [[0.0, 0.0]], joints=("b", "a")), 0)
    assert controller.sample(20 * MS).position.tolist() == [2.0, 1.0]


def test_a_new_trajectory_goes_on_from_where_the_old_one_was(controller):
    controller.accept(command([100], [[1.0, 0.0]], stamp_ms=1000), 1000 * MS)
    assert controller.sample(1050 * MS).position == pytest.approx([0.5, 0.0])
    controller.accept(command([100], [[0.0, 0.0]], stamp_ms=1050), 1050 * MS)
    assert controller.sample(1100 * MS).position == pytest.approx([0.25, 0.0])


def test_a_trajectory_that_began_before_it_arrived_is_followed_at_its_own_time(controller):
    controller.accept(command([10, 20, 30], [[0.1, 0], [0.2, 0], [0.3, 0]], stamp_ms=1000), 1015 * MS)
    assert controller.sample(1020 * MS).position == pytest.approx([0.2, 0.0])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (command([10], [[0.0, 0.0]], joints=()), "empty joint names"),
        (command([], [], joints=NAMES), "empty trajectory"),
        (command([10], [[0.0, 0.0]], joints=("a", "z")), "'z' doesn't match"),
        (command([10], [[0.0]], joints=("a",)), "don't match the controller's 2 joints"),
        (command([10], [[0.0, 0.0]], joints=("a", "a")), "don't match"),
        (command([10], [[0.0, 0.0, 0.0]]), "3 positions at point 0"),
        (command([10], [[0.0, 0.0]], [[0.0]]), "1 velocities at point 0"),
        (command([10, 20], [[0.0, 0.0]] * 2, [[0.0, 0.0], []]), "0 velocities at point 1"),
        (command([20, 20], [[0.0, 0.0]] * 2), "not strictly increasing"),
        (command([-10, 20], [[0.0, 0.0]] * 2), "negative"),
        (command([10], [[0.0, 0.0]], [[0.0, 0.1]]), "velocity of last trajectory point of joint b is not zero"),
        (command([10], [[0.0, 0.0]], stamp_ms=500), "ends in the past"),
    ],
)
def test_what_ros2_control_rejects_is_rejected_and_changes_nothing(controller, bad, reason):
    controller.accept(command([100], [[1.0, 0.0]], stamp_ms=1000), 1000 * MS)
    with pytest.raises(CommandError, match=reason):
        controller.accept(bad, 1000 * MS)
    assert controller.sample(1050 * MS).position == pytest.approx([0.5, 0.0])


def test_velocities_are_integrated_for_ever():
    controller = ForwardVelocityController(np.array([1.0, 2.0]))
    controller.accept([0.5, -1.0])
    for _ in range(100):
        point = controller.advance(0.01)
    assert point.position == pytest.approx([1.5, 1.0]) and point.velocity == pytest.approx([0.5, -1.0])


def test_a_velocity_command_needs_one_value_per_joint():
    with pytest.raises(CommandError, match=r"command size \(3\)"):
        ForwardVelocityController(np.zeros(2)).accept([0.0, 0.0, 0.0])


def test_the_controller_that_heard_last_has_the_joints_without_a_jump():
    both = JointControllers(NAMES, np.zeros(2))
    both.follow(command([100], [[1.0, 0.0]], stamp_ms=1000), 1000 * MS)
    assert both.update(1050 * MS, 0.01).position == pytest.approx([0.5, 0.0])
    both.drive([1.0, 0.0])
    assert both.active == "forward_velocity_controller"
    assert both.update(1060 * MS, 0.01).position == pytest.approx([0.51, 0.0])
    both.follow(command([100], [[0.51, 1.0]], stamp_ms=1060), 1060 * MS)
    assert both.active == "joint_trajectory_controller"
    assert both.update(1110 * MS, 0.01).position == pytest.approx([0.51, 0.5])
    both.hold(np.array([3.0, 3.0]))
    assert both.update(1120 * MS, 0.01).position.tolist() == [3.0, 3.0]


def test_a_rejected_command_does_not_take_the_joints():
    both = JointControllers(NAMES, np.zeros(2))
    with pytest.raises(CommandError):
        both.drive([1.0])
    assert both.active == "joint_trajectory_controller"


class TestPacer:
    def test_time_starts_on_the_grid_and_keeps_step(self):
        pacer = Pacer(10 * MS, 100 * MS, steady_ns=0, ros_ns=1_234_567_891)
        assert pacer.time_ns == 1_240_000_000
        assert pacer.due(5 * MS) == 0
        ticks = 0
        for steady_ms in range(0, 1000, 7):
            for _ in range(pacer.due(steady_ms * MS)):
                pacer.tick()
                ticks += 1
            assert 0 <= 1_234_567_891 + steady_ms * MS - pacer.time_ns + 10 * MS < 20 * MS
        assert ticks == 98 and pacer.dropped_ns == 0

    def test_a_stall_is_caught_up_to_a_bound_and_dropped_beyond(self):
        pacer = Pacer(10 * MS, 100 * MS, 0, 0)
        assert pacer.due(80 * MS) == 8
        assert pacer.due(500 * MS) == 10
        assert pacer.dropped_ns == 400 * MS and pacer.time_ns == 400 * MS

    def test_a_jump_never_goes_back(self):
        pacer = Pacer(10 * MS, 100 * MS, 0, 1000 * MS)
        pacer.jump(200 * MS, 1100 * MS)
        assert pacer.time_ns == 1100 * MS and pacer.due(200 * MS) == 0 and pacer.dropped_ns == 0
        pacer.jump(300 * MS, 500 * MS)
        assert pacer.time_ns == 1100 * MS
