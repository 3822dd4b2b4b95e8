"""Let a process go first where cores are short, as far as the machine permits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

WISHES = ("auto", "realtime", "nice", "none")
_PRIORITY = 20
_NICENESS = -10


def go_first(wish: str) -> str:
    """Give every thread of this process what ``wish`` asks for, one of ``WISHES``; what was obtained, in words for the diagnostics.

    ``realtime`` is SCHED_FIFO with priority 20, above everything that is not real-time; ``nice`` is -10; ``auto`` the first of both that is permitted
    (rights: CAP_SYS_NICE, or ``rtprio`` and ``nice`` in /etc/security/limits.conf). Threads that these start later have the same.
    """
    if wish in ("auto", "realtime") and _each_thread(lambda thread: os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(_PRIORITY))):
        return f"realtime, SCHED_FIFO {_PRIORITY}"
    if wish in ("auto", "nice") and _each_thread(lambda thread: os.setpriority(os.PRIO_PROCESS, thread, _NICENESS)):
        return f"nice {_NICENESS}"
    return "as any other process" if wish == "none" else f"as any other process: {wish} is not permitted"


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
