"""What somebody who watches a demo sees in the terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from latent_mpc.director import Progress as EpisodeProgress
from latent_mpc.outcome import EpisodeOutcome


class Screen:
    """A bar for all episodes and one for the present one, and a line for each that is over. Use as a context manager."""

    def __init__(self, console: Console, episodes: int) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._all = self._bars.add_task("episodes", total=episodes, text="starting the nodes")
        self._episode: TaskID | None = None

    def __enter__(self) -> Screen:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """What is going on."""
        self._bars.update(self._all, text=text)

    def show(self, now: EpisodeProgress) -> None:
        """A moment of an episode."""
        if self._episode is None:
            self._episode = self._bars.add_task("", total=now.steps, text="")
        text = (
            f"{100 * now.distance_m:5.1f} cm to the goal, {now.plan_rate_hz:4.1f} plans/s, "
            f"{now.guardrail.interventions} interventions, {now.state.lower()}"
        )
        self._bars.update(self._episode, description=f"seed {now.seed}", completed=now.step, text=text)

    def finish(self, outcome: EpisodeOutcome) -> None:
        """The end of an episode."""
        if self._episode is not None:
            self._bars.remove_task(self._episode)
            self._episode = None
        self._bars.advance(self._all)
        mark = "[green]reached[/]" if outcome.success else f"[red]{outcome.outcome}[/]"
        self._console.print(
            f"  seed {outcome.seed}: {mark}, {100 * outcome.start_distance_m:.1f} -> {100 * outcome.final_distance_m:.1f} cm"
            f" in {outcome.steps} steps, {outcome.seconds:.1f} s"
        )
