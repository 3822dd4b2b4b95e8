"""Several strategies on one problem: they take turns, share the deadline and the pool, and the best feasible candidate of all wins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner_node.settings import SettingsError, require_counts
from planner_node.solvers.search import Search
from planner_node.solvers.solver import Deadline, Strategy


@dataclass(frozen=True)
class MixtureConfig:
    """``members`` by name, each with its own settings, but all with one ``horizon``: costs at the end of different horizons cannot be compared.

    Order matters: a member that searches around something begins at the best that was found before its first turn. The default is a search that is
    handed the actor's own future, and is free to leave it.
    """

    members: tuple[str, ...] = ("actor", "icem")
    horizon: int = 10

    def __post_init__(self) -> None:
        require_counts("mixture", horizon=self.horizon)
        if not self.members or "mixture" in self.members or len(set(self.members)) < len(self.members):
            raise SettingsError(f"solver 'mixture': members are {', '.join(self.members) or 'none'}; name at least one other solver, none twice")


class Mixture:
    """Keeps its members."""

    def __init__(self, members: Sequence[Strategy]) -> None:
        self._members = members

    def iterate(self, search: Search, deadline: Deadline) -> Iterator[None]:
        """One iteration of each in turn, until none has any left."""
        waiting = [member.iterate(search, deadline) for member in self._members]
        while waiting:
            for turn in tuple(waiting):
                if next(turn, waiting) is waiting:
                    waiting.remove(turn)
                else:
                    yield
