"""Checks of what the nodes said, counted, refused, and did afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from latent_mpc.bag import stamp_ns
from latent_mpc.faults_evidence import MS, Evidence, Finding, number, reactions, times
from latent_mpc.faults_recording import Status
from latent_mpc.faults_scenario import Bar

ERROR_LEVEL = 2


def reaches(evidence: Evidence, bar: Bar) -> Finding:
    """In each window the guardrail says one of the states."""
    states = (bar,) if isinstance(bar, str) else bar
    assert isinstance(states, tuple)
    seen = [sorted({status.message for status in evidence.recording.said(window)}) for window in evidence.windows]
    met = bool(seen) and all(set(states) & set(found) for found in seen)
    return Finding(f"says {', '.join(sorted({state for found in seen for state in found}))}", met)


def reason(evidence: Evidence, bar: Bar) -> Finding:
    """In each window the guardrail's reason contains the text."""
    assert isinstance(bar, str)
    said = [[status.values.get("reason", "") for status in evidence.recording.said(window)] for window in evidence.windows]
    met = bool(said) and all(any(bar in text for text in texts) for texts in said)
    distinct = list(dict.fromkeys(text for texts in said for text in texts if text))
    return Finding(f'reason "{next((text for text in distinct if bar in text), "; ".join(distinct[:3]))}"', met)


def error_within_ms(evidence: Evidence, bar: Bar) -> Finding:
    """The guardrail's status is ERROR at most ``bar`` ms after the fault, and /diagnostics says so too."""
    found: list[float | None] = []
    for window in evidence.windows:
        first = next((status for status in evidence.recording.said(window) if status.level == ERROR_LEVEL), None)
        array = any(s.level == ERROR_LEVEL and s.name == "guardrail_node" and s.time_ns >= window.since_ns for s in evidence.recording.others)
        found.append((first.time_ns - window.since_ns) * MS if first is not None and array else None)
    finding = times(found, number(bar), "ms", "no ERROR in status and diagnostics")
    return Finding(f"ERROR after {finding.measured}" if finding.values else finding.measured, finding.met, finding.values)


def counted(evidence: Evidence, bar: Bar) -> Finding:
    """A counter of the guardrail's status, or ``node counter`` of /diagnostics, grows after the faults began. Several: all of them."""
    names = (bar,) if isinstance(bar, str) else bar
    assert isinstance(names, tuple)
    grown = {name: _growth(evidence, name) for name in names}
    text = ", ".join(f"{name} +{count:.0f}" for name, count in grown.items())
    return Finding(text, all(count > 0 for count in grown.values()), tuple(grown.values()))


def _growth(evidence: Evidence, name: str) -> float:
    node, _, key = name.rpartition(" ")
    source: Sequence[Status] = evidence.recording.guard if not node else [s for s in evidence.recording.others if s.name == node]
    values = [(status.time_ns, float(status.values[key])) for status in source if key in status.values]
    since = evidence.windows[0].since_ns if evidence.windows else 0
    before = [value for time_ns, value in values if time_ns <= since]
    after = [value for time_ns, value in values if time_ns > since]
    return max(after, default=0.0) - (before[-1] if before else 0.0)


def noticed_within_ms(evidence: Evidence, bar: Bar) -> Finding:
    """At most ``bar`` ms after the fault there is a sign of it: a braking command, or a status that is not OK."""
    found: list[float | None] = []
    for pair, window in zip(reactions(evidence), evidence.windows, strict=True):
        signs = [status.time_ns for status in evidence.recording.said(window) if status.level > 0]
        signs += [pair[0].sent_ns] if pair is not None else []
        found.append((min(signs) - window.since_ns) * MS if signs else None)
    finding = times(found, number(bar), "ms", "no sign")
    return Finding(f"noticed after {finding.measured}" if finding.values else finding.measured, finding.met, finding.values)


def fuzzed(evidence: Evidence, bar: Bar) -> Finding:
    """At least ``bar`` malformed payloads were sent."""
    count = max((int(event.get("fuzzed", 0)) for event in evidence.recording.events), default=0)
    return Finding(f"{count} malformed payloads", count >= number(bar), (float(count),))


def plan_age_ms(evidence: Evidence, bar: Bar) -> Finding:
    """While the faults act no plan leaves that was made from a frame older than ``bar`` ms."""
    ages = [
        (entry.time_ns - stamp_ns(entry.message.header.stamp)) * MS
        for entry in evidence.recording.plans
        if any(window.since_ns <= entry.time_ns <= window.until_ns for window in evidence.windows)
    ]
    oldest = max(ages, default=0.0)
    return Finding(f"{len(ages)} plans, oldest frame {oldest:.0f} ms", oldest <= number(bar), tuple(ages))


def no_latents(evidence: Evidence, bar: Bar) -> Finding:
    """At most ``bar`` latents leave while the faults act, and some leave afterwards or before."""
    inside = [time for time in evidence.recording.latents_ns if any(w.since_ns + 2e8 < time < w.ended_ns for w in evidence.windows)]
    outside = len(evidence.recording.latents_ns) - len(inside)
    return Finding(f"{len(inside)} latents from refused pictures", len(inside) <= number(bar) and outside > 0, (float(len(inside)),))


def rearmed(evidence: Evidence, bar: Bar) -> Finding:
    """After every repeat the arm was armed and, where it is to, moved again, with at most ``bar`` starts of the guardrail."""
    events = [event for event in evidence.recording.events if event["what"] in ("rearmed", "not_rearmed")]
    failed = [str(event["reason"]) for event in events if event["what"] == "not_rearmed"]
    starts = max((int(event["guardrail_starts"]) for event in events), default=0)
    if failed or len(events) < len(evidence.windows) or not events:
        return Finding(f"not re-armed: {failed[0] if failed else 'the run ended before'}", False)
    return Finding(f"re-armed {len(events)} of {len(evidence.windows)} times, guardrail started {starts} time(s)", starts <= number(bar))


def alive(evidence: Evidence, bar: Bar) -> Finding:
    """At most ``bar`` nodes died unasked or printed a traceback."""
    broken = {**evidence.played.dead, **{name: "Traceback" for name, text in evidence.played.said.items() if "Traceback" in text}}
    first = next(iter(broken.items()), None)
    return Finding("no node died" if first is None else f"{first[0]}: {first[1]}", len(broken) <= number(bar), (float(len(broken)),))


def arm_refused(evidence: Evidence, bar: Bar) -> Finding:
    """Each attempt to arm while stopped was refused; ``bar`` is the least number of attempts."""
    answers = [event for event in evidence.recording.events if event["what"] == "arm_answer"]
    refused = sum(not event["success"] for event in answers)
    return Finding(f"{refused} of {len(answers)} armings refused while latched", refused == len(answers) >= number(bar), (float(refused),))


def ends_with(evidence: Evidence, bar: Bar) -> Finding:
    """The last thing that the recorder under test printed contains the text."""
    assert isinstance(bar, str)
    said = evidence.played.said.get("recorder_node", "").strip().splitlines()
    last = said[-1] if said else "nothing"
    return Finding(f'recorder: "{last.rpartition("/")[2]}"', bar in last)
