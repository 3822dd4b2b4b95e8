"""What runs where, and why nothing better does: for the log and for /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class GraphChoice:
    """Where one graph runs. ``passed_over``: what was not chosen for it, with the reason, in the order in which it was tried."""

    graph: str
    runs_on: str
    precision: str
    passed_over: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RuntimeChoice:
    """What was chosen for every graph that was asked about.

    ``device`` and ``software`` are what engines belong to, ``engines`` is their folder or empty.
    """

    asked: str
    graphs: tuple[GraphChoice, ...]
    device: str
    software: str
    engines: str = ""

    @property
    def runs_on(self) -> str:
        """Every place that a graph runs on, in the order of first mention."""
        return ", ".join(dict.fromkeys(choice.runs_on for choice in self.graphs))

    @property
    def reasons(self) -> dict[str, str]:
        """Why something was passed over. One that holds for several graphs is told once."""
        told: dict[tuple[str, str], list[str]] = {}
        for choice in self.graphs:
            for what, why in choice.passed_over:
                told.setdefault((what, why), []).append(choice.graph)
        found: dict[str, str] = {}
        for (what, why), graphs in told.items():
            text = why if len(graphs) == len(self.graphs) else f"{', '.join(graphs)}: {why}"
            found[what] = f"{found[what]}; {text}" if what in found else text
        return found

    def values(self, first_run_ms: Mapping[str, float]) -> dict[str, str]:
        """By name, for ``/diagnostics``. ``first_run_ms``: what the first run of each graph took that has run, ms."""
        graphs = {f"runtime_{choice.graph}": f"{choice.runs_on} {choice.precision}{_first(choice.graph, first_run_ms)}" for choice in self.graphs}
        reasons = {f"runtime_not_{what}": why for what, why in self.reasons.items()}
        return {"runtime": self.runs_on, "runtime_asked": self.asked, "runtime_device": self.device, **graphs, **reasons}

    def lines(self, first_run_ms: Mapping[str, float]) -> list[str]:
        """The same for the log: first what runs where, then why nothing better does."""
        ran = "; ".join(f"{c.graph} on {c.runs_on} in {c.precision}{_first(c.graph, first_run_ms)}" for c in self.graphs)
        head = f"runtime '{self.asked}' on {self.device} ({self.software}): {ran}"
        engines = [f"engines and timings are kept in {self.engines}"] if self.engines else []
        return [head, *engines, *(f"not {what}: {why}" for what, why in self.reasons.items())]


def _first(graph: str, first_run_ms: Mapping[str, float]) -> str:
    return f" (first run {first_run_ms[graph]:.0f} ms)" if graph in first_run_ms else ""
