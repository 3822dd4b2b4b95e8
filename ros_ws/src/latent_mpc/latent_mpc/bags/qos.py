"""The quality of service that publishers offered, as rosbag2 writes it down: numbers up to metadata version 8, words since 9."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

_NAMES: dict[str, tuple[str, ...]] = {
    "history": ("system_default", "keep_last", "keep_all", "unknown"),
    "reliability": ("system_default", "reliable", "best_effort", "unknown", "best_available"),
    "durability": ("system_default", "transient_local", "volatile", "unknown", "best_available"),
    "liveliness": ("system_default", "automatic", "manual_by_node", "manual_by_topic", "unknown", "best_available"),
}
FOREVER_NS = 9_223_372_036_854_775_807
"""A duration that never ends: `{sec: 9223372036, nsec: 854775807}`."""
_NS = 1_000_000_000


@dataclass(frozen=True)
class OfferedQos:
    """What one publisher offered. Durations in ns, ``FOREVER_NS`` or 0 where there is no limit."""

    history: str = "unknown"
    depth: int = 0
    reliability: str = "reliable"
    durability: str = "volatile"
    deadline_ns: int = FOREVER_NS
    lifespan_ns: int = FOREVER_NS
    liveliness: str = "automatic"
    lease_ns: int = FOREVER_NS
    plain_names: bool = False

    @property
    def text(self) -> str:
        """For people: what differs from one publisher to another."""
        depth = f" {self.depth}" if self.depth else ""
        latched = ", transient local" if self.durability == "transient_local" else ""
        return f"{self.reliability.replace('_', ' ')}{latched}{depth}"


def read_qos(written: object) -> tuple[OfferedQos, ...]:
    """Profiles from what stands under ``offered_qos_profiles``: YAML text or a list; what cannot be read counts as not given."""
    return _read_text(written) if isinstance(written, str) else _profiles(written)


@lru_cache(maxsize=256)
def _read_text(text: str) -> tuple[OfferedQos, ...]:
    """The same of YAML text: most topics of a bag say the same, and slowly."""
    try:
        return _profiles(yaml.safe_load(text))
    except yaml.YAMLError:
        return ()


def _profiles(written: object) -> tuple[OfferedQos, ...]:
    if not isinstance(written, list):
        return ()
    return tuple(_profile(entry) for entry in written if isinstance(entry, dict))


def qos_entries(profiles: tuple[OfferedQos, ...]) -> list[dict[str, Any]]:
    """Profiles as they stand in metadata of version 9."""
    return [
        {
            "history": profile.history,
            "depth": profile.depth,
            "reliability": profile.reliability,
            "durability": profile.durability,
            "deadline": _duration(profile.deadline_ns),
            "lifespan": _duration(profile.lifespan_ns),
            "liveliness": profile.liveliness,
            "liveliness_lease_duration": _duration(profile.lease_ns),
            "avoid_ros_namespace_conventions": profile.plain_names,
        }
        for profile in profiles
    ]


def _profile(entry: dict[str, Any]) -> OfferedQos:
    depth = entry.get("depth", 0)
    return OfferedQos(
        history=_word("history", entry),
        depth=depth if isinstance(depth, int) and 0 <= depth < 1_000_000 else 0,
        reliability=_word("reliability", entry),
        durability=_word("durability", entry),
        deadline_ns=_nanoseconds(entry.get("deadline")),
        lifespan_ns=_nanoseconds(entry.get("lifespan")),
        liveliness=_word("liveliness", entry),
        lease_ns=_nanoseconds(entry.get("liveliness_lease_duration")),
        plain_names=bool(entry.get("avoid_ros_namespace_conventions", False)),
    )


def _word(policy: str, entry: dict[str, Any]) -> str:
    value, names = entry.get(policy), _NAMES[policy]
    if isinstance(value, int):
        return names[value] if 0 <= value < len(names) else "unknown"
    word = str(value).lower()
    return word if word in names else "unknown"


def _nanoseconds(written: object) -> int:
    if not isinstance(written, dict):
        return FOREVER_NS
    try:
        return min(int(written.get("sec", 0)) * _NS + int(written.get("nsec", 0)), FOREVER_NS)
    except (TypeError, ValueError):
        return FOREVER_NS


def _duration(nanoseconds: int) -> dict[str, int]:
    return {"sec": nanoseconds // _NS, "nsec": nanoseconds % _NS}
