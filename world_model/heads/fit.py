"""``latent-mpc head fit``: from recorded episodes and labels to a head on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from world_model.data import DatasetError, EpisodeDataset
from world_model.heads.card import HeadCard, HeadError
from world_model.heads.choice import CHOICES, choose_frames
from world_model.heads.conformal import calibrate, require_trajectories, trajectories_needed
from world_model.heads.depth import depth_figures, fit_depth, read_depth_data
from world_model.heads.goal_cost import fit_goal_cost, goal_cost_figures
from world_model.heads.graph import head_graph, refuse_other_content, write_head
from world_model.heads.guardrail import fit_guardrail, guardrail_targets, measure_guardrail
from world_model.heads.labels import LabelError, Labels, read_labels
from world_model.heads.latents import LatentModel, encode_episodes, open_latent_model
from world_model.heads.onnx_head import HeadGraph
from world_model.heads.probe import fit_probe, fit_ridge, probe_figures, probe_targets, ridge_values
from world_model.heads.report import Report
from world_model.heads.split import Split, draw_frames, split_episodes
from world_model.protocol import F32

_PARITY_ROWS = 256


@dataclass(frozen=True)
class HeadRequest:
    """What to fit: a head of ``kind`` on the latents of ``model`` (a bundle or a run) from ``data``.

    ``label``: a rule or a CSV file, see :mod:`world_model.heads.labels`; probes and depth need none. ``target``: ``auto`` uses the distances of a
    rule, ``class`` only whether a frame is forbidden. ``samples`` labelled frames are drawn as ``choice`` says, see
    :mod:`world_model.heads.choice`; at most ``episodes`` episodes are looked at.
    """

    model: Path
    data: Path
    kind: str
    label: str
    out: Path
    samples: int = 200
    miss_rate: float = 0.05
    target: str = "auto"
    choice: str = "uniform"
    episodes: int = 1000
    seed: int = 0
    name: str = ""


@dataclass(frozen=True)
class Trajectories:
    """Latents ``(E, T+1, D)`` of episodes, their true ``state (E, T+1, 6)`` where it is recorded, their labels, and which rows are for what."""

    latents: F32
    state: NDArray[np.float32] | None
    labels: Labels | None
    split: Split


def fit_head(request: HeadRequest, report: Report) -> HeadCard:
    """Fit, measure on episodes that were not used, and write ``request.out``.

    Raises:
        HeadError: the request makes no sense, or ``out`` holds something else.
        LabelError, RuleError: the labels cannot be used.
        CalibrationError: there are too few trajectories for the miss rate.
        DatasetError, BundleError: the data or the model cannot be used.
    """
    fits: dict[str, Callable[[HeadRequest, LatentModel, Report], tuple[bytes, HeadCard]]] = {
        "guardrail": _fit_guardrail,
        "probe": _fit_probe,
        "goal-cost": _fit_goal_cost,
        "depth": _fit_depth,
    }
    if request.kind not in fits:
        raise HeadError(f"unknown kind of head '{request.kind}'; choose one of {', '.join(fits)}")
    if request.target not in ("auto", "class"):
        raise HeadError(f"unknown target '{request.target}'; choose auto or class")
    if request.choice not in CHOICES:
        raise HeadError(f"unknown choice of frames '{request.choice}'; choose one of {', '.join(CHOICES)}")
    if min(request.samples, request.episodes) < 1:
        raise HeadError("samples and episodes must be at least 1")
    if request.kind in ("guardrail", "goal-cost") and not request.label:
        raise LabelError(f'a {request.kind} head needs labels: --label "block_x > 0.60", or a CSV file')
    trajectories_needed(request.miss_rate)
    refuse_other_content(request.out)
    graph, card = fits[request.kind](request, open_latent_model(request.model), report)
    write_head(request.out, graph, card)
    return card


def load_trajectories(
    request: HeadRequest, model: LatentModel, report: Report, check: Callable[[Labels, Split], None] = lambda labels, split: None
) -> Trajectories:
    """Encode the episodes that the request looks at: those with labels, at most ``request.episodes`` of them, drawn by its seed.

    ``check`` sees the labels and the split before anything is encoded, which takes its time.
    """
    data = EpisodeDataset(request.data)
    state = data.state()
    labels = read_labels(request.label, data.episodes, data.steps + 1, state) if request.label else None
    candidates = np.arange(data.episodes) if labels is None else np.flatnonzero(labels.known.any(1))
    rng = np.random.default_rng([request.seed, 0])
    chosen = np.sort(rng.permutation(candidates)[: request.episodes])
    split = split_episodes(np.arange(len(chosen)), rng)
    labels = None if labels is None else labels.taken(chosen)
    if labels is not None:
        check(labels, split)
    return Trajectories(encode_episodes(model, data, chosen, report), None if state is None else state[chosen], labels, split)


def _card(request: HeadRequest, model: LatentModel, **values: Any) -> HeadCard:
    name = request.name or request.out.name
    return HeadCard(name, request.kind, request.label, model.sha256, model.latent_dim, **values)


def _drawn(request: HeadRequest, labels: Labels, split: Split) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Episodes and frames, ``(N,)`` each, that teach: drawn from the episodes that may."""
    rows, frames = draw_frames(labels.known[split.fit], request.samples, np.random.default_rng([request.seed, 1]))
    if not len(rows):
        raise LabelError(f"'{request.label}' labels too few episodes: some must teach, some calibrate and some test")
    return split.fit[rows], frames


def _fit_guardrail(request: HeadRequest, model: LatentModel, report: Report) -> tuple[bytes, HeadCard]:
    def check(labels: Labels, split: Split) -> None:
        guardrail_targets(labels, labels.values[_drawn(request, labels, split)])
        require_trajectories(labels.unsafe[split.calibration], request.miss_rate)

    data = load_trajectories(request, model, report, check)
    assert data.labels is not None
    labels = data.labels.as_classes() if request.target == "class" or data.labels.unit == "mixed" else data.labels
    fit = data.split.fit
    rng, generator = np.random.default_rng([request.seed, 1]), torch.Generator().manual_seed(request.seed)
    rows, frames = choose_frames(labels.taken(fit), data.latents[fit], request.samples, request.choice, rng, generator)
    taught, values = data.latents[fit[rows], frames], labels.values[fit[rows], frames]
    head = fit_guardrail(labels, torch.from_numpy(data.latents[fit]), taught, values, generator)
    graph = head_graph(head, torch.from_numpy(taught[:_PARITY_ROWS]))
    run = HeadGraph(graph, request.kind)

    def scores(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        latents = data.latents[rows]
        found: NDArray[np.float32] = run(latents.reshape(-1, model.latent_dim))[:, 0].reshape(latents.shape[:2])
        return found

    bound = calibrate(scores(data.split.calibration), labels.taken(data.split.calibration).unsafe, request.miss_rate)
    test = labels.taken(data.split.test)
    figures = measure_guardrail(scores(data.split.test), test, bound.threshold, np.random.default_rng([request.seed, 2]))
    return graph, _card(
        request,
        model,
        unit=labels.unit if labels.kind == "margin" else "score",
        columns=("margin",),
        samples=len(values),
        threshold=bound.threshold,
        miss_rate=bound.miss_rate,
        calibration_trajectories=bound.trajectories,
        auroc=_number(figures.auroc),
        figures={name: _number(value) for name, value in asdict(figures).items()}
        | {"forbidden_samples": int((values < 0).sum()), "choice": request.choice},
    )


def _fit_goal_cost(request: HeadRequest, model: LatentModel, report: Report) -> tuple[bytes, HeadCard]:
    data = load_trajectories(request, model, report)
    labels = data.labels
    assert labels is not None
    drawn = _drawn(request, labels, data.split)
    taught, values = data.latents[drawn], labels.values[drawn]
    head = fit_goal_cost(labels, torch.from_numpy(data.latents[data.split.fit]), taught, values, torch.Generator().manual_seed(request.seed))
    graph = head_graph(head, torch.from_numpy(taught[:_PARITY_ROWS]))
    test = np.concatenate([data.split.calibration, data.split.test])
    known = labels.known[test]
    predicted = HeadGraph(graph, request.kind)(data.latents[test][known])[:, 0]
    figures = goal_cost_figures(predicted, labels.values[test][known]) if len(predicted) > 1 else {}
    return graph, _card(request, model, unit=labels.unit, columns=("cost",), samples=len(values), figures=figures)


def _fit_probe(request: HeadRequest, model: LatentModel, report: Report) -> tuple[bytes, HeadCard]:
    data = load_trajectories(request, model, report)
    if data.state is None:
        raise DatasetError(f"{request.data} records no state: there is nothing to probe for")
    targets, columns = probe_targets(data.state)
    rows = data.split.fit
    episodes, frames = draw_frames(np.ones(data.latents[rows].shape[:2], np.bool_), request.samples, np.random.default_rng([request.seed, 1]))
    taught, values = data.latents[rows[episodes], frames], targets[rows[episodes], frames]
    head = fit_probe(torch.from_numpy(data.latents[rows]), taught, values, torch.Generator().manual_seed(request.seed))
    graph = head_graph(head, torch.from_numpy(taught[:_PARITY_ROWS]))
    test = np.concatenate([data.split.calibration, data.split.test])
    latents, truth = data.latents[test].reshape(-1, model.latent_dim), targets[test].reshape(-1, len(columns))
    figures = {
        "network": probe_figures(HeadGraph(graph, request.kind)(latents), truth, columns),
        "ridge": probe_figures(ridge_values(fit_ridge(taught, values), latents), truth, columns),
    }
    return graph, _card(request, model, unit="m; yaw as sine and cosine", columns=columns, samples=len(values), figures=figures)


def _fit_depth(request: HeadRequest, model: LatentModel, report: Report) -> tuple[bytes, HeadCard]:
    data = read_depth_data(request.data)
    if data.frames.shape[1:] != model.frame:
        raise DatasetError(f"{request.data} holds pictures of {data.frames.shape[1:]}, the model takes {model.frame}")
    latents = np.concatenate([model.encode(data.frames[begin : begin + 256]) for begin in range(0, len(data.frames), 256)])
    # The last third of the episodes tests.
    test = data.episode >= np.quantile(data.episode, 2 / 3)
    if test.all():
        raise DatasetError(f"{request.data} holds one episode only: some must teach and some test")
    teach = np.flatnonzero(~test)
    teach = np.random.default_rng([request.seed, 1]).permutation(teach)[: request.samples]
    taught, depth = torch.from_numpy(latents[teach]), torch.from_numpy(data.depth[teach])
    head = fit_depth(taught, depth, torch.Generator().manual_seed(request.seed), report)
    graph = head_graph(head, taught[:_PARITY_ROWS])
    figures = depth_figures(HeadGraph(graph, request.kind)(latents[test]), data.depth[test], depth.mean(0).numpy())
    return graph, _card(request, model, unit="m", columns=("depth_32x32",), samples=len(teach), figures=figures)


def _number(value: Any) -> Any:
    """JSON knows no NaN: what could not be measured is null."""
    if isinstance(value, tuple):
        return [_number(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
