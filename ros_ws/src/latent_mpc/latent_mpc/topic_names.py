"""Every topic that the nodes name, and what to call them in a namespace or behind a driver of other manners."""

from __future__ import annotations

from collections.abc import Mapping

CAMERA_IMAGE, CAMERA_INFO = "/camera/image_raw", "/camera/camera_info"
JOINT_STATES = "/joint_states"
SHADOW = "/guardrail/shadow"
CONTROLLERS = {
    "trajectory": "/joint_trajectory_controller/joint_trajectory",
    "velocity": "/forward_velocity_controller/commands",
    "position": "/forward_position_controller/commands",
}
"""Where the guardrail commands an arm whose description says nothing else, by its parameter ``output``."""

OURS = (
    CAMERA_IMAGE,
    CAMERA_INFO,
    "/goal/image",
    "/goal/latent",
    "/guardrail/journal",
    "/guardrail/settings",
    "/guardrail/status",
    SHADOW,
    JOINT_STATES,
    "/overview/image_raw",
    "/perception/latent",
    "/perception/witness",
    "/planner/imagined",
    "/planner/journal",
    "/planner/markers",
    "/planner/plan",
    "/planner/result",
    "/planner/settings",
    "/planner/status",
    "/planner/surprise",
    "/planner/zones",
    "/sim/goal_image",
    "/sim/ground_truth",
    *CONTROLLERS.values(),
)
"""What moves into a namespace. ``/clock`` and ``/diagnostics`` are everybody's and stay."""


def remaps(namespace: str = "", other: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Remap rules (from, to) for all nodes: ``OURS`` into ``namespace``, and ``other`` names in the place of those of the code.

    The names in the code are absolute, so that every tool and bag sees the same ones; a rule moves them, a namespace alone would not. A name in
    ``other`` that begins with a slash is taken as it is, another lies in the namespace.
    """
    moved = {topic: resolved(topic.lstrip("/"), namespace) for topic in OURS}
    moved |= {topic: resolved(name, namespace) for topic, name in (other or {}).items()}
    return [(old, new) for old, new in moved.items() if old != new]


def resolved(name: str, namespace: str = "") -> str:
    """The absolute name of a topic: ``name`` itself when it begins with a slash, else ``name`` in ``namespace``."""
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    return name if name.startswith("/") else f"{prefix}/{name}"
