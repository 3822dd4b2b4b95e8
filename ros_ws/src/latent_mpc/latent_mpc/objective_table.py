"""The comparison of objectives as a Markdown table, kept between two markers of a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN, END = "<!-- compare-objectives: begin -->", "<!-- compare-objectives: end -->"


class TableError(ValueError):
    """A page that the table cannot be put into."""


def objective_table(rows: list[dict[str, Any]]) -> str:
    """A row for each objective, with 95 % intervals (Wilson) behind success rates."""
    tasks = list(rows[0]["tasks"])
    parts = [part for part in ("tool", "block", "yaw") if any(part in row["probe_r2"] for row in rows)]
    head = ["objective", "weight", f"effective rank of {rows[0]['width']}", *(f"R2 {part}" for part in parts), "one-step error", "warned at step"]
    head += [f"{task}, {policy}" for task in tasks for policy in ("planner", "actor", "random")]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        warned = row["collapse_warned_at_step"]
        cells = [row["objective"], f"{row['weight']:g}" if row["weight"] else "-", f"{row['rank']:.1f}"]
        cells += [f"{row['probe_r2'][part]:.3f}" if part in row["probe_r2"] else "-" for part in parts]
        cells += [f"{row['prediction_error']:.3f}", "-" if warned is None else str(warned)]
        cells += [_rate(row["tasks"][task][policy]) for task in tasks for policy in ("planner", "actor", "random")]
        lines.append(_line(cells))
    return "\n".join(lines)


def _rate(result: dict[str, Any]) -> str:
    low, high = result["ci95"]
    return f"{100 * result['success_rate']:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def put_table(page: Path, table: str) -> None:
    """Replace what stands between the markers of ``page``; a page that does not exist is begun.

    Raises:
        TableError: the page lacks the markers.
    """
    text = page.read_text() if page.exists() else f"{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise TableError(f"{page} lacks the lines {BEGIN} and {END}, between which the table belongs")
    page.parent.mkdir(parents=True, exist_ok=True)
    partial = page.with_name(f".{page.name}.partial")
    partial.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
    partial.replace(page)
