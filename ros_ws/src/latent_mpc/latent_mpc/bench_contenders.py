"""Planners side by side on the same problems: processor time, and what their plans cost by one judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from world_model.protocol import F32

OURS = "latent-mpc"


class MissingPeerError(ValueError):
    """A peer that is not installed or cannot be imported, with the reason in one line."""


def peer_version(package: str) -> str:
    """The version of ``package`` that is installed.

    Raises:
        MissingPeerError: none is.
    """
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise MissingPeerError(f"{package} is not installed; `make bench` installs the peers") from error


@dataclass(frozen=True)
class Contender:
    """A planner: ``plan(i)`` solves problem ``i`` and returns actions ``(H, A) float32``. ``package`` and ``version`` say whose it is.

    It does so ``repeats`` times in each turn: what takes milliseconds is not timed by one run.
    """

    name: str
    package: str
    version: str
    plan: Callable[[int], F32]
    repeats: int = 1

    @property
    def label(self) -> str:
        """How it is called in tables."""
        return f"{self.package} {self.version}: {self.name}"


def compare(
    work: str,
    contenders: Sequence[Contender],
    problems: int,
    reference: str,
    report: Callable[[int, int], None],
    judge: Callable[[int, F32], float] | None = None,
    iterations: int | None = None,
    warm_up: bool = True,
) -> list[dict[str, Any]]:
    """Let each contender solve each of ``problems``, problem by problem, so that a busy moment hits all alike; rows of the bench's ``peers``.

    ``cpu_ms`` is the median of all plans, ``ratio`` a contender's over that of the one called ``reference``; ``cost`` is the mean of what
    ``judge`` says of its plans.
    """
    if warm_up:
        for contender in contenders:
            contender.plan(0)
    cpu: dict[str, list[float]] = {contender.label: [] for contender in contenders}
    costs: dict[str, list[float]] = {contender.label: [] for contender in contenders}
    for problem in range(problems):
        for contender in contenders:
            for _ in range(contender.repeats):
                begun = time.process_time()
                actions = contender.plan(problem)
                cpu[contender.label].append(1e3 * (time.process_time() - begun))
            if judge is not None:
                costs[contender.label].append(judge(problem, actions))
        report(problem + 1, problems)
    base = next((float(np.median(cpu[contender.label])) for contender in contenders if contender.name == reference), None)
    rows = []
    for contender in contenders:
        cpu_ms = float(np.median(cpu[contender.label]))
        row: dict[str, Any] = {"name": f"{contender.package}: {contender.name}", "version": contender.version, "work": work, "cpu_ms": cpu_ms}
        row["ratio"] = cpu_ms / base if base else None  # of its time to the reference's
        row["ms_per_iteration"] = cpu_ms / iterations if iterations else None
        row["cost"] = float(np.mean(costs[contender.label])) if judge is not None else None
        row["plans"] = problems * contender.repeats
        rows.append(row)
    return rows
