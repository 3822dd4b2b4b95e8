"""What a person, and a program, is told of an offline replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from latent_mpc.markdown_table import markdown_table
from latent_mpc.offline_comparison import Agreement, Difference
from latent_mpc.offline_guardrail import recorded_counts
from latent_mpc.offline_replay import Replayed

_COUNTED = ("cycles", "interventions", "filtered", "brakings", "stops", "rejected_plans")


def to_json(replayed: Replayed) -> dict[str, Any]:
    """Plain numbers for a file; only what is under ``cost`` depends on the machine."""
    first = first_difference(replayed.agreements)
    proposals, recorded = replayed.proposals, replayed.recorded
    return {
        "bag": str(replayed.config.bag),
        "model": replayed.planner.model,
        "changes": list(replayed.config.changes),
        "seconds": recorded.seconds,
        "same": first is None and bool(replayed.agreements),
        "first_difference": None if first is None else asdict(first),
        "agreement": [agreement.to_json() for agreement in replayed.agreements],
        "guardrail": {"then": dict(recorded_counts(recorded.guardrail)), "now": _counts_now(replayed)},
        "margins_m": _margins(replayed),
        "search": {
            "searches": proposals.searches,
            "cut": proposals.cut,
            "infeasible": proposals.infeasible,
            "as_recorded": replayed.recorded_search,
        },
        "results": [{"goal_stamp_ns": stamp, "result": name} for stamp, name in proposals.results],
        "journals": {
            "planner": bool(recorded.planner_journal),
            "guardrail": bool(recorded.guardrail_journal),
            "lost_rows": recorded.lost_rows,
        },
        "refused": {topic: {"messages": count, "first": recorded.first_refusal[topic]} for topic, count in sorted(recorded.refused.items())},
        "absent": {"planner": proposals.absent, "guardrail": replayed.guarded.absent},
        "said": proposals.words,
        "notes": notes(replayed),
        "cost": {
            "real_time_factor": replayed.real_time_factor,
            **asdict(replayed.cost),
            "stages": {stage: asdict(cost) for stage, cost in replayed.costs.items()},
        },
    }


def first_difference(agreements: Sequence[Agreement]) -> Difference | None:
    """The earliest by the stamp of what differs; of one stamp, the one that the others follow from."""
    found = [agreement.first for agreement in agreements if agreement.first is not None]
    return min(found, key=lambda difference: difference.stamp_ns, default=None)


def text(replayed: Replayed) -> str:
    """A few lines and tables for the terminal."""
    recorded, cost = replayed.recorded, replayed.cost
    changed = ", ".join(replayed.config.changes) or "nothing"
    lines = [
        f"{replayed.config.bag}: {recorded.seconds:.1f} s in {cost.wall_s:.1f} s, {replayed.real_time_factor:.1f} times real time "
        f"({cost.cpu_s:.1f} s of processor)",
        f"model {replayed.planner.model}; changed: {changed}",
        "",
        markdown_table(["topic", "compared", "identical", "only then", "only now", "largest difference"], [_row(a) for a in replayed.agreements])
        if replayed.agreements
        else "the bag holds nothing to compare with: no latents, plans or commands",
        "",
        _first_lines(replayed.agreements),
        "",
        markdown_table(["guardrail", "then", "now"], _guardrail_rows(replayed)),
    ]
    results = ", ".join(name for _, name in replayed.proposals.results)
    lines += ["", f"goals ended: {results or 'none'}", *(f"note: {note}" for note in notes(replayed))]
    return "\n".join(lines)


def notes(replayed: Replayed) -> list[str]:
    """What a reader must know to judge the numbers."""
    recorded, proposals, found = replayed.recorded, replayed.proposals, []
    if not recorded.planner_journal:
        found.append(
            "the bag holds no /planner/journal: events are taken in when the recorder received them and searches run to their own end, "
            "so plans cannot be expected to be equal to the recorded ones to the bit"
        )
    elif not replayed.recorded_search:
        found.append("searches run to their own end: those of the recorded run were cut by its machine's clock, and plans may differ for that")
    elif proposals.cut:
        found.append(
            f"{proposals.cut} of {proposals.searches} searches were cut by the clock of the recorded run, and are cut after as many iterations"
        )
    if not recorded.guardrail_journal:
        found.append("the bag holds no /guardrail/journal: cycles and arming follow from the recorded commands")
    if recorded.lost_rows:
        found.append(f"{recorded.lost_rows} rows of the journals are missing")
    if not recorded.planner_settings:
        found.append("the bag holds no /planner/settings: parameters are those of the shipped files, steps and mode those of the status")
    if replayed.proposals.stood_in:
        found.append(f"of {replayed.proposals.stood_in} frames the bag holds the latent, not the picture: the latent stands in")
    for node, absent in (("planner", proposals.absent), ("guardrail", replayed.guarded.absent)):
        if absent:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(absent.items()))
            found.append(f"the {node} took in what this bag or this planner lacks: {kinds}")
    for topic, count in sorted(recorded.refused.items()):
        found.append(f"{count} messages on {topic} cannot be used; the first: {recorded.first_refusal[topic]}")
    plans = next((agreement for agreement in replayed.agreements if agreement.unit == "rad"), None)
    if plans is not None and not plans.same:
        found.append("pictures and measured joints stay those of the recorded run: each plan is what would have been planned there and then")
    return found


def _row(agreement: Agreement) -> list[str]:
    share = f" ({100 * agreement.identical / agreement.compared:.1f} %)" if agreement.compared else ""
    identical, gap = f"{agreement.identical}{share}", f"{agreement.largest:.3g} {agreement.unit}".rstrip()
    return [agreement.topic, str(agreement.compared), identical, str(agreement.only_then), str(agreement.only_now), gap]


def _first_lines(agreements: Sequence[Agreement]) -> str:
    first = first_difference(agreements)
    if first is None:
        return "no difference" if agreements else ""
    lines = [f"first difference {_where(first)}"]
    lines += [f"then             {_where(a.first)}" for a in agreements if a.first is not None and a.first is not first]
    return "\n".join(lines)


def _where(difference: Difference) -> str:
    return f"{difference.at_s:.3f} s into the bag, {difference.topic} stamped {difference.stamp_ns}: {difference.what}"


def _counts_now(replayed: Replayed) -> dict[str, int]:
    now = replayed.guarded
    values = (now.cycles, now.interventions, now.filtered, now.brakings, now.stops, now.rejected)
    return dict(zip(_COUNTED, values, strict=True))


def _margins(replayed: Replayed) -> dict[str, dict[str, float | None]]:
    """The smallest then and now: ``plan`` by the search's guardrails, ``guardrail`` at the joints."""
    recorded = replayed.recorded
    planned = [float(s.value["margin_m"]) for s in recorded.planner if s.value["state"] == "PLANNING" and int(s.value.get("candidates", 0)) > 0]
    guarded = [float(status.value["margin_m"]) for status in recorded.guardrail if "margin_m" in status.value]
    return {
        "plan": {"then": _least(planned), "now": _least(replayed.proposals.margins)},
        "guardrail": {"then": _least(guarded), "now": _least(replayed.guarded.margins)},
    }


def _least(values: Sequence[float]) -> float | None:
    finite = np.array([value for value in values if np.isfinite(value)])
    return float(finite.min()) if finite.size else None


def _guardrail_rows(replayed: Replayed) -> list[list[str]]:
    then: Mapping[str, int] = recorded_counts(replayed.recorded.guardrail)
    rows = [[name.replace("_", " "), str(then.get(name, "-")), str(count)] for name, count in _counts_now(replayed).items()]
    for name, what in (("guardrail", "smallest margin at the joints, m"), ("plan", "smallest margin of a plan, m")):
        margins = _margins(replayed)[name]
        rows.append([what, *("-" if margins[when] is None else f"{margins[when]:.4f}" for when in ("then", "now"))])
    return rows
