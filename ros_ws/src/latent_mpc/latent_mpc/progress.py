"""Progress bars for what takes longer than a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    )


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; call what it yields with (done, all)."""
    with _bars() as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int, dict[str, float]], None]]:
    """A bar for each stage of a long run; call what it yields with (stage, done, all, numbers to show)."""
    with _bars() as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int, numbers: dict[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage)
            shown = "  ".join(f"{name} {value:.2f}" for name, value in numbers.items())
            bars.update(tasks[stage], completed=done, total=total, description=f"{stage}  {shown}")
            if numbers.get("collapsed"):
                bars.console.print(f"{stage}: the latents are collapsing (effective rank {numbers['rank']:.1f}); raise sigreg_weight")

        yield report
