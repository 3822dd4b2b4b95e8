"""``latent-mpc check`` against a double of an arm: a clean set-up passes wholly, every mistake is found, and none is invented."""

from __future__ import annotations

import dataclasses
import json
import threading

import pytest

pytest.importorskip("rclpy")

import rclpy
from latent_mpc.commissioning.check import check
from latent_mpc.commissioning.double_guardrail import GuardrailDouble
from latent_mpc.commissioning.double_node import DoubleNode, DoubleParameters
from latent_mpc.commissioning.findings import Verdict, failures, report, table
from latent_mpc.commissioning.mistakes import HIDING, MISTAKES
from latent_mpc.commissioning.observer import Observer, objection
from latent_mpc.commissioning.robot_setup import Camera, CommandTopic, Driver, JointStates, RobotSetup
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from arm_model import load_arm
from world_model.bundle import read_manifest

ARM = load_arm("panda_stick")
SETUP = RobotSetup(
    name="rehearsal",
    arm="panda_stick",
    joints=ARM.joints,
    driver=Driver("latent_mpc", "joint_trajectory_controller"),
    command=CommandTopic("/rehearsal_controller/joint_trajectory"),
    camera=Camera("/camera/camera/color/image_raw", "/camera/camera/color/camera_info", rate_hz=12.0, latency_ms=250.0),
    # The machine that runs the tests is busy with others: how late a message is there says nothing of a driver.
    joint_states=JointStates("/joint_states", 40.0, latency_ms=150.0),
)


@pytest.fixture(scope="module")
def manifest():
    return read_manifest("models/reach")


class Part:
    """A node with a DDS participant and a thread of its own, as if it ran on another machine."""

    def __init__(self, create):
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = create(self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self):
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)


def rehearse(mistakes):
    given = DoubleParameters(width=96, height=80, mistakes=tuple(mistakes) or ("none",))
    parts = [Part(lambda context: DoubleNode(context, given, SETUP))]
    if "no_guardrail" not in mistakes:
        parts.append(Part(lambda context: GuardrailDouble(SETUP.command.topic, frozenset(mistakes), context)))
    return parts


@pytest.fixture
def found(ros_context, manifest):
    """What the check finds with a double that makes ``mistakes``."""

    def look(*mistakes):
        parts = rehearse(mistakes)
        node = rclpy.create_node("commissioning_check")
        try:
            seen = Observer(node, SETUP).look(1.0)
        finally:
            node.destroy_node()
            for part in parts:
                part.close()
        return check(SETUP, ARM, manifest, seen)

    return look


def test_a_clean_set_up_passes_wholly(found):
    findings = found()
    assert {finding.verdict for finding in findings} == {Verdict.PASSED}, table(findings)
    assert len({finding.key for finding in findings}) == len(findings) > 35


@pytest.mark.parametrize("mistake", [*MISTAKES, *HIDING])
def test_each_mistake_is_found_and_no_other(found, mistake):
    findings = found(mistake)
    assert failures(findings) == list({**MISTAKES, **HIDING}[mistake]), table(findings)
    assert all(finding.advice for finding in findings if finding.verdict is Verdict.FAILED)


def test_all_mistakes_at_once_are_all_found_and_none_is_invented(found):
    assert len(MISTAKES) >= 12
    findings = found(*MISTAKES)
    assert set(failures(findings)) == {key for keys in MISTAKES.values() for key in keys}, table(findings)
    content = json.loads(json.dumps(report("rehearsal", findings, SETUP.unverified)))
    assert not content["passed"] and set(content["failures"]) == set(failures(findings))


def test_a_model_of_another_arm_is_found(manifest):
    from latent_mpc.commissioning.camera_checks import check_camera
    from latent_mpc.commissioning.model_checks import check_model
    from latent_mpc.commissioning.observation import Observation, PictureSeen

    other = load_arm("ur5e")
    setup = dataclasses.replace(SETUP, joints=other.joints)
    assert failures(check_model(setup, other, manifest)) == ["model.joints"]
    assert failures(check_model(SETUP, ARM, dataclasses.replace(manifest, tool_step={}))) == ["model.actions"]
    small = Observation(1.0, picture=PictureSeen(48, 48, "rgb8", "camera"))
    assert failures(check_camera(small, True, manifest)) == ["camera.size"]
    large = Observation(1.0, picture=PictureSeen(640, 480, "rgb8", "camera"))
    assert failures(check_camera(large, False, manifest)) == ["camera.size"] and not failures(check_camera(large, True, manifest))


def test_a_guardrail_that_is_stopped_stays_so(ros_context, manifest):
    made = []

    def stopped(context):
        guardrail = GuardrailDouble(SETUP.command.topic, context=context)
        guardrail._state = "STOPPED"
        made.append(guardrail)
        return guardrail

    parts = [Part(lambda context: DoubleNode(context, DoubleParameters(width=96, height=80, mistakes=("none",)), SETUP)), Part(stopped)]
    node = rclpy.create_node("commissioning_check")
    try:
        findings = check(SETUP, ARM, manifest, Observer(node, SETUP).look(1.0))
        assert made[0]._state == "STOPPED", "a check released somebody's stop"
    finally:
        node.destroy_node()
        for part in parts:
            part.close()
    assert failures(findings) == ["guardrail.disarmed"], table(findings)
    assert {finding.key for finding in findings if finding.verdict is Verdict.SKIPPED} == {"guardrail.stop", "guardrail.latched", "guardrail.reset"}


def test_an_inactive_guardrail_a_second_one_and_limits_that_nobody_states_do_not_pass():
    from latent_mpc.commissioning.authority_checks import check_command, check_guardrail
    from latent_mpc.commissioning.joint_checks import check_joints
    from latent_mpc.commissioning.observation import Endpoint, GuardrailSeen, Observation

    well = GuardrailSeen("active", "DISARMED", False, "ok", ("STOPPED",), "ok", "DISARMED", "panda_stick", "trajectory")
    for change, wrong in (({}, []), ({"lifecycle": "inactive"}, ["guardrail.alive"]), ({"output": "velocity"}, ["guardrail.arm"])):
        assert failures(check_guardrail(dataclasses.replace(well, **change), SETUP, ARM)) == wrong
    # The same joints, another tool: it would keep another shape away from things.
    assert failures(check_guardrail(dataclasses.replace(well, robot="franka_panda"), SETUP, ARM)) == ["guardrail.arm"]

    topic, kind = SETUP.command.topic, SETUP.command.type
    ours = Endpoint("/guardrail_node", kind)
    heard = {topic: (Endpoint("/controller", kind),)}
    assert failures(check_command(SETUP, Observation(1.0, {topic: (ours,)}, heard))) == []
    assert failures(check_command(SETUP, Observation(1.0, {topic: (ours, Endpoint("/lab/guardrail_node", kind))}, heard))) == ["command.publishers"]

    def limits(*tags):
        joints = zip(ARM.joints, tags, strict=True)
        urdf = "".join(f"<joint name='{name}' type='revolute'>{tag}</joint>" for name, tag in joints)
        found = check_joints(SETUP, ARM, Observation(1.0, description=f"<robot>{urdf}</robot>"))
        return next(finding.verdict for finding in found if finding.key == "description.limits")

    wide = ["<limit lower='-9' upper='9' velocity='9'/>"] * len(ARM.joints)
    assert limits(*wide) is Verdict.PASSED
    assert limits(*wide[1:], "") is Verdict.SKIPPED
    assert limits(*wide[1:], "<limit lower='-9' upper='9' velocity='fast'/>") is Verdict.FAILED


@pytest.mark.parametrize(
    ("offered", "requested", "word"),
    [
        ({}, {}, ""),
        ({"reliability": ReliabilityPolicy.BEST_EFFORT}, {}, "best effort"),
        ({}, {"reliability": ReliabilityPolicy.BEST_EFFORT}, ""),
        ({}, {"durability": DurabilityPolicy.TRANSIENT_LOCAL}, "volatile"),
        ({"durability": DurabilityPolicy.TRANSIENT_LOCAL}, {}, ""),
        ({}, {"deadline": Duration(seconds=0.1)}, "deadline of 0.1 s"),
        ({"deadline": Duration(seconds=0.05)}, {"deadline": Duration(seconds=0.1)}, ""),
        ({}, {"deadline": Duration(nanoseconds=2**63 - 1)}, ""),
    ],
)
def test_who_meets_whom_is_what_dds_says(offered, requested, word):
    reason = objection(QoSProfile(depth=1, **offered), QoSProfile(depth=1, **requested))
    assert (word in reason) if word else reason == ""


def test_the_command_says_what_is_missing_and_how_it_ended(capsys, tmp_path):
    from latent_mpc.cli import run

    assert run(["check", "--robot", "nobody"]) == 2
    assert "no robot 'nobody'; shipped ones: " in capsys.readouterr().err
    assert run(["check", "--robot", "ur5e", "--seconds", "0.5", "--json", str(tmp_path / "check.json")]) == 1
    told = capsys.readouterr().out
    assert "FAIL  joint_states.present" in told and "not verified against this driver's source" in told
    content = json.loads((tmp_path / "check.json").read_text())
    absent = ("joint_states.present", "description.present", "camera.present", "camera_info.present", "command.controller", "guardrail.alive")
    assert content["failures"] == list(absent)
    assert content["unverified"] and not content["passed"]
