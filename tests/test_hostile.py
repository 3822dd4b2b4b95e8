"""The hostile planner: it finds nothing, and what judges it finds what is planted."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("trajectory_msgs")

from latent_mpc import hostile as trial
from latent_mpc.cli import run
from latent_mpc.hostile import HostileConfig, run_hostile, table
from latent_mpc.hostile_verdict import judge

from arm_model import Kinematics, load_arm, read_scene
from planner_node.workspace import read_workspace

CELL = "benchmarks/scenes/cell.yaml"
KINDS = {"non_finite", "position", "velocity", "acceleration", "jerk", "self_collision", "scene", "workspace", "tool_speed"}
ARM = load_arm()


def test_three_thousand_hostile_cycles_break_nothing(tmp_path):
    assert run(["hostile", "--cycles", "3000", "--seed", "1", "--scene", CELL, "--json", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result["violations"]) == KINDS and result["total"] == 0
    guard = {name: sum(part["guard"][name] for part in result["trials"]) for name in result["trials"][0]["guard"]}
    assert guard["interventions"] > 20 and guard["filtered"] > 50 and guard["missed_cycles"] > 20
    assert {"malformed", "non-finite", "reversed time"} <= {kind for part in result["trials"] for kind in part["refused"]}
    assert sum(part["joint_travel_rad"] for part in result["trials"]) > 20
    assert "0 violation(s)" in table(result)


@pytest.mark.parametrize("robot", ["franka_panda", "kuka_iiwa", "xarm6", "ur5e"])
def test_every_shipped_arm_holds_against_it(robot):
    assert run_hostile(HostileConfig(robot, cycles=300, scene=CELL))["total"] == 0


def test_a_shield_that_does_not_look_around_is_found_out(monkeypatch):
    monkeypatch.setattr(trial, "surroundings_of", lambda *_: None)
    violations = run_hostile(HostileConfig(cycles=1000, scene=CELL))["violations"]
    assert violations["scene"] > 0 and violations["workspace"] > 0 and violations["tool_speed"] > 0
    assert violations["position"] == violations["velocity"] == violations["acceleration"] == violations["jerk"] == 0


def verdict(stream, scene="", promises=(), every_point=True, workspace=""):
    return judge(
        HostileConfig(every_point=every_point), ARM, read_scene(scene), read_workspace(workspace), np.array(stream), list(promises)
    ).violations


def test_the_judge_finds_every_kind_of_violation():
    still = np.tile(ARM.home, (50, 1))
    assert not any(verdict(still).values())
    step = still.copy()
    step[25:] += 0.02
    assert verdict(step)["velocity"] == 0 < verdict(step)["acceleration"] < verdict(step)["jerk"]
    step[25:] += 0.1
    assert verdict(step)["velocity"] == ARM.home.size
    beyond = still.copy()
    beyond[:, 0] = ARM.limits.upper[0] + 1e-6
    assert verdict(beyond)["position"] == 50
    folded = still.copy()
    folded[:, 3] = ARM.limits.lower[3]
    folded[:, 5] = ARM.limits.upper[5]
    folded[:, 1] = ARM.limits.upper[1]
    assert verdict(folded)["self_collision"] > 0
    # Promises are judged as well: one that starts at rest and jumps.
    assert verdict(still, promises=[step[24:27]])["jerk"] > 0


@pytest.mark.parametrize("every_point", [True, False])
def test_the_judge_finds_a_way_through_a_thin_wall(every_point):
    kinematics, goal = Kinematics(ARM), np.array([0.5, -0.15, 0.3])
    way = [kinematics.solve(goal)]
    for y in np.linspace(-0.15, 0.15, 300):
        way.append(kinematics.solve(np.array([0.5, y, 0.3]), way[-1]))
    wall = "- {name: wall, box: [0.02, 0.002, 0.02], xyz: [0.5, 0.0, 0.3]}"
    found = verdict(way, wall, every_point=every_point, workspace="{max: [1.0, 0.1, 2.0]}")
    assert found["scene"] > 10 and found["workspace"] == pytest.approx(50, abs=2)
    assert found["self_collision"] == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--robot", "nobody"], "nobody"),
        (["--cycles", "0"], "cycles is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--tool-speed", "nan"], "tool speed is nan"),
        (["--margin", "-0.1"], "margin is -0.1"),
        (["--scene", "nowhere.yaml"], "nowhere.yaml"),
        (["--workspace", "{min: [1, 0, 0], max: [0, 1, 1]}"], "along x"),
        (["--workspace", "{min: [2, 2, 2]}", "--cycles", "10"], "cannot be armed"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, reason, capsys):
    assert run(["hostile", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert reason in message and len([line for line in message.splitlines() if "error" in line]) == 1
