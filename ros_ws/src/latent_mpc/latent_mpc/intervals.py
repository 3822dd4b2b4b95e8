"""How sure a success rate is."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054


def wilson95(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval for a rate (Wilson 1927)."""
    if trials == 0:
        return 0.0, 1.0
    rate, square = successes / trials, _Z95**2
    centre = (rate + square / (2 * trials)) / (1 + square / trials)
    half = _Z95 / (1 + square / trials) * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_test(better: int, worse: int) -> float:
    """Two-sided p of ``better`` against ``worse`` among the pairs that differ, were both equally likely."""
    total = better + worse
    if total == 0:
        return 1.0
    tail = float(sum(math.comb(total, k) for k in range(min(better, worse) + 1))) / float(2**total)
    return min(1.0, 2 * tail)
