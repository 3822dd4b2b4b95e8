"""Let a process go first where cores are short, or keep it to some of them, as far as the machine permits."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

WISHES = ("auto", "realtime", "nice", "none")
_PRIORITY = 20
BEHIND_THE_GUARDRAIL = 10
"""SCHED_FIFO priority of everything but the guardrail: of two with the same one, whoever runs is not interrupted by the other."""
_NICENESS = -10
_CORES = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


class SchedulingError(ValueError):
    """Cores that cannot be, with the reason in one line."""


def go_first(wish: str, priority: int = _PRIORITY) -> str:
    """Give every thread of this process what ``wish`` asks for, one of ``WISHES``; what was obtained, in words for the diagnostics.

    ``realtime`` is SCHED_FIFO with ``priority``, above everything that is not real-time; ``nice`` is -10; ``auto`` the first of both that is
    permitted (rights: CAP_SYS_NICE, or ``rtprio`` and ``nice`` in /etc/security/limits.conf). Threads that these start later have the same.
    """
    if wish in ("auto", "realtime") and _each_thread(lambda thread: os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))):
        return f"realtime, SCHED_FIFO {priority}"
    if wish in ("auto", "nice") and _each_thread(lambda thread: os.setpriority(os.PRIO_PROCESS, thread, _NICENESS)):
        return f"nice {_NICENESS}"
    return "as any other process" if wish == "none" else f"as any other process: {wish} is not permitted"


def read_cores(text: str) -> frozenset[int]:
    """The cores that ``text`` names, such as ``1`` or ``0,2-3``; none for an empty text, which means any.

    Raises:
        SchedulingError: it is something else.
    """
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _CORES.fullmatch(part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise SchedulingError(f"cpu_affinity is '{text}', must name cores, such as 1 or 0,2-3, or be empty for any")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def keep_to(cores: str) -> str:
    """Let every thread of this process, and those that these start later, run on ``cores`` alone (``read_cores``); what was obtained, in words.

    Raises:
        SchedulingError: the text names no cores, or one that this machine does not have.
    """
    wanted, there = read_cores(cores), os.cpu_count() or 1
    if not wanted:
        return "any core"
    if max(wanted) >= there:
        raise SchedulingError(f"cpu_affinity is '{cores}', this machine has cores 0 to {there - 1}")
    if not hasattr(os, "sched_setaffinity"):
        return f"any core: {cores} is not possible on this system"
    # The kernel takes those that are permitted out of what is asked for, and says nothing.
    kept = _each_thread(lambda thread: os.sched_setaffinity(thread, wanted)) and os.sched_getaffinity(0) == wanted
    return f"cores {cores}" if kept else f"cores {_named(os.sched_getaffinity(0))}: {cores} is not permitted"


def schedule(cores: str, wish: str, warn: Callable[[str], object]) -> str:
    """``keep_to`` and then ``go_first``, behind the guardrail; both in words, and what was not permitted goes to ``warn``.

    Raises:
        SchedulingError: as ``keep_to``.
    """
    obtained = (keep_to(cores), go_first(wish, BEHIND_THE_GUARDRAIL))
    for words in obtained:
        if ": " in words:
            warn(f"scheduling: {words}")
    return "; ".join(obtained)


def _named(cores: set[int]) -> str:
    return ",".join(str(core) for core in sorted(cores))


def _each_thread(act: Callable[[int], None]) -> bool:
    """``act`` on every thread of this process; whether the machine permits it. One that has ended meanwhile needs nothing."""
    try:
        for entry in Path("/proc/self/task").iterdir():
            try:
                act(int(entry.name))
            except ProcessLookupError:
                continue
    except OSError:
        return False
    return True
