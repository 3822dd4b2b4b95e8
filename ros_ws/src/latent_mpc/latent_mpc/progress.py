"""Progress bars for what takes longer than a second."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def _bars() -> Progress:
    # Every command imports this module; most of them show no bar.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    )


class _LazyBars:
    """Bars that appear with the first report: bad input gets its one line and nothing else."""

    def __init__(self) -> None:
        self.bars = _bars()
        self._tasks: dict[str, TaskID] = {}

    def show(self, name: str, done: int, total: int, text: str) -> None:
        """Move the bar called ``name``, which begins with this call where it is new."""
        if not self._tasks:
            self.bars.start()
        if name not in self._tasks:
            # What an interrupted run did before says nothing about how fast this one is.
            self._tasks[name] = self.bars.add_task(name, completed=done, total=total)
        self.bars.update(self._tasks[name], completed=done, total=total, description=text)

    def stop(self) -> None:
        """Leave the bars as they are."""
        if self._tasks:
            self.bars.stop()


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; call what it yields with (done, all)."""
    lazy = _LazyBars()
    try:
        yield lambda done, total: lazy.show(what, done, total, what)
    finally:
        lazy.stop()


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int, dict[str, float]], None]]:
    """A bar for each stage of a long run; call what it yields with (stage, done, all, numbers to show). A warning is one line."""
    lazy = _LazyBars()

    def report(stage: str, done: int, total: int, numbers: dict[str, float]) -> None:
        shown = "  ".join(f"{name} {value:.3g}" for name, value in numbers.items())
        lazy.show(stage, done, total, f"{stage}  {shown}")

    def say(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None) -> None:
        lazy.bars.console.print(f"warning: {message}", highlight=False, markup=False)

    with warnings.catch_warnings():
        warnings.showwarning = say
        try:
            yield report
        finally:
            lazy.stop()
