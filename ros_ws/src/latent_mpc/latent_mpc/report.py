"""A demo as one page that needs nothing else: what came of it, how fast it thought and how far from its limits it stayed."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from latent_mpc.bag import NS_PER_S, read_messages, stamp_ns
from latent_mpc.charts import AMBER, BLUE, GREEN, INK, RED, Line, Mark, band, empty, histogram, line_chart, share_bar
from latent_mpc.check_bag import KINDS, TRAJECTORY_TOPIC, CheckReport
from latent_mpc.recording import Recording, read_recording
from latent_mpc.urdf_limits import UrdfLimits, read_urdf_limits

_UNITS = {"position": "rad", "velocity": "rad/s", "acceleration": "rad/s²", "jerk": "rad/s³"}
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 40px 24px 80px; max-width: 1080px; color: #1c2733; background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -0.01em; } h2 { font-size: 18px; margin: 44px 0 6px; }
.muted, header p { color: #66737f; margin: 0 0 14px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 12px; margin: 24px 0 8px; }
.card { border: 1px solid #e5e9ee; border-radius: 10px; padding: 12px 14px; }
.card b { display: block; font-size: 23px; line-height: 1.25; font-weight: 650; } .card span { color: #66737f; font-size: 13px; }
.good b { color: #15803d; } .bad b { color: #c2410c; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 13px; fill: #66737f; } svg text.mark { font-weight: 600; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-size: 13px; font-weight: 600; color: #66737f; }
th, td { padding: 8px 10px 8px 0; border-bottom: 1px solid #e5e9ee; vertical-align: middle; }
td img { width: 84px; height: 84px; image-rendering: pixelated; border-radius: 6px; display: block; }
.pill { display: inline-block; padding: 1px 9px; border-radius: 99px; font-size: 13px; font-weight: 600; background: #fdeee6; color: #c2410c; }
.pill.yes { background: #e6f4ea; color: #15803d; }
.key { display: inline-block; width: 22px; border-top: 3px solid; margin: 0 6px 3px 0; } .legend span { margin-right: 20px; font-size: 13px; }
.bar { position: relative; background: #eef1f4; border-radius: 4px; height: 18px; min-width: 90px; overflow: hidden; }
.bar i { position: absolute; inset: 0 auto 0 0; opacity: .35; } .bar b { position: relative; font-size: 12px; padding-left: 6px; line-height: 18px; }
.joint svg { width: 250px; border-radius: 4px; }
"""


def write_report(out: Path, summary: Mapping[str, Any], bag: Path, check: CheckReport, urdf: Path) -> None:
    """Write the page ``out`` from a demo's summary, its bag and what the checker found in it.

    Raises:
        BagError: the bag cannot be read.
        RecordingError: the bag holds no goal picture or no ground truth.
        OSError: ``out`` cannot be written.
    """
    episodes = _episodes(summary)
    recording = read_recording(bag, [float(episode["seconds"]) for episode in episodes])
    limits = read_urdf_limits(urdf, tuple(check.worst))
    page = report_page(summary, recording, check, limits, _commanded(bag, limits.joints))
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def report_page(
    summary: Mapping[str, Any],
    recording: Recording,
    check: CheckReport,
    limits: UrdfLimits,
    commanded: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> str:
    """The page's HTML. ``commanded`` is time ``(N,) s`` and the set points ``(N, J) rad``, empty when velocities were commanded."""
    task = escape(str(summary["task"]))
    sections = [
        f"<header><h1>Latent MPC: {task}</h1><p>{len(recording.episodes)} episode(s) over ROS 2, "
        f"{(recording.end_ns - recording.start_ns) / NS_PER_S:.0f} s recorded. Every number and picture below comes from the bag "
        f"and the summary beside this page.</p></header>",
        _cards(summary, check),
        _outcomes(summary, recording),
        "<h2>Distance to the goal</h2>",
        _distance(summary, recording),
        "<h2>Planning time</h2><p class='muted'>From the newest picture to a validated plan, in the planner's process.</p>",
        _planning(recording),
        "<h2>Commands against the limits</h2><p class='muted'>Counted from the recorded commands and the URDF alone: positions on the "
        "10 ms grid and their differences. A bar shows how much of the limit was used at the worst moment.</p>",
        _joints(check, limits, commanded),
        "<h2>Guardrail</h2><p class='muted'>Interventions counted since the guardrail started; episodes are shaded.</p>",
        _guardrail(recording),
    ]
    body = "\n".join(sections)
    title = f"<title>Latent MPC: {task}</title>"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{title}<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _episodes(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All episodes in the order in which they were played; the wall task's second pass comes last."""
    second = summary.get("without_zones") or {"episodes": []}
    return [*summary["episodes"], *second["episodes"]]


def _cards(summary: Mapping[str, Any], check: CheckReport) -> str:
    episodes, guardrail = summary["episodes"], summary["guardrail"]
    reached = sum(bool(episode["success"]) for episode in episodes)
    # Green and red only where the numbers themselves say good or bad.
    cards = [
        _card(f"{reached} of {len(episodes)}", "goals reached", "good" if reached == len(episodes) else "bad" if reached == 0 else ""),
        _card(_number(float(np.median([episode["final_distance_m"] for episode in episodes])) * 100, "cm"), "median distance left"),
        _card(_number(summary["plan_rate_hz"], "Hz"), "plans per second"),
        _card(_number(summary["plan_ms"]["p50"], "ms"), f"to plan; p99 {_number(summary['plan_ms']['p99'], 'ms')}"),
        _card(_number(summary["frame_to_command_ms"]["p50"], "ms"), f"frame to command; p99 {_number(summary['frame_to_command_ms']['p99'], 'ms')}"),
        _card(f"{check.total}", f"limit violations in {check.messages} commands", "bad" if check.total else "good"),
        _card(f"{guardrail['interventions']}", f"guardrail interventions in {guardrail['cycles']} cycles"),
        _card(f"{guardrail['missed_cycles']}", f"missed cycles; {guardrail['stops']} stop(s)"),
    ]
    second = summary.get("without_zones")
    if second:
        reached = sum(bool(episode["success"]) for episode in second["episodes"])
        cards.insert(1, _card(f"{reached} of {len(second['episodes'])}", "reached by the actor alone"))
    return f'<div class="cards">{"".join(cards)}</div>'


def _card(value: str, label: str, kind: str = "") -> str:
    return f'<div class="card {kind}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}"


def _outcomes(summary: Mapping[str, Any], recording: Recording) -> str:
    rows = []
    first_pass = len(summary["episodes"])
    for index, (episode, span) in enumerate(zip(_episodes(summary), recording.episodes, strict=False)):
        if index == first_pass:
            rows.append('<tr><th colspan="8">the same walls, actor alone, not told of them</th></tr>')
        pictures = [recording.camera.at(span.start_ns), recording.camera.at(span.end_ns), span.goal]
        cells = [
            str(episode["seed"]),
            *("" if picture is None else _picture(picture) for picture in pictures),
            f"{episode['start_distance_m'] * 100:.1f} → {episode['final_distance_m'] * 100:.1f} cm",
            str(episode["steps"]),
            f"{episode['seconds']:.1f} s",
            f'<span class="pill {"yes" if episode["success"] else "no"}">{escape(str(episode["outcome"]))}</span>',
        ]
        rows.append(_row(cells))
    head = _row(["seed", "start", "end", "goal", "distance", "steps", "time", "outcome"], "th")
    return f"<h2>Episodes</h2><table>{head}{''.join(rows)}</table>"


def _row(cells: Sequence[str], tag: str = "td") -> str:
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"


def _picture(pixels: NDArray[np.uint8]) -> str:
    encoded, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    assert encoded, "PNG takes every uint8 picture"
    height, width, _ = pixels.shape
    return f'<img alt="" width="{width}" height="{height}" src="data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _distance(summary: Mapping[str, Any], recording: Recording) -> str:
    lines = []
    first_pass = len(summary["episodes"])
    for index, (episode, span) in enumerate(zip(_episodes(summary), recording.episodes, strict=False)):
        part = recording.distance.between(span.start_ns, span.end_ns)
        lines.append(
            Line(
                (part.times_ns - span.start_ns) / NS_PER_S,
                part.values * 100,
                GREEN if episode["success"] else RED,
                f"seed {episode['seed']}: {episode['outcome']}",
                dashed=index >= first_pass,
            )
        )
    legend = [_legend(GREEN, "reached"), _legend(RED, "not reached")]
    if len(lines) > first_pass:
        legend.append("<span>dashed: actor alone</span>")
    return f'<p class="legend">{"".join(legend)}</p>' + line_chart(lines, "seconds since the goal was shown", "distance, cm")


def _legend(colour: str, label: str) -> str:
    return f'<span><i class="key" style="border-color:{colour}"></i>{escape(label)}</span>'


def _planning(recording: Recording) -> str:
    values = recording.plan_ms.values
    if not values.size:
        return empty("no plan was recorded")
    p50, p99 = (float(np.percentile(values, percent)) for percent in (50, 99))
    return histogram(values, f"ms per plan, {values.size} plans", [Mark(p50, f"p50 {p50:.1f} ms", INK), Mark(p99, f"p99 {p99:.1f} ms", AMBER)])


def _joints(check: CheckReport, limits: UrdfLimits, commanded: tuple[NDArray[np.float64], NDArray[np.float64]]) -> str:
    seconds, positions = commanded
    rows = []
    for column, (joint, kinds) in enumerate(check.worst.items()):
        picture = band(seconds, positions[:, column], float(limits.lower[column]), float(limits.upper[column])) if len(seconds) else ""
        margin = kinds.get("position")
        cells = [escape(joint), f'<div class="joint">{picture}</div>', "-" if margin is None else f"{margin.margin:.3f} rad"]
        for kind in KINDS[1:]:
            worst = kinds.get(kind)
            text = "" if worst is None else f"{worst.value:.4g} of {worst.limit:.4g} {_UNITS[kind]}"
            cells.append("" if worst is None else share_bar(worst.value / worst.limit, text))
        rows.append(_row(cells))
    head = _row(["joint", "commanded position between its limits", "smallest margin", "velocity", "acceleration", "jerk"], "th")
    return f"<table>{head}{''.join(rows)}</table>"


def _guardrail(recording: Recording) -> str:
    series = recording.interventions
    if not len(series.times_ns):
        return empty("no guardrail status was recorded")
    start = recording.start_ns

    def seconds(ns: int) -> float:
        return (ns - start) / NS_PER_S

    line = Line((series.times_ns - start) / NS_PER_S, series.values, BLUE, "interventions")
    stops = recording.stopped.times_ns[1:][np.diff(recording.stopped.values) > 0]
    inside = [ns for ns in stops if any(span.start_ns <= ns < span.end_ns for span in recording.episodes)]
    return line_chart(
        [line],
        "seconds since the recording began",
        "interventions",
        height=220,
        shaded=[(seconds(span.start_ns), seconds(span.end_ns)) for span in recording.episodes],
        marks=[Mark(seconds(int(ns)), "stop", RED) for ns in inside],
    )


def _commanded(bag: Path, joints: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Time ``(N,) s`` and set point ``(N, J) rad`` of each command's first point."""
    times, rows = [], []
    for entry in read_messages(bag, (TRAJECTORY_TOPIC,)):
        message = entry.message
        if message.points and set(message.joint_names) == set(joints) and len(message.points[0].positions) == len(joints):
            times.append(stamp_ns(message.header.stamp))
            rows.append([message.points[0].positions[message.joint_names.index(joint)] for joint in joints])
    positions = np.array(rows, dtype=np.float64).reshape(-1, len(joints))
    finite = np.isfinite(positions).all(axis=1)
    return (np.array(times, dtype=np.int64) - (times[0] if times else 0))[finite] / NS_PER_S, positions[finite]
