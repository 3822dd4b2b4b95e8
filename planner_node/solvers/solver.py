"""What a solver is: a strategy that proposes, one iteration after another, and a loop that stops it at the deadline and keeps the best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from planner_node.plan import Plan, Problem
from planner_node.solvers.search import Imagination, Search


@dataclass(frozen=True)
class Deadline:
    """Seconds that a search may take, from the moment the deadline is made, on a monotonic clock; or, without a clock, so many ``iterations``.

    ``called_off`` may end it before: somebody waits.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(default=0.0)
    iterations: int | None = None
    called_off: Callable[[], bool] = lambda: False

    @staticmethod
    def after(seconds: float, clock: Callable[[], float] = time.monotonic, called_off: Callable[[], bool] = lambda: False) -> Deadline:
        """A deadline that starts now."""
        return Deadline(seconds, clock, clock(), called_off=called_off)

    @staticmethod
    def counted(iterations: int | None) -> Deadline:
        """So many iterations, or all that the strategy has: what is found then does not depend on the machine."""
        return Deadline(math.inf, lambda: 0.0, 0.0, iterations)

    def elapsed(self) -> float:
        """Seconds since it was made."""
        return self.clock() - self.started

    def passed(self, done: int = 0) -> bool:
        """Whether the time is up, or the iterations that were ``done`` are all that there may be."""
        return self.elapsed() >= self.seconds or self.called_off() if self.iterations is None else done >= self.iterations


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
        before, cut = 0.0, False
        for _ in self.strategy.iterate(search, deadline):
            if deadline.iterations is not None:
                cut = deadline.passed(search.iterations)
            else:
                now = deadline.elapsed()
                cut = now + (now - before) > deadline.seconds or deadline.called_off()
                before = now
            if cut:
                break
        return replace(search.plan(self.name, deadline.elapsed()), cut=cut)
