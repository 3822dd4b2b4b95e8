"""What a check of the fault suite may look at, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from latent_mpc.faults_recording import Recording, Sent, Window, braking
from latent_mpc.faults_run import Played
from latent_mpc.faults_scenario import Bar, Scenario, ScenarioError

MS = 1e-6
"""Milliseconds in a nanosecond."""


@dataclass(frozen=True)
class Finding:
    """What a check measured: in words, and as numbers, one per repeat where it is about time."""

    measured: str
    met: bool
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What a check may look at."""

    scenario: Scenario
    recording: Recording
    played: Played
    windows: Sequence[Window] = field(default=())


Check = Callable[[Evidence, Bar], Finding]


def times(values: Sequence[float | None], bar: float, unit: str, missing: str, least: bool = False) -> Finding:
    """One value per repeat; None where there was nothing to measure, which never meets a bar."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Finding(f"{missing} in {len(values) - len(known)} of {len(values)}", False, tuple(known))
    met = min(known) >= bar if least else max(known) <= bar
    text = (
        f"{known[0]:.0f} {unit}"
        if len(known) == 1
        else f"p50 {np.median(known):.0f}, {'min' if least else 'max'} {min(known) if least else max(known):.0f} {unit}"
    )
    return Finding(f"{text} (n = {len(known)})" if len(known) > 1 else text, met, tuple(known))


def number(bar: Bar) -> float:
    """A bar that must be a number."""
    if not isinstance(bar, float):
        raise ScenarioError(f"a bar must be a number, not {bar!r}")
    return bar


def reactions(evidence: Evidence) -> list[tuple[Sent, Sent] | None]:
    """The first braking and the first standing command of each repeat."""
    return [braking(evidence.recording.commands, window.since_ns, window.until_ns) for window in evidence.windows]
