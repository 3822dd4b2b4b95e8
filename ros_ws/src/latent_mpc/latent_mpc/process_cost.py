"""What running processes take of the machine, as the kernel counts it (``man 5 proc``)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Fields 14 and 15 of /proc/<pid>/stat, utime and stime, counted from the third, the first after the name in brackets.
_USER, _SYSTEM = 11, 12


@dataclass(frozen=True)
class Reading:
    """Processor seconds that a process had until ``at_s`` on the steady clock."""

    at_s: float
    cpu_s: float


def read_cost(pid: int) -> Reading:
    """What the process has used so far, all its threads together.

    Raises:
        OSError: it is gone.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Reading(time.monotonic(), (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_PER_S)


def cores_used(before: Reading, after: Reading) -> float:
    """Cores that a process kept busy between two readings."""
    return (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s)


def most_memory_mb(pid: int) -> float:
    """The most memory (resident set) that the process ever had, MB of 10^6 bytes.

    Raises:
        OSError: it is gone.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kilobytes) * 1024e-6
