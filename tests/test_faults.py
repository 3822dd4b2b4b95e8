"""The fault suite: its scenarios, its saboteur, its results, and a few live runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from bag_writing import START_NS, trajectory
from conftest import REPOSITORY
from latent_mpc.bag import TYPES
from latent_mpc.cli import run
from latent_mpc.faults_checks import CHECKS
from latent_mpc.faults_evidence import Finding
from latent_mpc.faults_fuzz import malformed
from latent_mpc.faults_plans import MOTIONS, motion_at
from latent_mpc.faults_rows import ROWS
from latent_mpc.faults_scenario import ScenarioError, parse_scenario, read_scenario

from arm_model import load_arm

ARM = load_arm()
T0 = START_NS
LIMITED = {"name": "x", "row": "e-stop", "checks": {"limits": 0}}


# Scenarios.


def test_every_row_of_the_table_has_a_scenario_and_every_check_is_used():
    shipped = [read_scenario(file, CHECKS) for file in sorted((REPOSITORY / "benchmarks" / "faults").glob("*.yaml"))]
    assert {scenario.row for scenario in shipped} == set(ROWS)
    assert {check for scenario in shipped for check in scenario.checks} == set(CHECKS)
    assert all("alive" in scenario.checks for scenario in shipped)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"faults": [{"kind": "sillence", "target": "plan"}]}, "unknown fault 'sillence'; did you mean 'silence'?"),
        ({"faults": [{"kind": "encoding", "target": "plan"}]}, "fault 'encoding' cannot be done to 'plan'; it takes camera"),
        ({"faults": [{"kind": "rival", "target": "plan"}]}, "it takes no target"),
        ({"faults": [{"kind": "silence", "target": "plan", "at_s": -1.0}]}, "at_s of 'silence' is -1.0, must not be negative"),
        ({"faults": [{"kind": "silence", "target": "plan", "for_s": float("nan")}]}, "must be a finite number"),
        ({"faults": [{"kind": "drop", "target": "plan", "amount": 1.5}]}, "must be a share in"),
        ({"faults": [{"kind": "silence", "target": "plan", "how": 1}]}, "unknown key of a fault 'how'"),
        ({"faults": ["silence"]}, "a fault must be a mapping"),
        ({"checks": {"brakingwithin_ms": 1}}, "unknown check 'brakingwithin_ms'; did you mean 'braking_within_ms'?"),
        ({"checks": {"limits": -1}}, "bar of 'limits' is -1, must not be negative"),
        ({"checks": ["limits"]}, "checks must map"),
        ({"row": "gremlins"}, "unknown row 'gremlins'"),
        ({"arm": "lego"}, "unknown arm 'lego'"),
        ({"planner": "real"}, "set arm: sim"),
        ({"repeats": 0}, "repeats is 0"),
        ({"window_s": 0}, "window_s is 0, must be positive"),
        ({"nmae": "x"}, "unknown key 'nmae'; did you mean 'name'?"),
        ({"name": ""}, "missing name"),
    ],
)
def test_a_bad_scenario_is_refused_in_one_line(tmp_path, change, reason):
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump({**LIMITED, **change}))
    with pytest.raises(ScenarioError) as refused:
        read_scenario(file, CHECKS)
    assert reason in str(refused.value) and str(file) in str(refused.value) and "\n" not in str(refused.value)


def test_the_command_refuses_unknown_scenarios_and_pages_without_markers(tmp_path, capsys):
    assert run(["faults", "--scenario", "gremlins", "--out", str(tmp_path / "out")]) == 2
    assert "no scenario 'gremlins'" in capsys.readouterr().err
    (tmp_path / "page.md").write_text("nothing")
    assert run(["faults", "--page", str(tmp_path / "page.md")]) == 2
    assert not (tmp_path / "out").exists()


def test_results_are_added_to_those_of_other_scenarios_and_unmet_ones_are_bold(tmp_path):
    from latent_mpc.faults import Result, table, with_earlier
    from latent_mpc.json_file import write_json

    def result(name, met):
        return Result(parse_scenario({**LIMITED, "name": name}, CHECKS), {"limits": Finding(f"{name} measured", met)}, 1.0)

    file = tmp_path / "faults.json"
    write_json(file, {"scenarios": with_earlier([result("a", True), result("b", True)], file)})
    entries = with_earlier([result("b", False)], file)
    assert [(entry["name"], entry["met"]) for entry in entries] == [("a", True), ("b", False)]
    (line,) = [line for line in table(entries).splitlines() if line.startswith("| e-stop |")]
    assert line.endswith("*a*: a measured<br>*b*: **b measured** | **no** |")
    assert "not run" in table([]) and "**no**" not in table(entries[:1])
    file.write_text("[]")
    with pytest.raises(ScenarioError, match="holds no results"):
        with_earlier([], file)


# The saboteur's tools.


@pytest.mark.parametrize("motion", MOTIONS)
def test_planned_velocities_are_those_of_the_planned_positions(motion):
    times = np.linspace(0.0, 7.0, 50)
    _, velocities = motion_at(motion, ARM.home, times)
    step = 1e-6
    differences = (motion_at(motion, ARM.home, times + step)[0] - motion_at(motion, ARM.home, times - step)[0]) / (2 * step)
    assert np.abs(differences - velocities).max() < 1e-6
    assert np.abs(velocities).max() > 0.1


def test_fuzzed_payloads_are_no_messages():
    payload = bytes(TYPES.serialize_cdr(trajectory(T0, np.zeros((5, 2)), np.zeros((5, 2))), "trajectory_msgs/msg/JointTrajectory"))
    made = list(itertools.islice(malformed(lambda: payload, "trajectory_msgs/msg/JointTrajectory", np.random.default_rng(0)), 200))
    assert len(set(made)) > 150
    for candidate in made:
        with pytest.raises(Exception):  # noqa: B017
            TYPES.deserialize_cdr(candidate, "trajectory_msgs/msg/JointTrajectory")
    # What a middleware leaves behind the last value does not make a message malformed.
    padded = malformed(lambda: payload + b"\0" * 8, "trajectory_msgs/msg/JointTrajectory", np.random.default_rng(0))
    assert not any(candidate.rstrip(b"\0") == payload.rstrip(b"\0") for candidate in itertools.islice(padded, 200))


def joint_messages():
    from std_msgs.msg import Header

    from ros_bridge.joints import Trajectory, joint_state_message, trajectory_message

    times = np.arange(0.0, 0.5, 0.05)
    positions, velocities = motion_at("sway", ARM.home, times)
    plan = trajectory_message(Trajectory(T0, times, positions, velocities), ARM.joints)
    return joint_state_message(ARM.joints, ARM.home, 0.1 * ARM.home, Header()), plan


@pytest.mark.parametrize("kind", ["non_finite", "rename", "missing_joint", "duplicate_name", "wrong_length", "reversed_time"])
def test_a_corrupted_joint_message_is_one_that_the_bridge_refuses(kind):
    state, plan = joint_messages()
    from latent_mpc.faults_corruptions import CORRUPTIONS, Draw

    from ros_bridge.joints import JointError, read_joint_state, read_trajectory

    draw = Draw(np.random.default_rng(1))
    CORRUPTIONS[kind](plan, draw)
    with pytest.raises(JointError):
        read_trajectory(plan, ARM.joints)
    if kind != "reversed_time":
        CORRUPTIONS[kind](state, draw)
        with pytest.raises(JointError):
            read_joint_state(state, ARM.joints)


def test_harmless_corruptions_change_the_form_only():
    state, plan = joint_messages()
    from latent_mpc.faults_corruptions import CORRUPTIONS, Draw

    from ros_bridge.joints import read_joint_state, read_trajectory

    draw = Draw(np.random.default_rng(3))
    before = read_trajectory(plan, ARM.joints)
    CORRUPTIONS["reorder"](plan, draw)
    assert list(plan.joint_names) != list(ARM.joints)
    assert np.array_equal(read_trajectory(plan, ARM.joints).positions, before.positions)
    CORRUPTIONS["reorder"](state, draw)
    CORRUPTIONS["extra_joint"](state, draw)
    assert len(state.name) == 8 and state.name[0] == "gripper"
    assert np.array_equal(read_joint_state(state, ARM.joints).position, ARM.home)
    CORRUPTIONS["offset"](state, Draw(draw.rng, 0.3))
    assert read_joint_state(state, ARM.joints).position == pytest.approx(ARM.home + 0.3)


@pytest.mark.parametrize("kind", ["encoding", "size", "step", "endianness"])
def test_a_corrupted_picture_is_one_that_the_bridge_refuses(kind):
    from latent_mpc.faults_corruptions import CORRUPTIONS, Draw
    from std_msgs.msg import Header

    from ros_bridge.images import ImageError, array_to_image, image_to_array

    for seed in range(8):
        picture = array_to_image(np.zeros((8, 6, 3), np.uint8), Header())
        CORRUPTIONS[kind](picture, Draw(np.random.default_rng(seed)))
        with pytest.raises(ImageError):
            image_to_array(picture)


def test_hostile_plans_are_of_all_kinds_and_some_are_accepted():
    from ros_bridge.joints import JointError, read_trajectory

    refused, extent = 0, 0.0
    for seed in range(200):
        _, plan = joint_messages()
        from latent_mpc.faults_corruptions import CORRUPTIONS, Draw

        CORRUPTIONS["hostile"](plan, Draw(np.random.default_rng(seed)))
        try:
            extent = max(extent, float(np.abs(read_trajectory(plan, ARM.joints).positions).max()))
        except JointError:
            refused += 1
    assert 50 < refused < 150 and extent > 1e200


# Live: the shipped guardrail over DDS.


def live(tmp_path, window_s=5.0, **content):
    """What happens belongs to the fault for ``window_s``: long enough for statuses that a busy machine brings late."""
    from latent_mpc.faults import judge_again, run_faults, table
    from latent_mpc.json_file import write_json

    scenario = parse_scenario({"name": "live", "window_s": window_s, **content}, CHECKS)
    (result,) = run_faults([scenario], tmp_path / "out")
    assert not result.broken, result.broken
    assert scenario.row in table([result.to_json()])
    (again,) = judge_again([scenario], tmp_path / "out")
    assert {**again.to_json(), "seconds": 0} == {**result.to_json(), "seconds": 0}, "judged again from what was left behind"
    write_json(tmp_path / "faults.json", result.to_json())
    return {name: finding.met for name, finding in result.findings.items()}, result


def test_live_a_killed_planner_is_survived_by_a_guardrail_that_goes_on(tmp_path):
    checks = {"braking_within_ms": 5000, "rest_within_ms": 5000, "limits": 0, "alive": 0, "rearmed": 1}
    faults = [{"kind": "kill", "target": "faults_planner"}]
    # How soon it is missed is judged elsewhere; here the arm must move when it happens, on a machine that makes everybody late.
    patient = {"guardrail_node": {"joint_timeout_s": 0.5, "planner_lease_s": 0.5, "plan_timeout_s": 1.0}}
    met, result = live(tmp_path, row="planner or driver killed", faults=faults, checks=checks, parameters=patient)
    assert all(met.values()), result.to_json()
    assert result.to_json()["met"] and (tmp_path / "out" / "live" / "0" / "bag" / "metadata.yaml").is_file()


def test_live_joints_in_another_form_do_no_harm_and_an_e_stop_latches(tmp_path):
    faults = [
        {"kind": "reorder", "target": "joint_states", "for_s": 3.0},
        {"kind": "extra_joint", "target": "joint_states", "for_s": 3.0},
        {"kind": "e_stop", "at_s": 2.0, "for_s": 0.6},
    ]
    checks = {"reaches": "STOPPED", "silent_when_stopped": 0, "arm_refused": 1, "limits": 0, "alive": 0, "rearmed": 1, "cycles": 30}
    met, result = live(tmp_path, row="e-stop", faults=faults, checks=checks)
    assert all(met.values()), result.to_json()


def test_live_a_guardrail_that_waits_too_long_is_found_out(tmp_path):
    """The bar as shipped, a silence of five times what is shipped to be borne, and a guardrail that bears a second of it: the suite must say so."""
    checks = {"braking_within_ms": 60, "reason": "no joint states", "limits": 0, "alive": 0}
    faults = [{"kind": "silence", "target": "joint_states", "for_s": 0.2}]
    # Nothing but silence of the joint states is to make it brake.
    weak = {"guardrail_node": {"joint_timeout_s": 1.0, "planner_lease_s": 0.0, "plan_timeout_s": 1.0}}
    met, result = live(tmp_path, 1.2, row="joint states lost", faults=faults, checks=checks, parameters=weak, recover=False)
    assert met == {"braking_within_ms": False, "reason": False, "limits": True, "alive": True}, result.to_json()
