"""The guard's decisions, cycle by cycle, with an arm that follows what it is told."""

from __future__ import annotations

import numpy as np
import pytest
from executed_stream import NONE, executed, violations

from arm_model import load_arm
from planner_node.grid import CYCLE_NS, Grid
from planner_node.guard import Guard, GuardConfig, GuardError, State
from planner_node.plan_gate import PlanGate, PlanGateConfig, Proposal
from planner_node.shield import Shield, ShieldConfig

ARM = load_arm()
LIMITS = ARM.limits.scaled(0.5, 0.9, 0.5, margin=0.02)
JOINTS = len(ARM.joints)
FIRST_SLOT = 170_000_000_000
STILL = np.zeros(JOINTS)


class Scene:
    """A guard, an ideal arm that executes its commands, and clocks that only move when told to."""

    def __init__(self, **config):
        self.gate = PlanGate(PlanGateConfig())
        self.guard = Guard(GuardConfig(**config), Shield(ShieldConfig(LIMITS)), self.gate)
        self.slot = FIRST_SLOT
        self.commands = []
        self.sent = []
        self.position = ARM.home.copy()
        self.joints_alive = True

    @property
    def steady_s(self):
        return (self.slot - FIRST_SLOT) * 0.01 + 100.0

    @property
    def ros_ns(self):
        return self.slot * CYCLE_NS

    def measure(self):
        self.guard.measured(self.position, STILL, self.ros_ns, self.steady_s)

    def tick(self, cycles=1, slots=1):
        """``cycles`` cycles, ``slots`` slots apart; the arm follows the last command in between."""
        command = None
        for _ in range(cycles):
            for _ in range(slots):
                self.slot += 1
                if self.commands:
                    slot, points = self.commands[-1]
                    self.position = points[min(self.slot - slot - 1, len(points) - 1)]
                if self.joints_alive:
                    self.measure()
            command = self.guard.cycle(self.slot, self.steady_s)
            if command is not None:
                self.commands.append((command.slot, command.braking.positions))
                self.sent.append(command)
        return command

    def arm(self):
        self.guard.arm(self.steady_s)
        self.measure()

    def plan(self, speed=0.3, seconds=1.0, age_s=0.0):
        """A plan that moves every joint at ``speed`` rad/s from where the arm is."""
        times = np.arange(0.0, seconds + 1e-9, 0.05)
        positions = self.position + np.outer(times * speed, np.ones(JOINTS))
        self.gate.offer(Proposal(self.ros_ns - int(age_s * 1e9), times, positions, np.full_like(positions, speed)), self.ros_ns, self.steady_s)

    def check_limits(self):
        assert violations(executed(self.commands), LIMITS) == NONE


@pytest.fixture
def scene():
    return Scene()


def test_nothing_is_sent_before_it_is_armed(scene):
    scene.plan()
    assert scene.tick(5) is None
    assert scene.guard.state is State.DISARMED


def test_it_arms_where_the_arm_is_and_ignores_a_plan_from_before(scene):
    scene.position = ARM.home + 0.1
    scene.plan()
    scene.arm()
    assert scene.guard.state is State.HOLDING
    first = scene.tick()
    assert np.abs(first.braking.positions[0] - scene.position).max() < 1e-3
    assert scene.tick(10).braking.positions[0] == pytest.approx(ARM.home + 0.1)
    assert scene.guard.state is State.HOLDING


def test_it_arms_at_a_joint_state_from_after_the_request(scene):
    scene.measure()
    scene.guard.arm(scene.steady_s)
    assert scene.guard.arming and scene.guard.state is State.DISARMED
    scene.slot += 1
    scene.position = ARM.home - 0.2  # somebody put the arm elsewhere
    scene.measure()
    assert scene.tick().braking.positions[0] == pytest.approx(ARM.home - 0.2)


@pytest.mark.parametrize(("moving", "outside", "reason"), [(True, False, "moves"), (False, True, "panda_joint1")])
def test_it_does_not_arm_a_moving_arm_or_one_outside_its_limits(scene, moving, outside, reason):
    scene.guard.arm(scene.steady_s)
    position = ARM.home.copy()
    position[0] = LIMITS.upper[0] + 0.01 if outside else 0.0
    scene.guard.measured(position, np.full(JOINTS, 0.2 if moving else 0.0), 1, scene.steady_s)
    assert scene.guard.state is State.DISARMED and not scene.guard.arming
    assert reason in scene.guard.reason


def test_an_arm_request_without_joint_states_expires(scene):
    scene.joints_alive = False
    scene.guard.arm(scene.steady_s)
    scene.tick(60)
    assert not scene.guard.arming and scene.guard.state is State.DISARMED
    assert scene.guard.reason == "no joint state to arm at: none was heard yet"


def test_auto_arm_arms_once_joint_states_arrive():
    scene = Scene(auto_arm=True)
    scene.joints_alive = False
    scene.tick(100)
    assert scene.guard.state is State.DISARMED
    scene.joints_alive = True
    scene.tick(3)
    assert scene.guard.state is State.HOLDING


def test_it_tracks_plans_and_says_when_a_new_one_takes_effect(scene):
    scene.arm()
    scene.tick(2)
    effects = 0
    for _ in range(8):
        scene.plan()
        for _ in range(20):
            effects += scene.tick().new_plan_stamp_ns is not None
            assert scene.guard.state is State.TRACKING
    assert effects == 8
    assert scene.position[0] - ARM.home[0] == pytest.approx(0.3 * 1.6, abs=0.05)
    assert scene.guard.counts.interventions == 0
    scene.check_limits()


def test_silence_of_the_planner_ends_in_a_smooth_stop_and_a_hold(scene):
    scene.arm()
    scene.tick(2)
    scene.plan()
    scene.tick(30)
    assert scene.guard.state is State.TRACKING
    scene.tick(7)
    assert scene.guard.state is State.BRAKING and scene.guard.reason == "no new plan in time"
    scene.tick(60)
    assert scene.guard.state is State.HOLDING
    assert scene.guard.counts.brakings == 1
    assert scene.sent[-1].braking.at_rest
    scene.check_limits()


def test_lost_joint_states_brake_and_a_repeated_stamp_is_a_lost_one(scene):
    for repeat in (False, True):
        if not scene.commands:
            scene.arm()
        scene.joints_alive = True
        scene.tick(2)
        scene.plan(seconds=5.0)
        scene.tick(20)
        assert scene.guard.state is State.TRACKING
        scene.joints_alive = False
        frozen_stamp_ns = scene.ros_ns
        for _ in range(8):
            scene.tick()
            if repeat:
                scene.guard.measured(scene.position, STILL, frozen_stamp_ns, scene.steady_s)
        assert scene.guard.state is State.BRAKING
        assert "no joint states" in scene.guard.reason
        scene.tick(60)
        assert scene.guard.state is State.HOLDING
    scene.check_limits()


def test_stop_brakes_latches_and_falls_silent(scene):
    scene.arm()
    scene.tick(2)
    scene.plan()
    scene.tick(20)
    scene.guard.stop("stop requested")
    assert scene.tick() is not None
    assert scene.guard.state is State.BRAKING
    with pytest.raises(GuardError, match="BRAKING"):
        scene.guard.reset()
    scene.tick(60)
    assert scene.guard.state is State.STOPPED and scene.guard.reason == "stop requested"
    last = scene.sent[-1]
    assert last.braking.at_rest and np.array_equal(last.start.position, last.braking.positions[0]), "the last velocity sent is not zero"
    scene.plan()
    assert scene.tick(10) is None
    with pytest.raises(GuardError, match="STOPPED"):
        scene.arm()
    scene.guard.reset()
    assert scene.guard.state is State.DISARMED
    scene.arm()
    assert scene.tick() is not None
    assert scene.guard.counts.stops == 1
    scene.check_limits()


def test_stop_latches_also_while_disarmed_and_survives_deactivation(scene):
    scene.guard.stop("stop requested")
    assert scene.guard.state is State.STOPPED
    scene.guard.reset()
    scene.arm()
    scene.tick(2)
    scene.plan()
    scene.tick(20)
    scene.guard.stop("stop requested")
    scene.guard.disarm("not active")
    assert scene.guard.state is State.STOPPED
    assert scene.tick() is None


def test_an_arm_that_does_not_follow_is_stopped(scene):
    scene.arm()
    scene.tick(2)
    scene.plan(seconds=5.0)
    stuck = scene.position.copy()
    scene.joints_alive = False
    for cycle in range(200):
        scene.tick()
        scene.guard.measured(stuck, STILL, scene.ros_ns, scene.steady_s)
        if cycle % 20 == 0 and scene.guard.state is State.TRACKING:
            scene.position = scene.commands[-1][1][0]
            scene.plan(seconds=5.0)
        if scene.guard.state is State.STOPPED:
            break
    assert scene.guard.state is State.STOPPED
    assert "away from its command" in scene.guard.reason
    scene.check_limits()


def test_an_arm_that_is_suddenly_elsewhere_is_stopped_and_one_that_moves_is_not(scene):
    """A simulator that was set up anew: the plans in force mean nothing there."""
    scene.arm()
    scene.plan()
    scene.tick(20)
    assert scene.guard.state is State.TRACKING, "moving is not jumping"
    scene.joints_alive = False
    scene.slot += 1
    scene.position = scene.position + 0.2
    scene.measure()
    scene.guard.cycle(scene.slot, scene.steady_s)
    assert "jumped by" in scene.guard.reason
    for _ in range(60):
        scene.slot += 1
        scene.guard.cycle(scene.slot, scene.steady_s)
    assert scene.guard.state is State.STOPPED


def test_joint_states_that_come_at_once_after_a_stall_are_no_jump_but_by_their_stamps_alone_one_is(scene):
    scene.arm()
    scene.tick(2)
    moved = 0.9 * LIMITS.velocity * 0.09
    assert moved.max() > scene.guard.config.jump_rad + 2.0 * LIMITS.velocity.max() * 1e-4
    for late_ns, change in ((90_000_000, moved), (-90_000_000, -moved)):
        scene.position = scene.position + change
        scene.slot += late_ns // CYCLE_NS
        scene.guard.measured(scene.position, STILL, scene.ros_ns, 100.0 + 1e-4)
        assert "jumped" not in scene.guard.reason and scene.guard.state is State.HOLDING
    refused = scene.guard.joints.refused
    scene.guard.measured(scene.position + 1.0, STILL, scene.ros_ns + 10**12, 100.0 + 2e-4)
    assert scene.guard.joints.refused == refused + 1, "a stamp from the far future excuses nothing"
    scene.guard.measured(scene.position + 1.0, STILL, scene.ros_ns + 10**8, 100.0 + 2e-4)
    assert "jumped by" in scene.guard.reason, "nor does one that lies a moment ahead"


@pytest.mark.parametrize("elsewhere", [0.0, 0.25])
def test_joint_states_that_come_back_from_elsewhere_mean_a_stop_however_long_they_were_lost(scene, elsewhere):
    """The arm brakes meanwhile, as it is told; a simulator that is set up anew takes its time."""
    scene.arm()
    scene.plan(speed=0.9 * LIMITS.velocity.min())
    scene.tick(20)
    scene.joints_alive = False
    scene.tick(60)
    assert scene.guard.state is State.HOLDING
    scene.position = scene.position + elsewhere
    scene.measure()
    scene.guard.cycle(scene.slot + 1, scene.steady_s)
    assert ("jumped" in scene.guard.reason) == bool(elsewhere)


def test_it_does_not_arm_at_a_single_joint_state_that_lies_elsewhere(scene):
    scene.measure()
    scene.guard.arm(scene.steady_s)
    true = scene.position
    scene.slot, scene.position = scene.slot + 1, ARM.home - 0.2
    scene.measure()
    assert scene.guard.arming
    for _ in range(2):
        scene.slot, scene.position = scene.slot + 1, true
        scene.measure()
    assert scene.tick().braking.positions[0] == pytest.approx(true)


@pytest.mark.parametrize("speed", [0.0, 0.3])
def test_a_driver_that_sends_no_velocity_arms_an_arm_that_stands(scene, speed):
    scene.guard.arm(scene.steady_s)
    for cycle in range(2):
        assert scene.guard.arming
        scene.slot += 1
        scene.guard.measured(ARM.home + 0.01 * speed * cycle, None, scene.ros_ns, scene.steady_s)
    assert scene.guard.state is (State.DISARMED if speed else State.HOLDING)
    assert ("moves at 0.300" in scene.guard.reason) == bool(speed)


def test_it_says_how_long_the_way_to_rest_is(scene):
    assert scene.guard.cycles_to_rest == 0
    scene.arm()
    scene.plan()
    scene.tick(20)
    left = scene.guard.cycles_to_rest
    scene.guard.finish("over")
    scene.tick(left - 1)
    assert not scene.guard.silent
    scene.tick(2)
    assert scene.guard.silent and left > 3


def test_another_commander_means_hold(scene):
    scene.arm()
    scene.tick(2)
    scene.plan(seconds=5.0)
    scene.tick(20)
    scene.guard.forbid("1 other publisher")
    scene.tick(60)
    assert scene.guard.state is State.HOLDING and scene.guard.reason == "1 other publisher"
    scene.guard.forbid("")
    scene.plan()
    scene.tick(2)
    assert scene.guard.state is State.TRACKING
    scene.check_limits()


def test_late_cycles_continue_the_braking_trajectory(scene):
    rng = np.random.default_rng(3)
    scene.arm()
    scene.tick(2)
    for index in range(2_000):
        if index % 15 == 0:
            scene.plan(speed=float(rng.normal(0.0, 0.8)))
        scene.tick(slots=int(rng.integers(2, 40)) if rng.random() < 0.1 else 1)
    scene.check_limits()
    assert scene.guard.counts.missed_cycles > 100
    # No slot between the first and the last is left without a set point.
    assert len(executed(scene.commands)) >= scene.commands[-1][0] - scene.commands[0][0]


def test_a_second_cycle_in_the_same_slot_sends_nothing(scene):
    scene.arm()
    scene.tick(3)
    assert scene.guard.cycle(scene.slot, scene.steady_s) is None


def test_a_clock_that_jumps_ends_in_a_smooth_stop_disarmed(scene):
    scene.arm()
    scene.tick(2)
    scene.plan(seconds=5.0)
    scene.tick(20)
    jump, before, steady_s = -100_000, len(scene.commands), scene.steady_s
    scene.guard.clock_jumped(jump)
    for cycle in range(1, 80):
        scene.slot += 1
        scene.guard.measured(scene.position, STILL, scene.ros_ns, steady_s + 0.01 * cycle)
        command = scene.guard.cycle(scene.slot + jump, steady_s + 0.01 * cycle)
        if command is not None:
            # In the old time, so that the stream can be judged as a whole.
            scene.commands.append((command.slot - jump, command.braking.positions))
    assert len(scene.commands) > before
    assert scene.guard.state is State.DISARMED and scene.guard.reason == "ROS time jumped"
    scene.check_limits()


def test_the_grid_follows_drift_by_whole_slots_and_reports_jumps():
    grid = Grid(steady_ns=1_000, ros_ns=50 * CYCLE_NS)
    assert grid.slot(1_000) == 50
    assert grid.slot(1_000 + 9 * CYCLE_NS // 10) == 50
    assert grid.slot(1_000 + CYCLE_NS - 100_000) == 51  # a timer that fires a little early belongs to the next slot
    assert grid.follow(1_000, 50 * CYCLE_NS + CYCLE_NS // 2) == 0
    assert grid.slot(1_000) == 50
    assert grid.follow(1_000, 51 * CYCLE_NS + 1) == 0
    assert grid.slot(1_000) == 51
    assert grid.follow(1_000, 1_051 * CYCLE_NS) == 1_000
    assert grid.slot(1_000) == 1_051
