"""How well surprise tells impossible events from ordinary runs, ordinary contact included, with an untrained network beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep
from latent_mpc.auroc import auroc95
from latent_mpc.intervals import wilson95
from latent_mpc.surprise_run import Run
from latent_mpc.surprise_runs import FRAMES_AFTER, Script, play_all
from sim.appearance import FACTORS
from sim.disturbances import EventSizes, events_of
from sim.tasks import TASKS, task_named
from sim.tasks.task import Task
from world_model.bundle import bundle_sha256
from world_model.protocol import WorldModel
from world_model.runtime import OnnxModel
from world_model.surprise import SurpriseCalibration, calibrate, run_scores, run_terms

BARS = {"teleport": 0.98, "vanish": 0.98, "freeze": 0.95, "camera": 0.95}
_BATCH = 64
_CONTACT_LEAST = 20


class SurpriseEvaluationError(ValueError):
    """An evaluation of surprise that cannot be run as asked."""


@dataclass(frozen=True)
class SurpriseEvaluation:
    """What to play: ``events`` runs with each event, ``runs`` ordinary ones to calibrate with and as many others to count false alarms in.

    ``look``: factors of appearance drawn anew for each run. ``frame_rate`` and ``run_rate``: false alarms that the threshold may cost, as a share of
    ordinary frames and of ordinary runs. ``null``: whether an untrained network is judged as well.
    ``steps``: actions of an ordinary run, 0 for the task's. Ordinary runs are the planner's, in closed loop at the camera's rate, of all the bundle's
    tasks in the scene of ``task`` in turn.
    """

    model: Path
    task: str
    events: int = 100
    runs: int = 100
    seed: int = 0
    workers: int = 1
    look: tuple[str, ...] = ()
    frame_rate: float = 0.005
    run_rate: float = 0.05
    null: bool = True
    steps: int = 0


@dataclass(frozen=True)
class _Played:
    """Disjoint runs: none that calibrates is tested on."""

    calibration: list[Run]
    ordinary: list[Run]
    events: dict[str, list[Run]]


def evaluate_surprise(asked: SurpriseEvaluation, report: Callable[[str, int, int, dict[str, float]], None]) -> dict[str, Any]:
    """Play the runs, calibrate, and judge the bundle and the null.

    Raises:
        SurpriseEvaluationError: nothing to play, an unknown look, or a bundle of another task, camera or meaning of an action.
        ValueError: the task is unknown or the bundle cannot be used.
    """
    if min(asked.events, asked.runs, asked.workers) < 1:
        raise SurpriseEvaluationError("an evaluation of surprise needs at least one event, run and worker")
    if not (0.0 < asked.frame_rate < 1.0 and 0.0 < asked.run_rate < 1.0):
        raise SurpriseEvaluationError("rates of false alarms are shares between 0 and 1")
    if set(asked.look) - set(FACTORS):
        raise SurpriseEvaluationError(f"unknown look '{min(set(asked.look) - set(FACTORS))}'; choose among {', '.join(FACTORS)}")
    task = task_named(asked.task)
    model = OnnxModel(asked.model)
    bundle = model.manifest
    if task.name not in bundle.tasks:
        raise SurpriseEvaluationError(f"{asked.model} was trained for {', '.join(bundle.tasks)}, not for {asked.task}")
    if ToolStep.from_json(bundle.tool_step) != task.tool_step or bundle.frame != (task.camera.height, task.camera.width, 3):
        raise SurpriseEvaluationError(f"{asked.model} was trained with another camera or another meaning of an action than {asked.task} has")
    if asked.null:
        from world_model.untrained import recipe, untrained  # torch, which a slim installation does without

        recipe(bundle)  # what is wrong with it is said before anything is played
    tasks = tuple(name for name in bundle.tasks if name in TASKS and _same_scene(task, task_named(name)))
    played = _play(asked, tasks, events_of(task), lambda done, total: report("runs", done, total, {}))
    judged = _judge(Witness(model), played, asked)
    result: dict[str, Any] = {
        "task": asked.task,
        "model": {"name": bundle.name, "sha256": bundle_sha256(bundle)},
        "seed": asked.seed,
        "look": list(asked.look),
        "runs": asked.runs,
        "event_runs": asked.events,
        "event_sizes": asdict(EventSizes()),
        "rates": {"frame": asked.frame_rate, "run": asked.run_rate},
        **judged,
        "witness": bundle.witness,
        "encoder": _judge(model, played, asked) if bundle.witness else None,
        "null": None,
    }
    if asked.null:
        report("null", 0, 1, {})
        frames = np.concatenate([run.frames[::5] for run in played.calibration])
        result["null"] = _judge(untrained(bundle, frames), played, asked)
        report("null", 1, 1, {})
    return result


def _same_scene(one: Task, other: Task) -> bool:
    return one.has_block == other.has_block and one.tool_step == other.tool_step and one.camera == other.camera


class Witness:
    """A bundle as its witness sees: the ``WorldModel`` that surprise looks with."""

    def __init__(self, model: OnnxModel) -> None:
        self.history, self.latent_dim, self.action_dim = model.history, model.latent_dim, model.action_dim
        self.encode = model.witness
        self.rollout = model.rollout


def _play(asked: SurpriseEvaluation, tasks: tuple[str, ...], events: tuple[str, ...], report: Callable[[int, int], None]) -> _Played:
    parts = [
        Script(part, number, "", asked.look, asked.steps, tasks[number % len(tasks)])
        for part in ("calibration", "ordinary")
        for number in range(asked.runs)
    ]
    struck = [Script("event", number, event, asked.look) for event in events for number in range(asked.events)]
    runs = play_all(asked.model, asked.task, asked.seed, parts + struck, asked.workers, report)
    n, m = asked.runs, asked.events
    after = runs[2 * n :]
    return _Played(runs[:n], runs[n : 2 * n], {event: after[i * m : (i + 1) * m] for i, event in enumerate(events)})


def _judge(model: WorldModel, played: _Played, asked: SurpriseEvaluation) -> dict[str, Any]:
    """Calibrate ``model`` on its own ordinary runs and judge it on the others."""
    draft = SurpriseCalibration()
    calibration = calibrate(
        [run_terms(model, _encode(model, run), run.actions, draft.horizons, run.per_step) for run in played.calibration],
        asked.frame_rate,
        asked.run_rate,
    )
    assert calibration.threshold is not None
    ordinary = [_scores(model, run, calibration) for run in played.ordinary]
    valid = [np.isfinite(scores) for scores in ordinary]
    touched = [_lately(run.contact, calibration.window * run.per_step) & there for run, there in zip(played.ordinary, valid, strict=True)]
    everything = [scores[there] for scores, there in zip(ordinary, valid, strict=True)]
    contact = [scores[there] for scores, there in zip(ordinary, touched, strict=True)]
    frames, in_contact = (np.concatenate(group) for group in (everything, contact))
    alarms = frames > calibration.threshold
    rows, before = {}, []
    for number, (event, runs) in enumerate(played.events.items()):
        rng = np.random.default_rng([asked.seed, number])
        whole = np.stack([_scores(model, run, calibration) for run in runs])
        before.append(whole[:, -FRAMES_AFTER - 1])
        rows[event] = _row(event, whole[:, -FRAMES_AFTER:], everything, contact if len(in_contact) >= _CONTACT_LEAST else [], calibration, rng)
    flagged = sum(bool((scores > calibration.threshold).any()) for scores in everything)
    return {
        "calibration": calibration.to_json(),
        "ordinary": {
            "frames": len(frames),
            "contact_frames": len(in_contact),
            "median": float(np.median(frames)),
            "q99": float(np.quantile(frames, 0.99)),
            "false_alarms_per_1000": float(1000 * alarms.mean()),
            "false_alarms_per_1000_in_contact": float(1000 * (in_contact > calibration.threshold).mean()) if len(in_contact) else None,
            "flagged_runs": flagged,
            "flagged_runs_ci95": [round(edge, 4) for edge in wilson95(flagged, len(everything))],
        },
        "events": rows,
        "before": _area(np.concatenate(before), everything, np.random.default_rng([asked.seed, len(rows)])),
    }


def _row(
    event: str,
    scores: NDArray[np.float64],
    everything: list[NDArray[np.float64]],
    contact: list[NDArray[np.float64]],
    calibration: SurpriseCalibration,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """``scores (E, FRAMES_AFTER)`` from the first frame on that shows the event. It counts with one score, that of the window just full of it."""
    assert calibration.threshold is not None
    w = calibration.window
    above: NDArray[np.bool_] = np.greater(scores, calibration.threshold)
    found = np.sum(above[:, :w], axis=1) > 0
    delays = above.argmax(axis=1)[above.any(axis=1)]
    return {
        "bar": BARS.get(event),
        "auroc": _area(scores[:, w - 1], everything, rng),
        "auroc_contact": _area(scores[:, w - 1], contact, rng) if contact else None,
        "median": float(np.median(scores[:, w - 1])),
        "detected": float(found.mean()),
        "detected_ci95": [round(edge, 4) for edge in wilson95(int(found.sum()), len(scores))],
        "delay_steps": {"median": float(np.median(delays)), "p90": float(np.quantile(delays, 0.9))} if len(delays) else None,
    }


def _area(events: NDArray[np.float64], runs: list[NDArray[np.float64]], rng: np.random.Generator) -> dict[str, Any]:
    area, low, high = auroc95(events, runs, rng)
    return {"value": round(area, 5), "ci95": [round(low, 5), round(high, 5)]}


def _encode(model: WorldModel, run: Run) -> NDArray[np.float32]:
    parts = [slice(i, i + _BATCH) for i in range(0, len(run.frames), _BATCH)]
    return np.concatenate([model.encode(np.ascontiguousarray(run.frames[part]), run.joints[part]) for part in parts])


def _scores(model: WorldModel, run: Run, calibration: SurpriseCalibration) -> NDArray[np.float64]:
    return run_scores(run_terms(model, _encode(model, run), run.actions, calibration.horizons, run.per_step), calibration)


def _lately(flags: NDArray[np.bool_], window: int) -> NDArray[np.bool_]:
    """Whether a flag was set in any of the last ``window`` steps."""
    padded = np.concatenate([np.zeros(window - 1, bool), flags])
    recent: NDArray[np.bool_] = np.sum(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1) > 0
    return recent


def recorded_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What of a result travels in a bundle's manifest: a row for each event."""
    null = result["null"]
    shared = {"task": result["task"], "seed": result["seed"], "look": result["look"], "event_runs": result["event_runs"]}
    return [
        {
            **shared,
            "event": event,
            **{key: row[key] for key in ("auroc", "auroc_contact", "detected", "delay_steps")},
            "null_auroc": null["events"][event]["auroc"] if null else None,
            "false_alarms_per_1000": result["ordinary"]["false_alarms_per_1000"],
        }
        for event, row in result["events"].items()
    ]


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    ordinary, null = result["ordinary"], result["null"]
    look = f", {' and '.join(result['look'])} drawn anew" if result["look"] else ""
    lines = [
        f"| {result['model']['name']}, {result['task']}, seed {result['seed']}, {result['event_runs']} events each{look} | AUROC [95 %] | bar | "
        "against contact [95 %] | the encoder itself | untrained | found within 3 steps | delay, steps (median, p90) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for event, row in result["events"].items():
        delay = row["delay_steps"]
        cells = [
            event,
            _interval(row["auroc"]),
            "" if row["bar"] is None else f"{row['bar']:.2f}",
            _interval(row["auroc_contact"]),
            _interval(result["encoder"]["events"][event]["auroc"]) if result["encoder"] else "",
            _interval(null["events"][event]["auroc"]) if null else "",
            f"{100 * row['detected']:.0f} %",
            "" if delay is None else f"{delay['median']:.0f}, {delay['p90']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    alarms = f"{ordinary['false_alarms_per_1000']:.1f} false alarms in 1000 of {ordinary['frames']} ordinary frames"
    if ordinary["false_alarms_per_1000_in_contact"] is not None:
        alarms += f", {ordinary['false_alarms_per_1000_in_contact']:.1f} in 1000 of the {ordinary['contact_frames']} in contact"
    lines += [
        "",
        f"Threshold {result['calibration']['threshold']:.3f}: {alarms}; {ordinary['flagged_runs']} of {result['runs']} ordinary runs flagged. "
        f"The same window just before an event, which should be near one half: {_interval(result['before'])}.",
    ]
    return "\n".join(lines)


def _interval(area: dict[str, Any] | None) -> str:
    if area is None:
        return ""
    low, high = area["ci95"]
    return f"{area['value']:.3f} [{low:.3f}, {high:.3f}]"
