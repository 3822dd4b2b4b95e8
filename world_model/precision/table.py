"""``parity.json`` as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from world_model.precision.tolerance import TOLERATED

_HEAD = (
    f"{'graph':<16} {'precision':<13} {'KiB':>7}  {'worst':>8} {'mean':>8} {'relative':>8} {'cosine least':>12} {'mean':>8}   on random: {'worst':>8}"
)


def table(report: dict[str, Any]) -> str:
    """A row for each graph in each precision, and what it means for plans."""
    lines = [_HEAD]
    for graph, rows in report["graphs"].items():
        for precision, row in rows.items():
            shown = row.get("recorded", row["random"])
            lines.append(
                f"{graph:<16} {precision:<13} {row['bytes'] / 1024:7.0f}  {shown['worst']:8.1e} {shown['mean']:8.1e} {shown['relative']:8.1e} "
                f"{_cosine(shown['cosine_least']):>12} {_cosine(shown['cosine_mean']):>8}              {row['random']['worst']:8.1e}"
            )
    for precision, plans in report["plans"].items():
        share = plans["lost"] / plans["spread"] if plans["spread"] else 0.0
        lines.append(
            f"plans in {precision}: same winner of {plans['candidates']} in {100 * plans['same']:.0f} % of {plans['scenes']} scenes; choosing by it "
            f"costs {plans['lost']:.3f} on average, {100 * share:.2f} % of the spread, {plans['lost_most']:.2f} at worst"
        )
    for precision, rows in report.get("calibrations", {}).items():
        lines += _verdicts(precision, rows)
    lines += [played_line(precision, played) for precision, played in report["closed_loop"].items()]
    return "\n".join(lines)


def played_line(precision: str, played: dict[str, Any]) -> str:
    """What was played, in one line."""
    return (
        f"{played['task']} in {precision}: success {played['success_percent']:.1f} %, fp32 {played['fp32_success_percent']:.1f} %, "
        f"{played['episodes']} episodes, better {played['better']}, worse {played['worse']}, p = {played['p']:.3g}"
    )


def _verdicts(precision: str, rows: dict[str, Any]) -> Iterator[str]:
    """What becomes in ``precision`` of thresholds that were calibrated in fp32."""
    if found := rows.get("surprise"):
        yield (
            f"surprise in {precision}: {100 * found['changed']:.2f} % of {found['frames']} recorded frames judged otherwise by the threshold "
            f"{found['threshold']:.3f}, {100 * found['changed_at_own']:.2f} % by {found['own_threshold']:.3f}, their own; {100 * TOLERATED:g} % "
            f"tolerated; scores differ by {found['mean']:.4f} on average, {found['worst']:.3f} at worst"
        )
    for head in rows.get("heads", {}).values():
        yield (
            f"head '{head['name']}' in {precision}: {100 * head['overlooked']:.1f} % of {head['forbidden']} frames that it forbids pass; "
            f"margins differ by {head['mean']:.4f} on average, {head['worst']:.3f} at worst, on {head['frames']} frames"
        )


def _cosine(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"
