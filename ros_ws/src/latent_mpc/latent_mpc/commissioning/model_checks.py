"""Whether the model was trained for this arm."""

from __future__ import annotations

from arm_model import ArmDescription
from latent_mpc.commissioning.findings import Finding, judged, skipped
from latent_mpc.commissioning.robot_setup import RobotSetup
from world_model.bundle import Manifest


def check_model(setup: RobotSetup, arm: ArmDescription | None, manifest: Manifest | None) -> list[Finding]:
    """The bundle's joints are the arm's, in its order, and its actions are displacements of the tool."""
    if manifest is None:
        return [skipped("model.joints", "no --model given"), skipped("model.actions", "no --model given")]
    expected = arm.joints if arm is not None else setup.joints
    advice = "train or fine-tune a bundle on this arm's own recordings (docs/deploy.md); a model of another arm sees nothing it knows"
    same = manifest.joints == expected
    told = f"{manifest.name}: {len(manifest.joints)} joints" if same else f"{manifest.name} was trained for {', '.join(manifest.joints)}"
    moves = bool(manifest.tool_step)
    box = f"tool in {manifest.tool_step.get('lower')} .. {manifest.tool_step.get('upper')} m" if moves else "no tool displacements"
    return [
        judged("model.joints", same, told, advice),
        judged("model.actions", moves, box, "this bundle moves no arm: it was trained in an environment"),
    ]
