"""Quality of service of every topic, by what flows on it."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

# s: a writer shows three times in that time that its process lives (`sign_of_life.py`); who watches it must ask for no less.
_OFFERED_LEASE_S = 0.05


def _profile(
    depth: int, reliable: bool, latched: bool = False, lease_s: float = 0.0, kind: LivelinessPolicy = LivelinessPolicy.AUTOMATIC
) -> QoSProfile:
    liveliness = {"liveliness": kind, "liveliness_lease_duration": Duration(seconds=lease_s)} if lease_s else {}
    return QoSProfile(
        **liveliness,
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


CAMERA = _profile(depth=5, reliable=False)
"""Camera images and infos: a lost frame is worth less than a late one."""

LATENT = _profile(depth=1, reliable=False)
"""Latents of camera frames: only the newest counts."""

JOINT_STATES = _profile(depth=1, reliable=False)
"""Measured joints: only the newest counts."""

JOINT_HISTORY = _profile(depth=50, reliable=False)
"""Measured joints, for those who ask where they were at another time: half a second of them may wait."""

PLAN = _profile(depth=1, reliable=True)
"""Plans, for those who read them: none may be lost, only the newest counts. It asks for no liveliness, so whoever publishes plans is heard."""

PLAN_OFFER = _profile(depth=1, reliable=True, lease_s=_OFFERED_LEASE_S, kind=LivelinessPolicy.MANUAL_BY_TOPIC)
"""Plans, for those who make them: with a `SignOfLife` their process shows that it lives, and is missed soon after it was killed."""


def plan_watch(lease_s: float) -> QoSProfile:
    """Plans, for those who watch whether the planner's process lives: it is missed ``lease_s`` after the last sign of life.

    A publisher that offers no lease, or a longer one, does not match: it is reported as incompatible.
    """
    return _profile(depth=1, reliable=True, lease_s=lease_s)


COMMAND = _profile(depth=1, reliable=True)
"""Commands to the controller: none may be lost, only the newest counts."""

GOAL = _profile(depth=1, reliable=True, latched=True)
"""Goal images and latents: a node that starts late still gets the last one."""

STATUS = _profile(depth=10, reliable=True)
"""Status, ground truth, markers and everything else that people and recorders read."""

JOURNAL = _profile(depth=300, reliable=True, latched=True)
"""Journals: a recorder that comes late still gets the last half minute and more."""
