"""The shield amid obstacles, against targets that lead into them; judged in closed form on every set point and on every promised stop."""

from __future__ import annotations

import numpy as np
import pytest
from executed_stream import NONE, executed, violations
from hypothesis import given, settings
from hypothesis import strategies as st
from spheres import ARM, REACH, TOOL, Balls

from arm_model import Kinematics
from planner_node.barrier import Barrier, BarrierConfig
from planner_node.clearance import AllMargins, CollisionMargins, WorkspaceMargins
from planner_node.shield import Motion, Shield, ShieldConfig, ShieldError
from planner_node.stop_check import SpeedLimit
from planner_node.surroundings import Steering, Surroundings
from planner_node.workspace import read_workspace

LIMITS = ARM.limits.scaled(0.5, 0.95, 0.5, margin=0.02)
MARGIN = 0.01
STILL = np.zeros(ARM.home.size)
KINEMATICS = Kinematics(ARM)


def surroundings(balls, workspace="", tool_speed=0.0):
    sources = [CollisionMargins(balls, balls.reach, MARGIN)]
    if workspace:
        sources.append(WorkspaceMargins(TOOL, REACH, read_workspace(workspace)))
    speed = SpeedLimit(TOOL, REACH, tool_speed) if tool_speed else None
    return Surroundings(AllMargins(sources, ARM.home.size), Barrier(BarrierConfig(), LIMITS), LIMITS, 0.01, speed)


def tools(positions):
    return np.array([TOOL.point(q) for q in positions])


def run(shield, target_of, cycles, start=ARM.home, late=None):
    """Commands of ``cycles`` cycles towards ``target_of(cycle)``, and the steps that were taken."""
    braking, slot, commands, steps = shield.hold(start), 0, [], []
    commands.append((slot, braking.positions))
    for cycle in range(cycles):
        elapsed = int(late.integers(2, 30)) if late is not None and late.random() < 0.1 else 1
        step = shield.follow(braking, elapsed, target_of(cycle))
        braking, slot = step.braking, slot + elapsed
        commands.append((slot, braking.positions))
        steps.append(step)
    return commands, steps


def hostile(seed):
    """160 cycles amid balls, in a box, at limited speed, some of them late; what came out is judged here, what the shield did is returned."""
    rng = np.random.default_rng(seed)
    home = TOOL.point(ARM.home)
    away = rng.normal(size=(4, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    balls = Balls(*[(home + 0.15 * direction, 0.08) for direction in away])
    low, high = (home - 0.25).tolist(), (home + 0.25).tolist()
    shield = Shield(ShieldConfig(LIMITS), surroundings(balls, f"{{min: {low}, max: {high}}}", tool_speed=0.6))

    def target(cycle):
        # Into a ball, past it, out of the box, or anywhere; a new one every 40 cycles.
        mood = np.random.default_rng([seed, cycle // 40])
        position = ARM.home + mood.normal(0.0, 0.6, STILL.size) if mood.random() < 0.8 else mood.uniform(LIMITS.lower, LIMITS.upper)
        return Motion(position, mood.normal(0.0, 1.0, STILL.size), mood.normal(0.0, 5.0, STILL.size))

    commands, steps = run(shield, target, 160, late=rng)
    stream = executed(commands)
    assert violations(stream, LIMITS) == NONE
    points = tools(stream)
    margins = np.linalg.norm(points[:, None] - balls.centres, axis=2) - balls.radii - MARGIN
    assert margins.min() >= -1e-9
    assert (points >= np.array(low) - 1e-9).all() and (points <= np.array(high) + 1e-9).all()
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() <= 0.006 * (1 + 1e-9)
    for _, promised in commands[::7]:
        stop = tools(promised)
        assert (np.linalg.norm(stop[:, None] - balls.centres, axis=2) - balls.radii).min() >= MARGIN - 1e-9
    return steps


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_whatever_the_target_every_set_point_and_every_stop_keeps_every_margin(seed):
    hostile(seed)


def test_its_targets_are_hostile():
    steps = [step for seed in range(3) for step in hostile(seed)]
    assert any(step.intervened for step in steps) and sum(step.filtered for step in steps) > 10


def crossing(filtered):
    """From one side of a ball to the other, 2 cm off its centre line, with or without the filter."""
    start, goal = np.array([0.5, -0.2, 0.2]), np.array([0.5, 0.25, 0.2])
    balls = Balls(((0.5, 0.02, 0.18), 0.05))
    around = surroundings(balls)
    if not filtered:
        around.steer = lambda *_: Steering()
    waypoints = [KINEMATICS.solve(start)]
    for share in np.linspace(0.0, 1.0, 226)[1:]:
        waypoints.append(KINEMATICS.solve(start + share * (goal - start), waypoints[-1]))
    joints = np.array(waypoints)
    speeds = np.gradient(joints, 0.01, axis=0)

    def target(cycle):
        index = min(cycle + 1, len(joints) - 1)
        return Motion(joints[index], speeds[index] if index < len(joints) - 1 else STILL, STILL)

    commands, steps = run(Shield(ShieldConfig(LIMITS), around), target, 450, start=joints[0])
    points = tools(executed(commands))
    assert (np.linalg.norm(points - balls.centres[0], axis=1) - balls.radii[0]).min() >= MARGIN - 1e-9
    return np.linalg.norm(points[-1] - goal), steps


def test_the_arm_slides_around_what_would_stop_it_dead():
    left, steps = crossing(filtered=True)
    assert left < 2e-3
    assert sum(step.filtered for step in steps) > 20 and sum(step.unanswered for step in steps) == 0
    stopped, _ = crossing(filtered=False)
    assert stopped > 0.15, "without the filter it was to be stopped"


def test_a_slow_arm_between_two_walls_does_not_stick():
    """With little jerk each joint would start and stop at its own pace, which is not along the wall: joints that move together go on."""
    gentle = ARM.limits.scaled(0.5, 0.5, 0.02, margin=0.02)
    home = TOOL.point(ARM.home)
    half = np.array([0.012, 0.3, 0.1])
    low, high = (home - half).tolist(), (home + half).tolist()
    source = AllMargins([WorkspaceMargins(TOOL, REACH, read_workspace(f"{{min: {low}, max: {high}}}"))], ARM.home.size)
    shield = Shield(ShieldConfig(gentle), Surroundings(source, Barrier(BarrierConfig(), gentle), gentle, 0.01))
    aside = KINEMATICS.solve(home + np.array([0.08, 0.2, 0.0]), ARM.home)
    commands, steps = run(shield, lambda cycle: Motion(aside, STILL, STILL), 600)
    end = commands[-1][1][0]
    assert min(source.margins(q).min() for q in executed(commands)) >= -1e-9
    # It ends where the filter's program says: at the buffer, at rest, and not short of it in the wall's direction.
    assert source.margins(end).min() == pytest.approx(BarrierConfig().buffer_m, abs=1e-4)
    assert TOOL.point(end)[1] > home[1] + 0.2 and np.abs(np.diff(executed(commands)[-20:], axis=0)).max() < 1e-6
    assert not any(step.intervened for step in steps[-100:]), "it sticks"


def test_far_from_everything_the_motion_is_that_of_the_bare_shield():
    balls = Balls(((0.0, 0.0, 2.0), 0.1))
    targets = [Motion(ARM.home + 0.1 * np.sin(0.02 * cycle), STILL + 0.2 * np.cos(0.02 * cycle), STILL) for cycle in range(200)]
    amid, _ = run(Shield(ShieldConfig(LIMITS), surroundings(balls)), targets.__getitem__, 200)
    alone, _ = run(Shield(ShieldConfig(LIMITS)), targets.__getitem__, 200)
    assert np.array_equal(executed(amid), executed(alone))
    assert balls.asked < 20


def test_an_arm_that_is_too_close_is_not_armed_and_told_to_what():
    home = TOOL.point(ARM.home)
    shield = Shield(ShieldConfig(LIMITS), surroundings(Balls((home + np.array([0.0, 0.0, 0.055]), 0.05))))
    with pytest.raises(ShieldError, match=r"tool and ball 0 are 5\.0 mm closer than their margin"):
        shield.hold(ARM.home)


def test_a_filter_without_an_answer_follows_the_promised_stop():
    home = TOOL.point(ARM.home)
    around = surroundings(Balls((home + np.array([0.0, 0.1, 0.0]), 0.05)))
    shield = Shield(ShieldConfig(LIMITS), around)
    target = Motion(KINEMATICS.solve(home + np.array([0.0, 0.1, 0.0])), STILL, STILL)
    braking = shield.hold(ARM.home)
    for _ in range(12):
        braking = shield.follow(braking, 1, target).braking
    around._barrier.filtered = lambda *_: None
    for _ in range(40):
        step = shield.follow(braking, 1, target)
        if step.unanswered:
            break
        braking = step.braking
    assert step.unanswered and step.intervened and "keeps away" in step.reason
    assert np.array_equal(step.braking.positions, braking.after(1).positions)
