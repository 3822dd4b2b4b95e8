"""What a validator says of a plan, as data that a node can publish."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """``SUCCESS``: the winner passed. ``RETRY``: it did not, but a candidate after it. ``REFUSE``: none may be carried out."""

    SUCCESS = "success"
    RETRY = "retry"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Verdict:
    """An outcome, how many candidates were looked at, and in one line why the first of them did not pass."""

    outcome: Outcome
    looked_at: int = 1
    reason: str = ""


PASSED = Verdict(Outcome.SUCCESS)
