"""Who may move the arm, and who can stop it: the command topic and the guardrail."""

from __future__ import annotations

import numpy as np

from arm_model import ArmDescription, load_arm
from latent_mpc.commissioning.findings import Finding, judged, skipped
from latent_mpc.commissioning.observation import GuardrailSeen, Observation
from latent_mpc.commissioning.robot_setup import RobotSetup

GUARDRAIL = "guardrail_node"


def check_command(setup: RobotSetup, seen: Observation) -> list[Finding]:
    """One controller listens, of our type and compatible; nobody but the guardrail commands."""
    topic, kind = setup.command.topic, setup.command.type
    listeners = seen.subscribers.get(topic, ())
    told = f"{len(listeners)} on {topic}" + (f": {', '.join(sorted(endpoint.node for endpoint in listeners))}" if listeners else "")
    advice = (
        f"activate it: ros2 control switch_controllers --activate {setup.driver.controller}"
        if not listeners
        else "exactly one controller may listen; find the other with: ros2 topic info -v " + topic
    )
    findings = [judged("command.controller", len(listeners) == 1, told, advice)]
    wrong = sorted({endpoint.type for endpoint in listeners} - {kind})
    if not listeners:
        findings += [skipped("command.type", "nobody listens"), skipped("command.qos", "nobody listens")]
    else:
        told = ", ".join(wrong) or kind
        findings.append(
            judged("command.type", not wrong, told, f"output '{setup.command.output}' publishes {kind}: choose output or controller to match")
        )
        objections = [f"{endpoint.node}: {endpoint.objection}" for endpoint in listeners if endpoint.objection]
        findings.append(
            judged("command.qos", not objections, "; ".join(objections) or "compatible", "the controller would hear nothing: change its QoS")
        )
    commanders = sorted(endpoint.node for endpoint in seen.publishers.get(topic, ()))
    guardrails = [node for node in commanders if node.rpartition("/")[2] == GUARDRAIL]
    # A second guardrail is a rival like any other.
    rivals = [*(node for node in commanders if node not in guardrails), *guardrails[1:]]
    told = f"also {', '.join(rivals)}" if rivals else "nobody but the guardrail"
    findings.append(judged("command.publishers", not rivals, told, "stop whatever else commands this arm (MoveIt, teleoperation, a joystick)"))
    return findings


def check_guardrail(guardrail: GuardrailSeen | None, setup: RobotSetup, arm: ArmDescription | None) -> list[Finding]:
    """It lives, guards this arm, is disarmed, and its stop latches until it is reset."""
    keys = ("arm", "disarmed", "stop", "latched", "reset")
    if guardrail is None or not (guardrail.lifecycle or guardrail.state):
        advice = "start it: ros2 launch latent_mpc arm.launch.py robot:=... model:=..."
        return [judged("guardrail.alive", False, "no guardrail_node", advice), *(skipped(f"guardrail.{key}", "no guardrail") for key in keys)]
    told = f"{guardrail.lifecycle or 'unknown'}, {guardrail.state or 'silent'}" + (", in shadow" if guardrail.shadow else "")
    alive = guardrail.lifecycle == "active" and bool(guardrail.state)
    findings = [judged("guardrail.alive", alive, told, "it must be active and publish /guardrail/status: look at its log")]
    findings.append(_arm(guardrail, setup, arm))
    disarmed = guardrail.state == "DISARMED"
    advice = "it is armed: call ~/stop, then ~/reset" if guardrail.state != "STOPPED" else "it is stopped: find out why, then call ~/reset"
    findings.append(judged("guardrail.disarmed", disarmed, guardrail.state or "silent", advice))
    if guardrail.stop == "not tried":
        why = "not tried" if guardrail.state != "STOPPED" else "not tried: it is stopped, and stays so"
        return [*findings, *(skipped(f"guardrail.{key}", why) for key in keys[2:])]
    findings.append(judged("guardrail.stop", guardrail.stop == "ok", guardrail.stop or "no answer", "without a stop that answers do not go on"))
    if guardrail.stop != "ok":
        return [*findings, skipped("guardrail.latched", "no stop"), skipped("guardrail.reset", "no stop")]
    states = guardrail.after_stop
    held = bool(states) and set(states) == {"STOPPED"}
    told = " -> ".join(dict.fromkeys(states)) or "no status after it"
    findings.append(judged("guardrail.latched", held, told, "a stop must hold until ~/reset: does something reset or arm the guardrail by itself?"))
    released = guardrail.reset == "ok" and guardrail.after_reset == "DISARMED"
    told = f"{guardrail.reset or 'no answer'}, then {guardrail.after_reset or 'silent'}"
    findings.append(judged("guardrail.reset", released, told, "after ~/reset it must be DISARMED: look at its log"))
    return findings


def _arm(guardrail: GuardrailSeen, setup: RobotSetup, arm: ArmDescription | None) -> Finding:
    """Whether it guards the arm that is checked, by the description that it was started with."""
    if arm is None or not guardrail.robot:
        return skipped("guardrail.arm", "no arm description" if arm is None else "it does not say what its settings are")
    try:
        guarded = load_arm(guardrail.robot)
    except ValueError:
        return skipped("guardrail.arm", f"{guardrail.robot} is not to be found on this machine")
    same = guarded.joints == arm.joints and guarded.urdf == arm.urdf and guarded.tool_frame == arm.tool_frame
    limits = (getattr(description.limits, kind) for kind in ("lower", "upper", "velocity", "acceleration", "jerk") for description in (guarded, arm))
    same = same and all(np.array_equal(one, other) for one, other in zip(*[limits] * 2, strict=True))
    told = f"{guarded.name} of {arm.name}, output {guardrail.output} of {setup.command.output}"
    advice = "it was started for another arm or controller: end it, and start arm.launch.py with the robot, and the arm, that are checked here"
    return judged("guardrail.arm", same and guardrail.output == setup.command.output, told, advice)
