"""A guess at what was meant by a name that does not exist: one mechanism for every message that makes one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question for a message: ``did you mean 'icem'?``; empty where none of ``known`` is like ``name``, because a far guess only misleads."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else ""
