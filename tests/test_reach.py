"""Reach bounds what joint motion does to distances, and the tool frame is where the other parts say it is; PyBullet and finite differences judge."""

from __future__ import annotations

import numpy as np
import pytest
from latent_mpc.oracle import FAR_M, ROUNDING_M, Oracle

from arm_model import EMPTY, CollisionModel, Kinematics, UnreachableError, load_arm, read_scene
from arm_model.reach import Reach
from arm_model.tool_frame import ToolFrame

ARMS = ("panda_stick", "franka_panda", "kuka_iiwa", "xarm6", "ur5e")
SCENE = read_scene("[{name: wall, box: [0.1, 1.6, 1.0], xyz: [0.6, 0.0, 0.5]}, {name: ball, sphere: 0.1, xyz: [0.2, 0.4, 0.6]}]")


@pytest.mark.parametrize("name", ARMS)
def test_no_distance_changes_faster_than_reach_allows(name):
    arm, rng = load_arm(name), np.random.default_rng(0)
    pairs, oracle = CollisionModel(arm, SCENE).pairs, Oracle(arm, SCENE)
    reach = Reach(arm).of_pairs(pairs)
    tightest = 0.0
    for _ in range(25):
        q = rng.uniform(arm.limits.lower, arm.limits.upper)
        moved = q + rng.normal(0.0, 0.1, q.size) * (rng.random(q.size) < 0.4)
        oracle.stand(q)
        before = oracle.distances(pairs)
        oracle.stand(moved)
        after = oracle.distances(pairs)
        bound = reach @ np.abs(moved - q)
        seen = (before < FAR_M) & (after < FAR_M) & (np.minimum(before, after) > 0)
        assert (np.abs(after - before) <= bound + 1e-4)[seen].all()
        moving = seen & (bound > 0.01)
        tightest = max([tightest, *(np.abs(after - before)[moving] / bound[moving])])
    assert tightest > 0.2, "a bound that loose says nothing"
    oracle.close()


def test_joints_that_carry_both_links_do_not_count():
    arm = load_arm()
    (row,) = Reach(arm).of_pairs([("panda_link5", "panda_hand")])
    assert (row[:5] == 0).all() and (row[5:] > 0).all()
    (against_a_wall,) = Reach(arm).of_pairs([("panda_link5", "wall")])
    assert (against_a_wall[:5] > 0).all() and (against_a_wall[5:] == 0).all()


@pytest.mark.parametrize("name", ARMS)
def test_the_tool_is_where_pybullet_has_it_and_its_jacobian_is_the_derivative(name):
    arm, rng = load_arm(name), np.random.default_rng(1)
    tool, oracle, reach = ToolFrame(arm), Oracle(arm, EMPTY), Reach(arm).of_frame(arm.tool_frame)
    for _ in range(10):
        q = rng.uniform(arm.limits.lower, arm.limits.upper)
        oracle.stand(q)
        assert tool.point(q) == pytest.approx(oracle.tool_point(), abs=1e-6)
        steps = 1e-6 * np.eye(q.size)
        differences = np.array([(tool.point(q + step) - tool.point(q - step)) / 2e-6 for step in steps]).T
        assert tool.jacobian(q) == pytest.approx(differences, abs=1e-6)
        assert (np.linalg.norm(tool.jacobian(q), axis=0) <= reach + 1e-9).all()
    oracle.close()


def test_the_tool_frame_agrees_with_the_kinematics():
    arm = load_arm()
    assert ToolFrame(arm).point(arm.home) == pytest.approx(Kinematics(arm).tool_point(arm.home))
    with pytest.raises(UnreachableError):
        Kinematics(arm).solve(np.array([3.0, 0.0, 0.0]))


def test_the_oracle_rounds_by_what_it_says():
    arm = load_arm()
    model, oracle, rng = CollisionModel(arm, SCENE), Oracle(arm, SCENE), np.random.default_rng(2)
    compared = 0
    for _ in range(30):
        q = rng.uniform(arm.limits.lower, arm.limits.upper)
        oracle.stand(q)
        exact, seen = model.distances(q), oracle.distances(model.pairs)
        apart = (exact > ROUNDING_M) & (seen < FAR_M)
        compared += int(apart.sum())
        assert ((exact - seen)[apart] < ROUNDING_M + 1e-4).all() and ((exact - seen)[apart] > -1e-4).all()
    assert compared > 100
    oracle.close()
