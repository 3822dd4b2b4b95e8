"""What the bench found, for a terminal, for a document, and as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from latent_mpc.charts import AMBER, BLUE, GREEN, INK, MUTED, RED, Line, line_chart
from latent_mpc.markdown_table import markdown_table

# Stages that a reader of the README asks for, in this order; the rest is in the JSON.
TOLD = ("encode one frame", "witness, one frame", "rollout, 64 candidates x 8 steps", "actor, 64 latents", "temporal distance, 64 latents")
# Bars whose lengths differ by less are drawn from zero.
_STEEP = 10.0
_COLOURS = (BLUE, RED, GREEN, AMBER, INK, MUTED)
_SVG = '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" font-family="system-ui, sans-serif" font-size="12" fill="#66737f" '


def text(result: Mapping[str, Any]) -> str:
    """The result as text for a terminal."""
    lines = [_machine(result["machine"])]
    for stage in result["stages"]:
        limit = "" if stage["limit_ms"] is None else f"  limit {stage['limit_ms']:.3f} ms, {stage['ratio_to_limit']:.1f} x"
        lines.append(f"{stage['name']:<52} p50 {stage['ms']['p50']:8.3f} ms  p99 {stage['ms']['p99']:8.3f} ms  cpu {stage['cpu_ms']:8.3f} ms{limit}")
    lines += [f"{name}: {rate:.0f} frames/s" for name, rate in result["frames_per_second"].items()]
    work = ""
    for row in result["peers"]:
        if row["work"] != work:
            work = row["work"]
            lines.append(f"{work}:")
        cost = "" if row["cost"] is None else f"  cost {row['cost']:.2f}"
        lines.append(f"  {row['name'] + ' ' + row['version']:<54} cpu {row['cpu_ms']:10.1f} ms a plan  {_ratio(row['ratio']):>8}{cost}")
    if result.get("plan_ratio"):
        lines.append(f"frame to plan: {result['plan_ratio']:.0f} times less processor time than stable-worldmodel's CEM + LeWM at 300 x 30")
    for row in result.get("scaling", ()):
        sizes = "  ".join(f"{label}: {ms:.3g}" for label, ms in zip(row["labels"], row["cpu_ms"], strict=True))
        lines.append(f"cpu ms by {row['of']} ({row['what']}): {sizes}")
    if "memory" in result:
        lines += [
            f"CEM of {row['iterations']} iterations: peak {row['peak_mb']:.1f} MiB, {row['plan_mb']:.2f} by the plan"
            for row in result["memory"]["plans"]
        ]
        lines.append(
            f"doubling the candidates costs {result['worst_doubling']:.2f} times at most; memory {'flat' if result['memory']['flat'] else 'GROWS'}"
        )
    return "\n".join(lines + [f"left out: {reason}" for reason in result["missing"]])


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables for a document: the machine, stages, peers, and, where they were measured, scaling and nodes."""
    stages = {stage["name"]: stage for stage in result["stages"]}
    told = [stages[name] for name in TOLD if name in stages]
    told += [stage for stage in result["stages"] if stage["name"].startswith(("plan:", "preprocess", "shield"))]
    rows = [[stage["name"], f"{stage['cpu_ms']:.3g}", f"{stage['ms']['p50']:.3g} / {stage['ms']['p99']:.3g}", _limit(stage)] for stage in told]
    parts = [_machine(result["machine"]), markdown_table(["stage", "CPU ms", "wall p50 / p99, ms", "limit, ms (times it)"], rows)]
    if result["peers"]:
        peers = [
            [
                row["work"],
                f"{row['name']} {row['version']}",
                f"{row['cpu_ms']:.4g}",
                _ratio(row["ratio"]),
                "" if row["cost"] is None else f"{row['cost']:.2f}",
            ]
            for row in result["peers"]
        ]
        parts.append(markdown_table(["work", "who", "CPU ms a plan", "ratio", "cost reached"], peers))
    if result.get("scaling"):
        grown = [
            [row["of"], row["what"], " / ".join(row["labels"]), " / ".join(f"{ms:.3g}" for ms in row["cpu_ms"]), _growth(row["per_doubling"])]
            for row in result["scaling"]
        ]
        parts.append(markdown_table(["varied", "of", "sizes", "CPU ms", "per doubling, at most"], grown))
        plans = " and ".join(f"{row['plan_mb']:.2f} MiB for {row['iterations']} iterations" for row in result["memory"]["plans"])
        parts.append(f"A plan of 300 candidates adds {plans} to the process's peak.")
    if result.get("nodes"):
        parts.append(_nodes(result["nodes"]))
    parts += [f"Left out: {reason}." for reason in result["missing"]]
    return "\n\n".join(parts)


def plots(result: Mapping[str, Any]) -> dict[str, str]:
    """SVG files by name: stages and peers as bars on a logarithmic axis, and a chart for each thing that was scaled."""
    made = {
        "stages.svg": bars(
            [
                (stage["name"], stage["cpu_ms"], stage["limit_ms"])
                for stage in result["stages"]
                if stage["name"] in TOLD or stage["name"].startswith(("plan:", "preprocess", "shield"))
            ],
            "CPU ms of a stage; the mark is this machine's limit",
        )
    }
    for number, work in enumerate(dict.fromkeys(row["work"] for row in result["peers"]), 1):
        rows = [(f"{row['name']} {row['version']}", row["cpu_ms"], None) for row in result["peers"] if row["work"] == work]
        made[f"peers-{number}.svg"] = bars(rows, f"CPU ms of a plan: {work}")
    for of in dict.fromkeys(row["of"] for row in result.get("scaling", ()) if row["of"] != "joints"):
        series = [row for row in result["scaling"] if row["of"] == of]
        lines = [
            Line(np.array(row["sizes"], float), np.array(row["cpu_ms"]), _COLOURS[place % len(_COLOURS)], row["what"])
            for place, row in enumerate(series)
        ]
        chart = line_chart(lines, of, "CPU ms of a plan", width=560, height=280).replace("<svg ", f'{_SVG}width="560" height="280" ', 1)
        key = "".join(
            f'<text x="64" y="{26 + 16 * place}" style="fill:{_COLOURS[place % len(_COLOURS)]}">{escape(row["what"])}</text>'
            for place, row in enumerate(series)
        )
        made[f"scaling-{of}.svg"] = chart.replace("</svg>", f"{key}</svg>")
    return made


def write_plots(folder: Path, result: Mapping[str, Any]) -> list[Path]:
    """Write ``plots`` into ``folder``, which is made where it is missing.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, content in plots(result).items():
        (folder / name).write_text(content)
        files.append(folder / name)
    return files


def bars(rows: Sequence[tuple[str, float, float | None]], title: str, width: int = 760) -> str:
    """Horizontal bars of positive values, each with a mark at its limit where it has one; the axis is logarithmic where they are far apart."""
    left, right, top, row_height = 310, 70, 46, 22
    values = [size for _, value, mark in rows for size in (value, mark) if size]
    steep = max(values) >= _STEEP * min(values)
    low, high = (10.0**edge for edge in (np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))))
    height = top + row_height * len(rows) + 10

    def x(value: float) -> float:
        share = np.log(value / low) / np.log(high / low) if steep else value / max(values)
        return left + (width - left - right) * float(share)

    ticks = [10.0**power for power in range(round(np.log10(low)), round(np.log10(high)) + 1)] if steep else []
    parts = [f'<text x="8" y="16" style="fill:{INK}" font-weight="600">{escape(title)}</text>']
    for tick in ticks:
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 6}" y2="{height - 8}" stroke="#e5e9ee"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{top - 10}" text-anchor="middle">{tick:g}</text>')
    for place, (name, value, mark) in enumerate(rows):
        y = top + row_height * place
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end" style="fill:{INK}">{escape(name)}</text>')
        colour = BLUE if mark is not None or name.startswith("latent-mpc") else MUTED
        parts.append(
            f'<rect x="{left}" y="{y + 2}" width="{max(1.0, x(value) - left):.1f}" height="{row_height - 7}" fill="{colour}" fill-opacity="0.8"/>'
        )
        parts.append(f'<text x="{x(value) + 5:.1f}" y="{y + 13}">{value:.4g}</text>')
        if mark:
            parts.append(f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{y}" y2="{y + row_height - 3}" stroke="{RED}" stroke-width="2.5"/>')
    return f'{_SVG}viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(parts)}</svg>'


def _machine(machine: Mapping[str, Any]) -> str:
    int8 = "" if machine["roof_gops_int8"] is None else f", {machine['roof_gops_int8']:.0f} GOP/s int8"
    cores = f"{machine['cores']} cores ({machine['processor']}), load {machine['load'][0]}"
    return f"{cores}; one core: {machine['roof_gflops_fp32']:.0f} GFLOP/s fp32{int8}, {machine['memcpy_gbps']:.1f} GB/s copy"


def _limit(stage: Mapping[str, Any]) -> str:
    return "" if stage["limit_ms"] is None else f"{stage['limit_ms']:.3g} ({stage['ratio_to_limit']:.1f})"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} x" if ratio < 10 else f"{ratio:.0f} x"


def _growth(factors: Sequence[float]) -> str:
    return f"{max(factors):.2f}" if factors else ""


def _nodes(content: Mapping[str, Any]) -> str:
    """What the nodes did at each rate of the camera, a column each; what is no list of rates is one column."""
    rates = content.get("rates")
    columns = [_flat(row) for row in rates] if isinstance(rates, list) and rates else [_flat(content)]
    names = list(dict.fromkeys(name for column in columns for name in column))
    head = ["nodes", *(f"{column['rate_hz']:g} Hz" if "rate_hz" in column else "measured" for column in columns)]
    return markdown_table(head, [[name, *(_value(column.get(name)) for column in columns)] for name in names if name != "rate_hz"])


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{before}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def _value(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
