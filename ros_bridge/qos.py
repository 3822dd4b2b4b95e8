"""Quality of service of every topic, by what flows on it."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(depth: int, reliable: bool, latched: bool = False) -> QoSProfile:
    return QoSProfile(
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
"""Plans: none may be lost, only the newest counts."""

COMMAND = _profile(depth=1, reliable=True)
"""Commands to the controller: none may be lost, only the newest counts."""

GOAL = _profile(depth=1, reliable=True, latched=True)
"""Goal images and latents: a node that starts late still gets the last one."""

STATUS = _profile(depth=10, reliable=True)
"""Status, ground truth, markers and everything else that people and recorders read."""
