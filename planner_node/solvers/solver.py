"""What a solver is: a strategy that proposes, one iteration after another, and a loop that stops it at the deadline and keeps the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from planner_node.plan import Plan, Problem
from planner_node.solvers.search import Imagination, Search


@dataclass(frozen=True)
class Deadline:
    """Seconds that a search may take, from the moment the deadline is made, on a monotonic clock."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(default=0.0)

    @staticmethod
    def after(seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """A deadline that starts now."""
        return Deadline(seconds, clock, clock())

    def elapsed(self) -> float:
        """Seconds since it was made."""
        return self.clock() - self.started

    def passed(self) -> bool:
        """Whether the time is up."""
        return self.elapsed() >= self.seconds


class Solver(Protocol):
    """Searches for the best feasible future."""

    def plan(self, problem: Problem, deadline: Deadline) -> Plan:
        """The best plan found before the deadline; at least one iteration is always done.

        ``Plan.feasible`` says whether it may be carried out.
        """
        ...


class Strategy(Protocol):
    """How candidates come to be."""

    def iterate(self, search: Search, deadline: Deadline) -> Iterator[None]:
        """Hand candidates to ``search`` and yield after each iteration. It may be left after any of them, and is not told."""
        ...


@dataclass(frozen=True)
class AnytimeSolver:
    """Runs a strategy until it has no more iterations or the deadline passes; the best *feasible* candidate of all iterations is the plan.

    Iterations are whole. One that, taking as long as the one before it, would end after the deadline is not begun; the first always is.
    """

    name: str
    strategy: Strategy
    imagination: Imagination

    def plan(self, problem: Problem, deadline: Deadline) -> Plan:
        """See ``Solver``."""
        search = Search(problem, self.imagination)
        before = 0.0
        for _ in self.strategy.iterate(search, deadline):
            now = deadline.elapsed()
            if now + (now - before) > deadline.seconds:
                break
            before = now
        return search.plan(self.name, deadline.elapsed())
