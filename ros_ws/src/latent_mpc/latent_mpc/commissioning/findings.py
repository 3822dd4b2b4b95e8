"""What the check found: a line for each thing that was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Verdict(Enum):
    """``SKIPPED`` is what could not be looked at because something above it failed, or is not there to be checked."""

    PASSED = "pass"
    FAILED = "FAIL"
    SKIPPED = "skip"


@dataclass(frozen=True)
class Finding:
    """``key`` names what was looked at, such as ``camera.rate``; ``seen`` is what was found, ``advice`` what to do about it."""

    key: str
    verdict: Verdict
    seen: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """The finding as JSON."""
        return {"key": self.key, "verdict": self.verdict.value, "seen": self.seen, "advice": self.advice}


def judged(key: str, good: bool, seen: str, advice: str) -> Finding:
    """Passed when ``good``; ``advice`` is given only when not."""
    return Finding(key, Verdict.PASSED, seen) if good else Finding(key, Verdict.FAILED, seen, advice)


def skipped(key: str, why: str) -> Finding:
    """Not looked at."""
    return Finding(key, Verdict.SKIPPED, why)


def failures(findings: Sequence[Finding]) -> list[str]:
    """The keys of what failed."""
    return [finding.key for finding in findings if finding.verdict is Verdict.FAILED]


def table(findings: Sequence[Finding]) -> str:
    """One line for each finding, the advice below those that failed, and a last line that sums up."""
    width = max(len(finding.key) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict.value}  {finding.key:<{width}}  {finding.seen}")
        if finding.verdict is Verdict.FAILED:
            lines.append(f"      {'':<{width}}  -> {finding.advice}")
    failed = len(failures(findings))
    skips = sum(finding.verdict is Verdict.SKIPPED for finding in findings)
    lines.append(f"{len(findings) - failed - skips} passed, {failed} failed, {skips} skipped")
    return "\n".join(lines)


def report(robot: str, findings: Sequence[Finding], unverified: Sequence[str]) -> dict[str, Any]:
    """Everything as JSON."""
    return {
        "robot": robot,
        "passed": not failures(findings),
        "failures": failures(findings),
        "findings": [finding.to_json() for finding in findings],
        "unverified": list(unverified),
    }
