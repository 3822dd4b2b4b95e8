"""What a controller executes when it hears the guard, and whether that keeps the limits. Knows nothing of the shield."""

from __future__ import annotations

import numpy as np

CYCLE_S = 0.01


def executed(commands):
    """Positions ``(T, J)`` on consecutive slots from ``commands``: pairs of (slot, positions (N, J) for the slots after it).

    A command is followed until the first point of the next one is due; its last point is held.
    """
    rows = []
    for (slot, points), following in zip(commands, [*commands[1:], None], strict=True):
        count = len(points) if following is None else following[0] - slot
        assert count >= 1, "slots must increase"
        rows += [points[min(index, len(points) - 1)] for index in range(count)]
    return np.array(rows)


def violations(positions, limits, tolerance=1e-6):
    """How many samples break each limit, by finite differences of the positions alone; the arm stands before the first sample."""
    positions = np.vstack([positions[:1]] * 3 + [positions])
    count = {
        "non_finite": int((~np.isfinite(positions)).sum()),
        "position": int(((positions < limits.lower) | (positions > limits.upper)).sum()),
    }
    derivative = positions
    for name in ("velocity", "acceleration", "jerk"):
        derivative = np.diff(derivative, axis=0) / CYCLE_S
        count[name] = int((np.abs(derivative) > getattr(limits, name) * (1.0 + tolerance)).sum())
    return count


NONE = {"non_finite": 0, "position": 0, "velocity": 0, "acceleration": 0, "jerk": 0}
