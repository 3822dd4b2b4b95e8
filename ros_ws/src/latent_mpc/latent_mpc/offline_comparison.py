"""What came out of a replay beside what was recorded: where the first difference is, and how large they get."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.offline_bag import Timed, by_stamp
from ros_bridge.joints import Trajectory


@dataclass(frozen=True)
class Difference:
    """Something that came out otherwise: on which topic, of which stamp, so many seconds into the bag, and in words what and by how much."""

    topic: str
    stamp_ns: int
    at_s: float
    what: str


@dataclass(frozen=True)
class Agreement:
    """How a topic came out.

    ``compared`` have the same stamp in both; ``identical`` of them are the same to the bit. ``only_then`` and ``only_now`` have no counterpart.
    ``largest`` is the largest difference of a number, in ``unit``.
    """

    topic: str
    compared: int
    identical: int
    only_then: int
    only_now: int
    largest: float
    unit: str
    first: Difference | None

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return self.identical == self.compared and not self.only_then and not self.only_now

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def compare_vectors(topic: str, then: Sequence[Timed], now: Sequence[Timed], start_ns: int, complete: bool = True) -> Agreement:
    """Latents by stamp. Where the recorded run did not have to make all of them, it is not ``complete``: those made only now are no difference."""
    return _compare(topic, then, now, start_ns, "", _vectors, complete)


def compare_trajectories(
    topic: str, then: Sequence[Timed], now: Sequence[Timed], start_ns: int, joints: Sequence[str], until_ns: int | None = None
) -> Agreement:
    """Plans or commands by stamp, in rad; those after ``until_ns`` are left out: nobody knows any more what they were made from."""
    then, now = ([entry for entry in entries if until_ns is None or entry.stamp_ns <= until_ns] for entries in (then, now))
    return _compare(topic, then, now, start_ns, "rad", lambda one, other: _trajectories(one, other, joints), True)


def _compare(topic: str, then: Sequence[Timed], now: Sequence[Timed], start_ns: int, unit: str, look: Any, complete: bool) -> Agreement:
    waiting = {stamp: deque(entries) for stamp, entries in by_stamp(now).items()}
    compared = identical = only_then = 0
    largest = 0.0
    found: list[Difference] = []

    def differs(stamp: int, what: str) -> None:
        found.append(Difference(topic, stamp, (stamp - start_ns) * 1e-9, what))

    for entry in then:
        if not waiting.get(entry.stamp_ns):
            only_then += 1
            differs(entry.stamp_ns, "was there then, is not now")
            continue
        size, what = look(entry.value, waiting[entry.stamp_ns].popleft().value)
        compared += 1
        identical += not what
        largest = max(largest, size)
        if what:
            differs(entry.stamp_ns, what)
    # Before the recorder came and after it went, nobody knows what there was.
    heard = range(min((entry.stamp_ns for entry in then), default=0), max((entry.stamp_ns for entry in then), default=-1) + 1)
    left = [entry for entries in waiting.values() for entry in entries if entry.stamp_ns in heard]
    if complete:
        for entry in left:
            differs(entry.stamp_ns, "is there now, was not then")
    first = min(found, key=lambda difference: difference.stamp_ns, default=None)
    return Agreement(topic, compared, identical, only_then, len(left) if complete else 0, largest, unit, first)


def _vectors(then: NDArray[np.float32], now: NDArray[np.float32]) -> tuple[float, str]:
    if then.shape != now.shape:
        return 0.0, f"{now.size} numbers instead of {then.size}: another model"
    if np.array_equal(then, now):
        return 0.0, ""
    gap = np.abs(now.astype(np.float64) - then)
    worst = int(gap.argmax())
    return float(gap.max()), f"{int((gap > 0).sum())} of {gap.size} numbers differ, number {worst} by {gap[worst]:.3g}"


def _trajectories(then: Trajectory, now: Trajectory, joints: Sequence[str]) -> tuple[float, str]:
    same_times = np.array_equal(then.times, now.times)
    if same_times and np.array_equal(then.positions, now.positions) and np.array_equal(then.velocities, now.velocities):
        return 0.0, ""
    # Both at all times that either of them names; each is held after its end.
    times = np.union1d(then.times, now.times)
    one, other = (np.stack([np.interp(times, t.times, column) for column in t.positions.T], axis=-1) for t in (then, now))
    gap = np.abs(other - one)
    row, joint = divmod(int(gap.argmax()), gap.shape[1])
    largest = float(gap[row, joint])
    if largest == 0.0:
        return 0.0, "same positions, other times or velocities"
    return (
        largest,
        f"{joints[joint]} {times[row]:.2f} s after the stamp: {other[row, joint]:.6g} rad instead of {one[row, joint]:.6g} ({largest:.3g})",
    )
