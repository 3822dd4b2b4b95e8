"""Topics of the fault suite's own: what is asked of the saboteur, and what was done to whom and when."""

from __future__ import annotations

INJECT = "/faults/inject"
EVENTS = "/faults/events"
RIVAL_FRAME = "faults_rival"
# The real source publishes here, the saboteur passes it on under the name that everybody knows.
RELAYED = {"joint_states": "/joint_states", "camera": "/camera/image_raw", "plan": "/planner/plan"}
# Comes and goes with the pictures.
CAMERA_INFO = "/camera/camera_info"


def behind(topic: str) -> str:
    """The topic that a relayed source publishes on instead of ``topic``."""
    return f"/faults{topic}"
