"""Checks of what the arm was commanded to do: limits, reactions, silence, distances."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import yaml

from arm_model import load_arm
from latent_mpc.check_bag import check_bag
from latent_mpc.faults_evidence import MS, Evidence, Finding, number, reactions, times
from latent_mpc.faults_oracle import Oracle
from latent_mpc.faults_recording import CYCLE_NS, continues, guardrail_alone
from latent_mpc.faults_scenario import Bar
from latent_mpc.urdf_limits import CheckError

_NEW_SEGMENT_NS = 100_000_000
# So much later than it was sent a command may come.
_UNDER_WAY_NS = 200_000_000


def limits(evidence: Evidence, bar: Bar) -> Finding:
    """At most ``bar`` violations of position, velocity, acceleration, jerk and finiteness of what was commanded, by the independent bag checker."""
    with tempfile.TemporaryDirectory() as folder:
        bag = guardrail_alone(evidence.recording.bag, Path(folder) / "bag")
        try:
            report = check_bag(bag, load_arm().urdf)
        except CheckError as error:
            return Finding(str(error), False)
    return Finding(f"{report.total} violations in {report.messages} commands", report.total <= number(bar), (float(report.total),))


def finite_values(evidence: Evidence, bar: Bar) -> Finding:
    """At least ``bar`` values published, none of which is NaN or infinite."""
    values = sum(command.values for command in evidence.recording.commands)
    bad = sum(command.non_finite for command in evidence.recording.commands)
    return Finding(f"{bad} non-finite of {values:,} values".replace(",", " "), bad == 0 and values >= number(bar), (float(bad), float(values)))


def cycles(evidence: Evidence, bar: Bar) -> Finding:
    """At least ``bar`` commands while the faults acted."""
    count = sum(len(evidence.recording.sent(window)) for window in evidence.windows)
    return Finding(f"{count} cycles", count >= number(bar), (float(count),))


def braking_within_ms(evidence: Evidence, bar: Bar) -> Finding:
    """The first braking command comes at most ``bar`` ms after the fault: the last good message, or the first bad one where bad ones are used."""
    found = [
        None if pair is None else (pair[0].sent_ns - window.since_ns) * MS for pair, window in zip(reactions(evidence), evidence.windows, strict=True)
    ]
    finding = times(found, number(bar), "ms", "no braking to rest")
    return Finding(f"braking after {finding.measured}" if finding.values else finding.measured, finding.met, finding.values)


def braking_after_ms(evidence: Evidence, bar: Bar) -> Finding:
    """The first braking command comes no earlier than ``bar`` ms after the fault: until then the last plan is followed."""
    found = [
        None if pair is None else (pair[0].sent_ns - window.since_ns) * MS for pair, window in zip(reactions(evidence), evidence.windows, strict=True)
    ]
    finding = times(found, number(bar), "ms", "no braking to rest", least=True)
    return Finding(f"last plan followed for {finding.measured}" if finding.values else finding.measured, finding.met, finding.values)


def rest_within_ms(evidence: Evidence, bar: Bar) -> Finding:
    """The arm is commanded to stand at most ``bar`` ms after the first braking command."""
    found = [None if pair is None else (pair[1].sent_ns - pair[0].sent_ns) * MS for pair in reactions(evidence)]
    finding = times(found, number(bar), "ms", "no rest")
    return Finding(f"at rest {finding.measured} later" if finding.values else finding.measured, finding.met, finding.values)


def cycles_to_brake(evidence: Evidence, bar: Bar) -> Finding:
    """At most ``bar`` commands after the fault still follow the plan."""
    found: list[float | None] = []
    for pair, window in zip(reactions(evidence), evidence.windows, strict=True):
        before = [c for c in evidence.recording.commands if pair is not None and window.since_ns < c.sent_ns < pair[0].sent_ns]
        found.append(None if pair is None else float(len(before)))
    return times(found, number(bar), "commands before braking", "no braking to rest")


def unchanged(evidence: Evidence, bar: Bar) -> Finding:
    """No commanded position changes by more than ``bar`` rad between the last fault's begin and end."""
    moved, count = [], 0
    for window in evidence.windows:
        rows = [command.positions for command in evidence.recording.commands if window.last_ns <= command.sent_ns <= window.ended_ns]
        moved.append(float(np.ptp(np.concatenate(rows), axis=0).max()) if rows else float("inf"))
        count += len(rows)
    worst = max(moved, default=float("inf"))
    return Finding(f"commands moved by {worst:.1g} rad in {count} cycles", worst <= number(bar), (worst,) if np.isfinite(worst) else ())


def tracking_share(evidence: Evidence, bar: Bar) -> Finding:
    """At least a share ``bar`` of the commands while the faults act goes on following plans."""
    shares = []
    for window in evidence.windows:
        ours = [index for index, c in enumerate(evidence.recording.commands) if window.since_ns <= c.sent_ns <= window.ended_ns and index > 0]
        commands = evidence.recording.commands
        following = sum(not continues(commands[index - 1], commands[index]) for index in ours)
        shares.append(following / len(ours) if ours else 0.0)
    least = min(shares, default=0.0)
    return Finding(f"{100 * least:.0f} % of the cycles follow plans", least >= number(bar), tuple(shares))


def silent_when_stopped(evidence: Evidence, bar: Bar) -> Finding:
    """At most ``bar`` commands while status after status says STOPPED or DISARMED: by when they were sent, and later by when they came.

    What was sent before may come after the first of these statuses. A stamp is the word of the node that is judged: what comes late counts all
    the same.
    """
    quiet = ("STOPPED", "DISARMED")
    asked = [int(event["time_ns"]) for event in evidence.recording.events if event["what"] == "arm_asked"]
    spans: list[tuple[int, int]] = []
    for a, b in itertools.pairwise(evidence.recording.guard):
        if a.message not in quiet or b.message not in quiet or any(a.time_ns <= time <= b.time_ns for time in asked):
            continue
        spans = [*spans[:-1], (spans[-1][0], b.time_ns)] if spans and spans[-1][1] == a.time_ns else [*spans, (a.time_ns, b.time_ns)]
    count = sum(
        a + CYCLE_NS < command.sent_ns < b or a + _UNDER_WAY_NS < command.received_ns < b for command in evidence.recording.commands for a, b in spans
    )
    seconds = sum(b - a for a, b in spans) * 1e-9
    return Finding(f"{count} commands in {seconds:.1f} s of silence", count <= number(bar) and seconds > 0.0, (float(count),))


def first_command_rad(evidence: Evidence, bar: Bar) -> Finding:
    """After each silence the first command lies within ``bar`` rad of the joints as they were measured last."""
    commands = evidence.recording.commands
    firsts = [c for b, c in zip((None, *commands), commands, strict=False) if b is None or c.received_ns - b.received_ns > _NEW_SEGMENT_NS]
    errors = []
    for command in firsts:
        before = [entry for entry in evidence.recording.joint_states if entry.time_ns <= command.received_ns][-3:]
        if before:
            errors.append(min(float(np.abs(command.positions[0] - np.asarray(entry.message.position)).max()) for entry in before))
    worst = max(errors, default=float("inf"))
    return Finding(f"{worst:.1e} rad over {len(errors)} armings", len(errors) > 1 and worst <= number(bar), tuple(errors))


def loop_slower_by(evidence: Evidence, bar: Bar) -> Finding:
    """The share of commands that come more than 20 ms after the one before grows by at most ``bar`` (a share) while the faults act."""
    commands = evidence.recording.commands
    inside: list[bool] = []
    outside: list[bool] = []
    for a, b in itertools.pairwise(commands):
        gap = b.stamp_ns - a.stamp_ns
        if gap <= _NEW_SEGMENT_NS:
            acting = any(window.since_ns <= b.sent_ns <= window.until_ns for window in evidence.windows)
            (inside if acting else outside).append(gap > 2 * CYCLE_NS)
    if not inside or not outside:
        return Finding("no commands to compare", False)
    late, before = float(np.mean(inside)), float(np.mean(outside))
    return Finding(f"late cycles {100 * late:.1f} % (otherwise {100 * before:.1f} %)", late - before <= number(bar), (late, before))


def largest_gap_ms(evidence: Evidence, bar: Bar) -> Finding:
    """While the faults act no command comes more than ``bar`` ms after the one before."""
    gaps = [
        (b.sent_ns - a.sent_ns) * MS
        for a, b in itertools.pairwise(evidence.recording.commands)
        if any(window.since_ns <= b.sent_ns <= window.until_ns for window in evidence.windows)
    ]
    worst = max(gaps, default=float("inf"))
    return Finding(f"longest pause between commands {worst:.0f} ms", worst <= number(bar), tuple(gaps) if gaps else ())


def clearance_m(evidence: Evidence, bar: Bar) -> Finding:
    """At every published point, the braking trajectories' included, links keep ``bar`` m from each other and from the table, by PyBullet."""
    with Oracle() as oracle:
        least, pair = oracle.least_distance(evidence.recording.commands)
    return Finding(f"least distance {1e3 * least:.1f} mm ({pair})", least >= number(bar), (least,))


def workspace_m(evidence: Evidence, bar: Bar) -> Finding:
    """At every published point the tool is at least ``bar`` m inside the guardrail's workspace as the scenario gives it, by PyBullet."""
    given = (evidence.scenario.parameters or {}).get("guardrail_node", {}).get("workspace", "")
    box = yaml.safe_load(str(given).strip("'")) or {}
    with Oracle() as oracle:
        least = oracle.least_inside(evidence.recording.commands, box["min"], box["max"])
    return Finding(f"tool {'stays inside' if least >= 0 else 'leaves its box'} by {1e3 * abs(least):.0f} mm", least >= number(bar), (least,))


def above_table_m(evidence: Evidence, bar: Bar) -> Finding:
    """At every published point the tool is at least ``bar`` m above the table, by PyBullet."""
    with Oracle() as oracle:
        least = oracle.lowest_tool(evidence.recording.commands)
    return Finding(f"tool at least {1e3 * least:.0f} mm above the table", least >= number(bar), (least,))
