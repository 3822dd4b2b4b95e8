"""Quality of service between rclpy and what a bag writes down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

from latent_mpc.bags.qos import FOREVER_NS, OfferedQos
from ros_bridge.qos import GOAL

RECORDING_DEPTH = 200
"""Deep enough for what comes between two looks, and for the bursts while Python is busy elsewhere."""
PLAYING_DEPTH = 10
"""Where the bag does not say: middlewares do not tell others how deep the history of a publisher is."""


LATCHED = (
    "/goal/image",
    "/goal/latent",
    "/guardrail/settings",
    "/planner/result",
    "/planner/settings",
    "/planner/zones",
    "/sim/goal_image",
)
"""What this stack publishes with ``ros_bridge.qos.GOAL``: who listens asks for it latched, and hears no publisher that does not offer that."""


def offered_qos(profile: QoSProfile) -> OfferedQos:
    """What a publisher offers, as the bag writes it down."""
    return OfferedQos(
        history=_word(profile.history),
        depth=int(profile.depth),
        reliability=_word(profile.reliability),
        durability=_word(profile.durability),
        deadline_ns=_nanoseconds(profile.deadline),
        lifespan_ns=_nanoseconds(profile.lifespan),
        liveliness=_word(profile.liveliness),
        lease_ns=_nanoseconds(profile.liveliness_lease_duration),
        plain_names=bool(profile.avoid_ros_namespace_conventions),
    )


def matching(offered: Sequence[QoSProfile]) -> QoSProfile:
    """A profile that every publisher is compatible with, as strong as that allows."""
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=RECORDING_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def demands_more(asked: QoSProfile, possible: QoSProfile) -> bool:
    """Whether a subscription with ``asked`` would not hear somebody whom one with ``possible`` hears."""
    reliability = asked.reliability == ReliabilityPolicy.RELIABLE and possible.reliability != ReliabilityPolicy.RELIABLE
    durability = asked.durability == DurabilityPolicy.TRANSIENT_LOCAL and possible.durability != DurabilityPolicy.TRANSIENT_LOCAL
    return bool(reliability or durability)


def offering(recorded: Sequence[OfferedQos], names: Sequence[str] = ()) -> QoSProfile:
    """A publisher's profile as it was recorded; of publishers that differed, what all of them offered.

    A depth that nobody recorded becomes ``PLAYING_DEPTH``. Where nothing was recorded, a topic that has one of ``LATCHED`` among its ``names``, in
    whatever namespace, is latched.
    """
    if not recorded:
        if any(name.endswith(LATCHED) for name in names):
            return GOAL
        return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=PLAYING_DEPTH)
    first = recorded[0]
    same = first if all(replace(other, depth=first.depth) == first for other in recorded) else OfferedQos(depth=max(p.depth for p in recorded))
    if same is not first:
        best_effort = any(profile.reliability == "best_effort" for profile in recorded)
        latched = all(profile.durability == "transient_local" for profile in recorded)
        same = replace(same, reliability="best_effort" if best_effort else "reliable", durability="transient_local" if latched else "volatile")
    # Who plays cannot show that those who were recorded live, at the times at which they did.
    lease_ns = FOREVER_NS if same.liveliness == "manual_by_topic" else same.lease_ns
    profile = QoSProfile(
        history=HistoryPolicy.KEEP_ALL if same.history == "keep_all" else HistoryPolicy.KEEP_LAST,
        depth=same.depth or PLAYING_DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT if same.reliability == "best_effort" else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if same.durability == "transient_local" else DurabilityPolicy.VOLATILE,
        liveliness=LivelinessPolicy.AUTOMATIC,
        avoid_ros_namespace_conventions=same.plain_names,
    )
    for name, nanoseconds in (("deadline", same.deadline_ns), ("lifespan", same.lifespan_ns), ("liveliness_lease_duration", lease_ns)):
        if 0 < nanoseconds < FOREVER_NS:
            setattr(profile, name, Duration(nanoseconds=nanoseconds))
    return profile


def _word(policy: HistoryPolicy | ReliabilityPolicy | DurabilityPolicy | LivelinessPolicy) -> str:
    return str(policy.name).lower()


def _nanoseconds(duration: Duration) -> int:
    nanoseconds = int(duration.nanoseconds)
    return FOREVER_NS if nanoseconds <= 0 else min(nanoseconds, FOREVER_NS)
