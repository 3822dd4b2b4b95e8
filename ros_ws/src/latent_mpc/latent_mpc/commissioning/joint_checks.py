"""The arm as its driver sees it against the arm as it is described here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from xml.etree import ElementTree

from arm_model import ArmDescription
from latent_mpc.commissioning.findings import Finding, judged, skipped
from latent_mpc.commissioning.observation import JointsSeen, Observation
from latent_mpc.commissioning.robot_setup import RobotSetup

_WRITE_ONE = "write an arm description (docs/deploy.md) and name it in the robot's file, or give --arm"
# A URDF is written with few digits.
_SAME = 1e-3


def check_joints(setup: RobotSetup, arm: ArmDescription | None, seen: Observation) -> list[Finding]:
    """Names, values and limits of the joints: in the joint states, in the description, and in the driver's URDF."""
    findings = [judged("arm.description", arm is not None, arm.name if arm else "none", _WRITE_ONE)]
    if arm is not None:
        wrong = sorted(set(setup.joints) ^ set(arm.joints))
        advice = "the robot's file and the arm description must name the same joints"
        findings.append(judged("arm.joints", not wrong, f"differ: {', '.join(wrong)}" if wrong else f"{len(arm.joints)} joints", advice))
    else:
        findings.append(skipped("arm.joints", "no arm description"))
    findings += _states(setup, arm, seen.joints)
    findings += _driver_urdf(setup, arm, seen.description)
    return findings


def _states(setup: RobotSetup, arm: ArmDescription | None, joints: JointsSeen | None) -> list[Finding]:
    if joints is None:
        return [skipped(f"joints.{key}", "no joint state") for key in ("names", "values", "velocities", "soft_limits")]
    missing = [name for name in setup.joints if name not in joints.names]
    others = [name for name in joints.names if name not in setup.joints]
    seen = f"missing: {', '.join(missing)}; there are {', '.join(others) or 'no others'}" if missing else f"all {len(setup.joints)}, in any order"
    findings = [
        judged("joints.names", not missing, seen, "a prefix, or another arm? Set the driver's prefix to none, or name its joints in a description")
    ]
    position = dict(zip(joints.names, joints.positions, strict=False))
    broken = [name for name in setup.joints if name in position and not math.isfinite(position[name])]
    short = len(joints.positions) != len(joints.names)
    told = f"{len(joints.positions)} positions for {len(joints.names)} names" if short else f"not finite: {', '.join(broken)}" if broken else "finite"
    findings.append(judged("joints.values", not broken and not short, told, "the driver sends no measurement: is the arm powered and homed?"))
    without = skipped("joints.velocities", "none: differences of positions are taken")
    findings.append(judged("joints.velocities", True, "sent", "") if joints.velocities else without)
    if arm is None:
        return [*findings, skipped("joints.soft_limits", "no arm description")]
    soft = arm.soft_limits
    outside = [
        f"{name} {position[name]:.3f} not in {low:.3f} .. {high:.3f}"
        for name, low, high in zip(soft.names, soft.lower, soft.upper, strict=True)
        if name in position and math.isfinite(position[name]) and not low <= position[name] <= high
    ]
    advice = "move the arm there by hand or with the pendant: the guardrail will not arm at, or beyond, its limits"
    findings.append(judged("joints.soft_limits", not outside, "; ".join(outside) or "every joint inside", advice))
    return findings


def _driver_urdf(setup: RobotSetup, arm: ArmDescription | None, text: str) -> list[Finding]:
    if not setup.description:
        return [skipped(f"description.{key}", "this driver publishes none") for key in ("present", "joints", "limits")]
    try:
        root = ElementTree.fromstring(text) if text else None
        reason = "" if text else f"nothing on {setup.description}"
    except ElementTree.ParseError as error:
        root, reason = None, f"no XML: {error}"
    advice = "start robot_state_publisher with the driver, or set description: '' in the robot's file and compare the limits yourself"
    findings = [judged("description.present", root is not None, reason or setup.description, advice)]
    if root is None:
        return [*findings, skipped("description.joints", "no URDF"), skipped("description.limits", "no URDF")]
    tags = {str(tag.get("name")): tag.find("limit") for tag in root.findall("joint") if tag.get("type") not in (None, "fixed")}
    missing = [name for name in setup.joints if name not in tags]
    told = f"missing: {', '.join(missing)}" if missing else f"all {len(setup.joints)}"
    findings.append(judged("description.joints", not missing, told, "the driver was started for another arm or with a prefix"))
    if arm is None:
        return [*findings, skipped("description.limits", "no arm description")]
    bounds = {name: _bounds(tags.get(name)) for name in arm.joints}
    wider = [text for name, bound in bounds.items() for text in _wider(arm, name, bound)]
    unstated = [name for name, bound in bounds.items() if not bound]
    if not wider and unstated:
        return [*findings, skipped("description.limits", f"the driver's URDF states none of {', '.join(unstated)}")]
    advice = "tighten `limits` in the arm description: what the driver refuses or cuts off is not followed"
    findings.append(judged("description.limits", not wider, "; ".join(wider) or "ours lie within the driver's", advice))
    return findings


def _bounds(limit: ElementTree.Element | None) -> dict[str, float]:
    """Which of lower, upper and velocity a joint's ``<limit>`` states; NaN for what is no number, which nothing lies within."""
    found = {}
    for kind in ("lower", "upper", "velocity"):
        text = None if limit is None else limit.get(kind)
        if text is not None:
            try:
                found[kind] = float(text)
            except ValueError:
                found[kind] = math.nan
    return found


def _wider(arm: ArmDescription, name: str, bounds: Mapping[str, float]) -> list[str]:
    index, ours = arm.joints.index(name), arm.limits
    own = {"lower": float(ours.lower[index]), "upper": float(ours.upper[index]), "velocity": float(ours.velocity[index])}
    signs = {"lower": -1.0}
    return [
        f"{name}: our {kind} {own[kind]:.3f}, the driver's {bound:.3f}"
        for kind, bound in bounds.items()
        if not signs.get(kind, 1.0) * own[kind] <= signs.get(kind, 1.0) * bound + _SAME
    ]
