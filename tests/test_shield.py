"""The shield against targets that want to break the arm, judged by finite differences of what it emitted."""

from __future__ import annotations

import numpy as np
import pytest
from executed_stream import NONE, executed, violations

from arm_model import load_arm
from planner_node.shield import Motion, Shield, ShieldConfig, ShieldError

ARM = load_arm()
LIMITS = ARM.limits.scaled(0.5, 0.9, 0.5, margin=0.02)
# So little jerk that its limit binds over several cycles; at half of the URDF's a jerk phase is shorter than one.
GENTLE = ARM.limits.scaled(0.5, 0.9, 0.02, margin=0.02)
JOINTS = len(ARM.joints)


def adversarial_target(rng, limits):
    """Random, extreme, outward at the limits, huge, or not finite."""
    position = rng.uniform(limits.lower - 1.0, limits.upper + 1.0)
    velocity, acceleration = rng.normal(0.0, 3.0, JOINTS), rng.normal(0.0, 10.0, JOINTS)
    match int(rng.integers(7)):
        case 0:
            position = np.where(rng.random(JOINTS) < 0.5, limits.lower, limits.upper)
        case 1:
            position[rng.integers(JOINTS)] = rng.choice([np.nan, np.inf, -np.inf])
        case 2:
            position = position * 1e300
        case 3:
            outward = np.sign(velocity)
            velocity, acceleration = outward * limits.velocity, outward * limits.acceleration
            position = np.where(outward > 0, limits.upper, limits.lower) - outward * 1e-3
        case 4:
            velocity[rng.integers(JOINTS)] = rng.choice([np.nan, 1e308])
        case 5:
            position, velocity, acceleration = np.array(ARM.home), np.zeros(JOINTS), np.zeros(JOINTS)
    return Motion(position, velocity, acceleration)


def run(limits, cycles, seed, late_share):
    """Commands of ``cycles`` cycles, of which ``late_share`` come up to 29 slots late; targets last from one cycle to 6 s."""
    rng = np.random.default_rng(seed)
    shield = Shield(ShieldConfig(limits))
    braking, slot, until, target, interventions = shield.hold(ARM.home), 0, 0, None, 0
    commands = [(slot, braking.positions)]
    for cycle in range(cycles):
        if cycle >= until:
            target, until = adversarial_target(rng, limits), cycle + int(rng.integers(1, 10) if rng.random() < 0.5 else rng.integers(100, 600))
        elapsed = int(rng.integers(2, 30)) if rng.random() < late_share else 1
        step = shield.follow(braking, elapsed, target)
        braking, slot = step.braking, slot + elapsed
        interventions += step.intervened
        commands.append((slot, braking.positions))
    return commands, interventions


@pytest.mark.parametrize(
    ("limits", "late_share", "cycles"), [(LIMITS, 0.0, 10_000), (GENTLE, 0.0, 5_000), (LIMITS, 0.1, 5_000), (GENTLE, 0.1, 5_000)]
)
def test_nothing_that_is_executed_breaks_a_limit(limits, late_share, cycles):
    commands, interventions = run(limits, cycles, seed=1, late_share=late_share)
    positions = executed(commands)
    assert violations(positions, limits) == NONE
    assert interventions > 0, "the targets were not adversarial enough to make the shield brake"
    reached = np.minimum(positions - limits.lower, limits.upper - positions).min(axis=0)
    assert (reached < 0.05).sum() > JOINTS // 2, "the targets did not drive the joints to their limits"


@pytest.mark.parametrize("limits", [LIMITS, GENTLE])
def test_every_stop_that_is_published_keeps_the_limits_to_its_end(limits):
    commands, _ = run(limits, 1_500, seed=2, late_share=0.05)
    for silent_after in range(1, len(commands), 20):
        positions = executed(commands[:silent_after])
        assert violations(positions, limits) == NONE
        assert violations(np.vstack([positions, np.repeat(positions[-1:], 3, axis=0)]), limits) == NONE, "the stop does not end at rest"


def test_a_reachable_moving_target_is_met_exactly():
    shield = Shield(ShieldConfig(LIMITS))
    braking = shield.hold(ARM.home)

    def wave(cycle):
        # Amplitude and frequency stay inside the limits, and it starts at rest.
        t, w = cycle * 0.01, 2.0
        a = 0.1
        return Motion(ARM.home + a * (1 - np.cos(w * t)), np.full(JOINTS, a * w * np.sin(w * t)), np.full(JOINTS, a * w * w * np.cos(w * t)))

    errors = []
    for cycle in range(1, 500):
        step = shield.follow(braking, 1, wave(cycle))
        assert not step.intervened
        braking = step.braking
        errors.append(np.abs(braking.positions[0] - wave(cycle).position).max())
    assert max(errors[20:]) < 1e-3


def test_a_target_that_is_not_finite_is_braked_for():
    shield = Shield(ShieldConfig(LIMITS))
    braking = shield.hold(ARM.home)
    zero = np.zeros(JOINTS)
    for _ in range(30):
        braking = shield.follow(braking, 1, Motion(ARM.home + 0.5, zero, zero)).braking
    assert not braking.at_rest
    step = shield.follow(braking, 1, Motion(np.full(JOINTS, np.nan), zero, zero))
    assert step.intervened and "finite" in step.reason
    assert np.array_equal(step.braking.positions, braking.positions[1:])


def test_a_start_outside_the_limits_is_refused_with_the_joint_named():
    shield = Shield(ShieldConfig(LIMITS))
    outside = ARM.home.copy()
    outside[3] = LIMITS.upper[3] + 0.001
    with pytest.raises(ShieldError, match="panda_joint4"):
        shield.hold(outside)
    with pytest.raises(ShieldError):
        shield.hold(np.full(JOINTS, np.nan))
    with pytest.raises(ShieldError):
        ShieldConfig(LIMITS, cycle_s=float("nan"))
