"""The barrier filter's quadratic program, against every active set tried one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arm_model import JointLimits
from planner_node.barrier import Barrier, BarrierConfig

ONE = np.ones(3)
LIMITS = JointLimits(("a", "b", "c"), -2.0 * ONE, 2.0 * ONE, ONE, 10.0 * ONE, 100.0 * ONE)


def by_enumeration(wished, rows, floor):
    """min ||v - wished||^2 with rows @ v >= floor: the feasible point closest to ``wished`` among the solutions of all active sets; None if none."""
    best = None
    for count in range(len(wished) + 1):
        for active in itertools.combinations(range(len(rows)), count):
            a, b = rows[list(active)], floor[list(active)]
            v = wished + np.linalg.pinv(a) @ (b - a @ wished) if count else wished
            if (rows @ v >= floor - 1e-7).all() and (best is None or np.linalg.norm(v - wished) < np.linalg.norm(best - wished)):
                best = v
    return best


def problem(seed, near):
    rng = np.random.default_rng(seed)
    q = rng.uniform(-2.0, 2.0, 3)
    return rng.normal(0.0, 1.5, 3), q, rng.uniform(-0.01, 0.1, near), rng.normal(0.0, 0.5, (near, 3))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), near=st.integers(0, 4))
def test_it_is_the_closest_permitted_velocity(seed, near):
    barrier = Barrier(BarrierConfig(), LIMITS)
    wished, q, margins, gradients = problem(seed, near)
    velocity = barrier.filtered(wished, q, margins, gradients)
    gain = barrier.config.gain
    lower = np.maximum(-1.0, -gain * (q + 2.0))
    upper = np.minimum(1.0, gain * (2.0 - q))
    rows = np.concatenate([np.eye(3), -np.eye(3), gradients])
    floor = np.concatenate([lower, -upper, -gain * (margins - barrier.config.buffer_m)])
    expected = by_enumeration(wished, rows, floor)
    if velocity is None:
        assert expected is None
        return
    assert expected is not None
    assert velocity == pytest.approx(expected, abs=1e-4)
    # Karush, Kuhn and Tucker: v - wished is a combination of active rows with weights >= 0.
    active = rows[rows @ velocity <= floor + 1e-4]
    weights = np.linalg.lstsq(active.T, velocity - wished, rcond=None)[0] if len(active) else np.zeros(0)
    if len(active) <= 3:
        assert (weights >= -1e-3).all()
    assert (velocity - wished if not len(active) else velocity - wished - active.T @ weights) == pytest.approx(np.zeros(3), abs=1e-3)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), near=st.integers(1, 8))
def test_where_one_barrier_binds_no_solver_is_needed_and_it_would_say_the_same(seed, near):
    barrier, rng = Barrier(BarrierConfig(), LIMITS), np.random.default_rng(seed)
    q, wished, margins, gradients = rng.uniform(-1.0, 1.0, 3), rng.normal(0.0, 0.5, 3), rng.uniform(0.0, 0.1, near), rng.normal(0.0, 0.3, (near, 3))
    asked = []
    solved = barrier._solved
    barrier._solved = lambda *problem: asked.append(problem) or solved(*problem)
    velocity = barrier.filtered(wished, q, margins, gradients)
    expected = solved(wished, *barrier.box(q), barrier.floor(margins), gradients)
    if velocity is None:
        assert expected is None
        return
    assert velocity == pytest.approx(expected, abs=1e-9)
    permitted = (gradients @ wished >= barrier.floor(margins)).all() and (np.abs(wished) <= 1.0).all()
    if permitted or (near == 1 and (np.abs(velocity) < 1.0 - 1e-9).all()):
        assert not asked


def test_a_permitted_wish_is_granted():
    barrier = Barrier(BarrierConfig(), LIMITS)
    wish = np.array([0.1, -0.2, 0.3])
    assert barrier.filtered(wish, np.zeros(3), np.array([0.1]), np.array([[1.0, 0.0, 0.0]])) == pytest.approx(wish)
    assert barrier.filtered(wish, np.zeros(3), np.empty(0), np.empty((0, 3))) == pytest.approx(wish)


def test_what_leads_into_a_wall_is_bent_along_it():
    barrier = Barrier(BarrierConfig(buffer_m=0.0), LIMITS)
    bent = barrier.filtered(np.array([-0.5, 0.5, 0.0]), np.zeros(3), np.array([0.0]), np.array([[1.0, 0.0, 0.0]]))
    assert bent == pytest.approx(np.array([0.0, 0.5, 0.0]), abs=1e-6)


@pytest.mark.parametrize("where", ["wish", "margin", "gradient"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_answer_to_what_is_not_finite(where, value):
    barrier = Barrier(BarrierConfig(), LIMITS)
    wished, margins, gradients = np.zeros(3), np.array([0.02]), np.array([[1.0, 0.0, 0.0]])
    {"wish": wished, "margin": margins, "gradient": gradients[0]}[where][0] = value
    assert barrier.filtered(wished, np.zeros(3), margins, gradients) is None


def test_no_answer_where_there_is_none_or_not_in_time():
    wished, opposed = np.array([1.0, 0.0, 0.0]), np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    inside_both = np.array([-0.05, -0.05])
    assert Barrier(BarrierConfig(), LIMITS).filtered(wished, np.zeros(3), inside_both, opposed) is None
    # Two barriers at once are for the solver, which needs more than one iteration.
    corner = np.array([5.0, 5.0, 5.0]), np.zeros(3), np.array([0.0, 0.0]), np.array([[-1.0, -1.0, -1.0], [-1.0, 0.5, 0.0]])
    assert Barrier(BarrierConfig(iterations=1), LIMITS).filtered(*corner) is None
    assert Barrier(BarrierConfig(), LIMITS).filtered(*corner) is not None
    outside = np.array([2.5, 0.0, 0.0])
    assert Barrier(BarrierConfig(gain=50.0), LIMITS).filtered(wished, outside, np.empty(0), np.empty((0, 3))) is None
