"""From a bundle to the same one with further graphs and precisions, each measured beside torch, or to nothing at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from world_model.bundle import FILES, FP32, PARITY, WITNESS, BundleError, Manifest, read_manifest, replacing, write_manifest
from world_model.heads.onnx_head import OnnxHead
from world_model.lean.rollout import lean_fixed_rollout
from world_model.networks import load_networks
from world_model.precision.agreement import agreement
from world_model.precision.figures import Outputs, Run, figures, torch_runs
from world_model.precision.gates import GATES, require_agreement, require_figures, require_success
from world_model.precision.half import to_half
from world_model.precision.inputs import Inputs, feeds, opened_data, random_inputs, recorded, split, whole_episodes
from world_model.precision.integer import Feed, to_int8, to_int8_dynamic
from world_model.precision.rounded import as_rounded
from world_model.precision.running import opened
from world_model.precision.tolerance import Episodes, measure
from world_model.runtime import OnnxModel
from world_model.score import ScoreParts, ScoreSettings, fixed_score, score_parts
from world_model.score_heads import described, least_margin, open_heads, with_heads
from world_model.training import Learned

PRECISIONS = tuple(name for name in GATES if name != FP32)
# Critic and actor are small, and what they say decides: int8 is for what takes the time.
_INT8_KINDS = ("encoder", "witness", "rollout", "score")
# Which output of a graph holds latents.
_LATENTS = {"encoder": 0, "witness": 0, "rollout": 0, "score": 2}
_CALIBRATION_SCENES = 128
_RANDOM_SCENES = 16
_EPISODES = 50

Play = Callable[[Path, Path], dict[str, Any]]
"""Plays episodes with a bundle in fp32 and with the same one in another precision; ``success_percent`` of each is among what it finds."""


@dataclass(frozen=True)
class Fixed:
    """A shape that a graph is fixed to: N = ``count`` candidates, H = ``horizon`` steps, Z = ``zones``."""

    count: int
    horizon: int
    zones: int = 4

    def __post_init__(self) -> None:
        if min(self.count, self.horizon) < 1 or self.zones < 0:
            raise BundleError(f"a graph of fixed shape needs at least one candidate and one step, not {self.count},{self.horizon},{self.zones}")


@dataclass(frozen=True)
class Asked:
    """What to add to a bundle.

    ``precisions`` among ``PRECISIONS``, of ``graphs`` or of all; ``score``: settings of ``score.onnx``, None for none, with the guardrail ``heads``
    in these folders; ``fixed`` shapes of rollout and score; ``data``: recorded episodes, one half to calibrate on, the other to judge on, in
    ``scenes`` with ``candidates`` each; ``play``: who plays episodes with every precision, None for nobody.
    """

    precisions: tuple[str, ...] = ()
    graphs: tuple[str, ...] = ()
    score: ScoreSettings | None = None
    fixed: tuple[Fixed, ...] = ()
    data: Path | None = None
    scenes: int = 100
    candidates: int = 64
    seed: int = 0
    play: Play | None = None
    heads: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.precisions if name not in PRECISIONS]
        if unknown:
            raise BundleError(f"unknown precision '{unknown[0]}'; there are {', '.join(PRECISIONS)}")
        for name in self.graphs:
            if name not in _kinds("fp16"):
                raise BundleError(f"there is no graph '{name}' to convert; there are {', '.join(_kinds('fp16'))}")
        if self.graphs and not self.precisions:
            raise BundleError("a graph to convert is named, but no precision: add --fp16 or --int8, or leave --graph out")
        if self.heads and self.score is None:
            raise BundleError("a guardrail head is judged inside score.onnx: add --score, or leave --guardrail-head out")
        if self.precisions and self.data is None:
            raise BundleError("a precision is calibrated and judged on recorded frames: name a data folder with --calibrate")
        if min(self.scenes, self.candidates) < 2:
            raise BundleError(f"at least 2 scenes and 2 candidates are needed, not {self.scenes} and {self.candidates}")


@dataclass(frozen=True)
class _Bench:
    """What everything is measured with."""

    manifest: Manifest
    learned: Learned
    references: dict[str, Run]
    judged: dict[str, Inputs]
    calibration: Inputs | None
    heads: tuple[OnnxHead, ...]
    episodes: Episodes | None


def convert(bundle: Path, out: Path, asked: Asked) -> dict[str, Any]:
    """Write ``bundle`` with what is ``asked`` for to ``out``, in the place of further graphs and precisions that it had; returns ``parity.json``.

    Raises:
        GateError: a graph fails its gate; nothing is written then, and a bundle that was in ``out`` stays.
        BundleError: the bundle is damaged, cannot be built again in torch, has no such graph, or ``out`` is something else.
        DatasetError: the recorded data are missing or damaged.
        HeadError: a head is damaged, belongs to another bundle, or is no calibrated guardrail.
    """
    manifest = replace(read_manifest(bundle), further=(), precisions={}, score={}, parity=False)
    with replacing(out) as staging:
        for name in (*FILES, *([WITNESS] if manifest.witness else [])):
            shutil.copyfile(bundle / name, staging / name)
        bench = _bench(bundle, manifest, asked)
        report: dict[str, Any] = {
            "data": None if asked.data is None else asked.data.name,
            "scenes": {name: inputs.count for name, inputs in bench.judged.items()},
            "gates": {name: _bounds(name) for name in (FP32, *asked.precisions)},
            "graphs": {},
            "plans": {},
            "calibrations": {},
            "closed_loop": {},
        }
        parts = None if asked.score is None else score_parts(bench.learned, manifest, asked.score)
        bare = dict(_further(bench, parts, asked))
        for name, graph in bare.items():
            onnx.save(_complete(bench, name, graph), staging / f"{name}.onnx")
        baked = {"heads": described(bench.heads)} if bench.heads else {}
        manifest = replace(manifest, further=tuple(bare), score={} if asked.score is None else asked.score.as_json() | baked)
        for kind in asked.graphs:
            if not _chosen(manifest, (kind,)):
                raise BundleError(f"{bundle} has no graph '{kind}' to convert, only {', '.join(manifest.graphs)}; --score makes score.onnx")
        chosen = {name: _chosen(manifest, asked.graphs or _kinds(name)) for name in asked.precisions}
        for name in manifest.graphs:
            report["graphs"][name] = {FP32: _judge(bench, name, FP32, staging / f"{name}.onnx")}
        for precision in asked.precisions:
            for name in chosen[precision]:
                file = staging / f"{name}.{precision}.onnx"
                graph = bare[name] if name in bare else onnx.load(staging / f"{name}.onnx")
                onnx.save(_complete(bench, name, _converted(bench, parts, name, precision, graph)), file)
                report["graphs"][name][precision] = _judge(bench, name, precision, file)
            manifest = replace(manifest, precisions=manifest.precisions | {precision: list(chosen[precision])})
        manifest = write_manifest(staging, manifest)
        for precision in asked.precisions:
            _judge_plans(staging, manifest, precision, bench, asked, report)
        (staging / PARITY).write_text(json.dumps(report, indent=2) + "\n")
        write_manifest(staging, replace(manifest, parity=True))
    return report


def as_plain(bundle: Path, precision: str, target: Path, faithful: bool = False) -> Path:
    """The bundle in one precision as a plain bundle ``target``, for whoever knows nothing of precisions.

    ``faithful``: with fp16 rounded as hardware does, where this CPU would compute in fp32.

    Raises:
        BundleError: it is damaged, or holds nothing in this precision.
    """
    manifest = read_manifest(bundle)
    target.mkdir(parents=True)
    for name in (*FILES, *([WITNESS] if manifest.witness else [])):
        stem = name.removesuffix(".onnx")
        source = bundle / (manifest.graph(stem, precision) if name.endswith(".onnx") else name)
        if faithful and source.name != name:
            onnx.save(_computed(onnx.load(source), precision), target / name)
        else:
            shutil.copyfile(source, target / name)
    write_manifest(target, replace(manifest, name=f"{manifest.name} in {precision}", further=(), precisions={}, score={}, parity=False))
    return target


def _computed(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The graph as the hardware that it is for computes it."""
    return as_rounded(model) if precision == "fp16" else model


def _bounds(precision: str) -> dict[str, float]:
    return {name: value for name, value in vars(GATES[precision]).items() if np.isfinite(value)}


def _bench(bundle: Path, manifest: Manifest, asked: Asked) -> _Bench:
    rng = np.random.default_rng(asked.seed)
    learned = load_networks(bundle, manifest)
    judged = {"random numbers": random_inputs(manifest, _RANDOM_SCENES, rng)}
    calibration = episodes = None
    if asked.data is not None:
        data, model = opened_data(asked.data), OnnxModel(bundle)
        for_calibration, for_judging = split(data, rng)
        calibration = recorded(data, model, _CALIBRATION_SCENES, rng, for_calibration)
        judged = {"recorded scenes": recorded(data, model, asked.scenes, rng, for_judging), **judged}
        episodes = whole_episodes(data, manifest, for_judging[:_EPISODES])
    references = torch_runs(learned, manifest, asked.score)
    heads = open_heads(asked.heads, manifest)
    if heads:
        references["score"] = _with_heads(references["score"], heads)
    if manifest.witness:  # its weights are in its graph alone, which was compared with torch when it was exported
        witness = opened(bundle / WITNESS)
        references["witness"] = lambda feed: witness.run(None, feed)
    return _Bench(manifest, learned, references, judged, calibration, heads, episodes)


def _with_heads(score: Run, heads: tuple[OnnxHead, ...]) -> Run:
    """What ``score`` says, with the margins of the heads themselves, each run by itself."""

    def run(feed: Feed) -> Outputs:
        cost, margin, imagined = score(feed)
        return [cost, least_margin(margin, feed["latents"][:, -1], imagined, heads), imagined]

    return run


def _complete(bench: _Bench, name: str, graph: onnx.ModelProto) -> onnx.ModelProto:
    """A score with the heads, in fp32; any other graph as it is."""
    return with_heads(graph, bench.heads) if name.partition(".")[0] == "score" else graph


def _further(bench: _Bench, parts: ScoreParts | None, asked: Asked) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Graphs beside the bundle's own, in fp32, by name."""
    if parts is not None:
        yield "score", parts.whole()
    for shape in asked.fixed:
        yield f"rollout.{shape.count}x{shape.horizon}", lean_fixed_rollout(bench.learned.jepa, shape.count, shape.horizon)
        if asked.score is not None:
            graph = fixed_score(bench.learned, bench.manifest, asked.score, shape.count, shape.horizon, shape.zones)
            yield f"score.{shape.count}x{shape.horizon}x{shape.zones}", graph


def _kinds(precision: str) -> tuple[str, ...]:
    """What a precision is for, where nothing else is asked for."""
    return ("encoder", "rollout", "heads", "actor", "witness", "score") if precision == "fp16" else _INT8_KINDS


def _chosen(manifest: Manifest, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The graphs of these kinds, whatever their shape."""
    return tuple(name for name in manifest.graphs if name.partition(".")[0] in kinds)


def _converted(bench: _Bench, parts: ScoreParts | None, name: str, precision: str, graph: onnx.ModelProto) -> onnx.ModelProto:
    """The ``graph`` called ``name`` in ``precision``."""
    if name == "score" and parts is not None:  # two graphs in one, each converted by itself: the first of them is a loop
        rollout_feeds = [] if bench.calibration is None else feeds("rollout", bench.calibration, bench.manifest)
        judge = parts.judge if precision.startswith("int8") else _in(parts.judge, precision, ())
        return replace(parts, rollout=_in(parts.rollout, precision, rollout_feeds), judge=judge).whole()
    calibration = [] if bench.calibration is None else feeds(name, bench.calibration, bench.manifest)
    return _in(graph, precision, calibration)


def _in(model: onnx.ModelProto, precision: str, calibration: Any) -> onnx.ModelProto:
    if precision == "fp16":
        return to_half(model)
    return to_int8(model, calibration) if precision == "int8" else to_int8_dynamic(model)


def _judge(bench: _Bench, name: str, precision: str, file: Path) -> dict[str, Any]:
    """Figures of a graph on recorded scenes and on random numbers; the gate looks at the recorded ones, and for fp32 at both."""
    session = opened(_computed(onnx.load(file), precision))
    kind = name.partition(".")[0]
    reference = bench.references[kind]
    found: dict[str, Any] = {"bytes": file.stat().st_size}
    for place, (on, inputs) in enumerate(bench.judged.items()):
        measured = figures(reference, lambda feed: session.run(None, feed), feeds(name, inputs, bench.manifest), _LATENTS.get(kind))
        if precision == FP32 or place == 0:
            require_figures(name, precision, measured, on)
        found[on.partition(" ")[0]] = measured.as_json()
    return found


def _judge_plans(staging: Path, manifest: Manifest, precision: str, bench: _Bench, asked: Asked, report: dict[str, Any]) -> None:
    """Whether plans stay what they are: the same winners, and, where episodes are asked for, the same success."""
    plain = as_plain(staging, precision, staging / f".{precision}", faithful=True)
    try:
        inputs = bench.judged["recorded scenes"]
        found = agreement(OnnxModel(staging), OnnxModel(plain), inputs, asked.candidates, np.random.default_rng(asked.seed))
        require_agreement(precision, found)
        report["plans"][precision] = found.as_json()
        assert bench.episodes is not None
        report["calibrations"][precision] = measure(OnnxModel(staging), OnnxModel(plain), bench.episodes, bench.heads)
        if asked.play is not None:
            played = asked.play(staging, plain)
            require_success(precision, played["success_percent"], played["fp32_success_percent"])
            report["closed_loop"][precision] = played
    finally:
        shutil.rmtree(plain)
