"""Who may move the arm, and who can stop it: the command topic and the guardrail."""

from __future__ import annotations

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
    rivals = sorted(endpoint.node for endpoint in seen.publishers.get(topic, ()) if endpoint.node.rpartition("/")[2] != GUARDRAIL)
    told = f"also {', '.join(rivals)}" if rivals else "nobody but the guardrail"
    findings.append(judged("command.publishers", not rivals, told, "stop whatever else commands this arm (MoveIt, teleoperation, a joystick)"))
    return findings


def check_guardrail(guardrail: GuardrailSeen | None) -> list[Finding]:
    """It lives, it is disarmed, and its stop latches until it is reset."""
    keys = ("disarmed", "stop", "latched", "reset")
    if guardrail is None or not (guardrail.lifecycle or guardrail.state):
        advice = "start it: ros2 launch latent_mpc arm.launch.py robot:=... model:=..."
        return [judged("guardrail.alive", False, "no guardrail_node", advice), *(skipped(f"guardrail.{key}", "no guardrail") for key in keys)]
    told = f"{guardrail.lifecycle or 'unknown'}, {guardrail.state or 'silent'}" + (", in shadow" if guardrail.shadow else "")
    alive = bool(guardrail.lifecycle) and bool(guardrail.state)
    findings = [judged("guardrail.alive", alive, told, "it must answer get_state and publish /guardrail/status: look at its log")]
    disarmed = guardrail.state == "DISARMED"
    advice = "it is armed: call ~/stop, then ~/reset" if guardrail.state != "STOPPED" else "it is stopped: find out why, then call ~/reset"
    findings.append(judged("guardrail.disarmed", disarmed, guardrail.state or "silent", advice))
    if guardrail.stop == "not tried":
        return [*findings, *(skipped(f"guardrail.{key}", "not tried") for key in keys[1:])]
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
