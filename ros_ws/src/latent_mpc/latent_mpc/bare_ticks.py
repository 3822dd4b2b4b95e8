"""A loop of 100 Hz with nothing in it, in a process of its own: how late the machine alone makes a loop of that priority.

Run as ``python -m latent_mpc.bare_ticks SECONDS PRIORITY``.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np

from ros_bridge.scheduling import go_first

_PERIOD_S = 0.01


@dataclass(frozen=True)
class BareTicks:
    """``late``: when (Unix time, ns) a tick came too long after the one before. ``jitter_ms_*``: how far the time between two ticks is from 10 ms."""

    late: list[int]
    jitter_ms_p50: float
    jitter_ms_p99: float
    jitter_ms_max: float


def tick(seconds: float, late_s: float) -> BareTicks:
    """Wake up every 10 ms for ``seconds``; a tick that comes ``late_s`` after the one before is late."""
    gc.disable()
    began = last = time.monotonic()
    gaps, late = [], []
    while last - began < seconds:
        time.sleep(max(0.0, _PERIOD_S - (last - began) % _PERIOD_S))
        now = time.monotonic()
        gaps.append(now - last)
        if now - last > late_s:
            late.append(time.time_ns())
        last = now
    p50, p99, most = (float(value) for value in np.quantile(1e3 * np.abs(np.array(gaps) - _PERIOD_S), (0.5, 0.99, 1.0)))
    return BareTicks(late, p50, p99, most)


def stolen_s() -> float:
    """Seconds that the host of a virtual machine has taken from its cores since it began, all cores together; 0 where nobody says."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return int(file.readline().split()[8]) / 100.0
    except (OSError, IndexError, ValueError):
        return 0.0


if __name__ == "__main__":
    go_first(sys.argv[2])
    print(json.dumps(asdict(tick(float(sys.argv[1]), 0.02))))
