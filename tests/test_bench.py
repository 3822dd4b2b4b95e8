"""The bench times real parts and counts what a stage must do at least."""

import numpy as np
import pytest
from latent_mpc.bench import Stage, bench, table, time_stages


def test_every_stage_is_timed_beside_the_roof_of_the_same_run():
    result = bench(_shipped("push"), "push-far", rounds=2, report=lambda done, total: None)
    assert result["machine"]["roof_gflops_fp32"] > 0 and result["machine"]["memcpy_gbps"] > 0 and result["machine"]["cores"] >= 1
    stages = {stage["name"]: stage for stage in result["stages"]}
    assert {
        "encode one frame",
        "plan: along the actor",
        "shield, one cycle",
        "shield and collision check, one cycle",
        "environment step with picture",
        "guardrail, 56 x 10: collision",
    } <= stages.keys()
    assert all(stage["ms"]["p99"] >= stage["ms"]["p50"] > 0 for stage in stages.values())
    rollout = stages["rollout, 64 candidates x 8 steps"]
    assert rollout["ratio_to_limit"] == pytest.approx(rollout["ms"]["p50"] / rollout["limit_ms"])
    assert stages["shield, one cycle"]["limit_ms"] is None
    assert all(rate > 0 for rate in result["frames_per_second"].values()) and len(result["frames_per_second"]) == 3
    assert "encode one frame" in table(result)


def test_stages_take_turns():
    order = []
    stages = [Stage("a", lambda: order.append("a")), Stage("b", lambda: order.append("b"))]
    times = time_stages(stages, 3, lambda done, total: None)
    assert order == ["a", "b"] * 4  # once to warm up
    assert {name: wall.shape for name, (wall, _) in times.items()} == {"a": (3,), "b": (3,)}
    assert all(np.all(wall >= 0) for wall, _ in times.values())


def _shipped(name):
    from latent_mpc.bringup import find_shared

    return find_shared(f"models/{name}")
