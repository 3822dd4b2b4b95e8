"""``latent-mpc head curve``: AUROC of guardrail heads against the number of labelled frames, and their misses against the calibrated bound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latent_mpc.intervals import wilson95
from world_model.heads.choice import choose_frames
from world_model.heads.conformal import CalibrationError, calibrate, missed
from world_model.heads.fit import HeadRequest, Trajectories, load_trajectories
from world_model.heads.guardrail import fit_guardrail
from world_model.heads.labels import LabelError, Labels, read_labels
from world_model.heads.latents import open_latent_model
from world_model.heads.ranking import auroc, bootstrap_auroc
from world_model.heads.report import Report

RULES = {
    "tool in a zone": "tool in box(0.45, 0.58, -0.08, 0.08)",
    "tool beyond a wall": "tool_y > 0.10",
    "block beyond a line": "block_x > 0.60",
}
# What is told of a frame, and which frames are told of.
_VARIANTS = (("distance", "uniform"), ("class", "uniform"), ("class", "uncertain"))
_SPLITS = 50
_CLEARLY_M = 0.02


@dataclass(frozen=True)
class CurveRequest:
    """``samples`` numbers of labelled frames, ``draws`` of them each; ``miss_rates`` to calibrate to; at most ``episodes`` are looked at."""

    model: Path
    data: Path
    samples: tuple[int, ...]
    draws: int
    miss_rates: tuple[float, ...]
    episodes: int
    seed: int


def head_curve(request: CurveRequest, report: Report) -> dict[str, Any]:
    """Fit every head and measure it on episodes that neither teach nor calibrate.

    Raises:
        DatasetError, BundleError: the data or the model cannot be used.
        LabelError: the data record no state.
    """
    model = open_latent_model(request.model)
    head = HeadRequest(request.model, request.data, "guardrail", "", Path(), episodes=request.episodes, seed=request.seed)
    data = load_trajectories(head, model, report)
    if data.state is None:
        raise LabelError(f"{request.data} records no state that a rule could look at")
    rows = []
    total = len(RULES) * len(_VARIANTS) * len(request.samples)
    for name, text in RULES.items():
        distances = read_labels(text, len(data.state), data.state.shape[1], data.state)
        for target, choice in _VARIANTS:
            labels = distances if target == "distance" else distances.as_classes()
            for samples in request.samples:
                row = _row(request, data, labels, distances, samples, choice)
                rows.append({"rule": name, "target": target, "choice": choice, "samples": samples, **row})
                report("heads", len(rows), total, {"auroc": rows[-1]["auroc"]["mean"]})
    return {
        "model": {"name": request.model.name, "sha256": model.sha256},
        "data": str(request.data),
        "rules": RULES,
        "episodes": {name: len(getattr(data.split, name)) for name in ("fit", "calibration", "test")},
        "forbidden_share": {
            name: float((read_labels(text, len(data.state), data.state.shape[1], data.state).values < 0).mean()) for name, text in RULES.items()
        },
        "draws": request.draws,
        "splits": _SPLITS,
        "rows": rows,
    }


def _row(request: CurveRequest, data: Trajectories, labels: Labels, distances: Labels, samples: int, choice: str) -> dict[str, Any]:
    split = data.split
    others = np.concatenate([split.calibration, split.test])
    unsafe, distance = labels.unsafe[others], distances.values[others]
    test = np.arange(len(split.calibration), len(others))
    areas, intervals, rates = [], [], {rate: _Rates() for rate in request.miss_rates}
    for draw in range(request.draws):
        rng = np.random.default_rng([request.seed, samples, draw])
        scores = _scores(data, labels, samples, choice, rng, others)
        if scores is None:
            areas.append(0.5)  # frames of one kind only teach nothing
            continue
        areas.append(auroc(-scores[test].ravel(), unsafe[test].ravel()))
        intervals.append(bootstrap_auroc(-scores[test], unsafe[test], np.ones_like(unsafe[test]), rng))
        for rate, collected in rates.items():
            collected.add(scores, unsafe, distance, len(split.calibration), rate, rng)
    return {
        "auroc": {
            "mean": float(np.mean(areas)),
            "least": float(np.min(areas)),
            "ci95": [float(edge) for edge in np.mean(intervals, axis=0)] if intervals else [0.0, 1.0],
            "heads": len(intervals),
        },
        "miss_rates": {f"{rate:g}": collected.summary() for rate, collected in rates.items()},
    }


def _scores(
    data: Trajectories, labels: Labels, samples: int, choice: str, rng: np.random.Generator, rows: NDArray[np.intp]
) -> NDArray[np.float32] | None:
    """Scores ``(E, T+1)`` of episodes ``rows`` by a head from a fresh draw; None where all drawn frames are of one kind."""
    fit = data.split.fit
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    episodes, frames = choose_frames(labels.taken(fit), data.latents[fit], samples, choice, rng, generator)
    taught, values = data.latents[fit[episodes], frames], labels.values[fit[episodes], frames]
    try:
        head = fit_guardrail(labels, torch.from_numpy(data.latents[fit]), taught, values, generator)
    except LabelError:
        return None
    with torch.inference_mode():
        flat = head(torch.from_numpy(data.latents[rows].reshape(-1, data.latents.shape[-1])))[:, 0]
    found: NDArray[np.float32] = flat.numpy().reshape(len(rows), -1)
    return found


class _Rates:
    """Misses and false alarms over draws; calibration and test episodes are also dealt out anew many times."""

    def __init__(self) -> None:
        self._missed = self._trajectories = self._heads = 0
        self._false, self._clear, self._dealt = [list[float]() for _ in range(3)]

    def add(
        self,
        scores: NDArray[np.float32],
        unsafe: NDArray[np.bool_],
        distance: NDArray[np.float64],
        calibrating: int,
        rate: float,
        rng: np.random.Generator,
    ) -> None:
        """One head: ``scores``, ``unsafe`` and true ``distance (E, T+1)``, of which the first ``calibrating`` episodes calibrate."""
        try:
            bound = calibrate(scores[:calibrating], unsafe[:calibrating], rate)
            misses = missed(scores[calibrating:], unsafe[calibrating:], bound.threshold)
            self._missed += int(misses.sum())
            self._trajectories += len(misses)
            self._heads += 1
            flagged = scores[calibrating:] < np.float32(bound.threshold)
            self._false.append(float(flagged[~unsafe[calibrating:]].mean()))
            self._clear.append(float(flagged[distance[calibrating:] > _CLEARLY_M].mean()))
            for _ in range(_SPLITS):
                order = rng.permutation(len(scores))
                first, rest = order[:calibrating], order[calibrating:]
                self._dealt.append(float(missed(scores[rest], unsafe[rest], calibrate(scores[first], unsafe[first], rate).threshold).mean()))
        except CalibrationError:
            return

    def summary(self) -> dict[str, Any] | None:
        """Plain numbers; None where there were too few trajectories."""
        if not self._heads:
            return None
        return {
            "missed": self._missed,
            "trajectories": self._trajectories,
            "heads": self._heads,
            "rate": self._missed / max(1, self._trajectories),
            "ci95": list(wilson95(round(self._missed / self._heads), round(self._trajectories / self._heads))),
            "rate_over_splits": float(np.mean(self._dealt)),
            "false_alarms": float(np.mean(self._false)),
            "false_alarms_beyond_2_cm": float(np.mean(self._clear)),
        }


def curve_table(result: dict[str, Any]) -> str:
    """The result as text for a terminal or a page."""
    rates = list(result["rows"][0]["miss_rates"])
    asked = " | ".join(f"missed at {rate} (splits) [95 %] | false alarms (> 2 cm)" for rate in rates)
    lines = [f"| rule | labels | chosen | frames | AUROC, mean [95 %] | least | {asked} |", "|---" * (6 + 2 * len(rates)) + "|"]
    for row in result["rows"]:
        area = row["auroc"]
        cells = [row["rule"], row["target"], row["choice"], str(row["samples"])]
        cells += [f"{area['mean']:.4f} [{area['ci95'][0]:.4f}, {area['ci95'][1]:.4f}]", f"{area['least']:.4f}"]
        for rate in rates:
            found = row["miss_rates"][rate]
            if found is None:
                cells += ["-", "-"]
                continue
            low, high = found["ci95"]
            cells.append(f"{found['rate']:.3f} ({found['rate_over_splits']:.3f}) [{low:.3f}, {high:.3f}]")
            cells.append(f"{found['false_alarms']:.3f} ({found['false_alarms_beyond_2_cm']:.3f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
