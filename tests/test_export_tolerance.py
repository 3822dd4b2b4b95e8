"""What was calibrated in fp32 is judged again in the precision that runs, and who runs it is told what came of it."""

from __future__ import annotations

import json
import shutil
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learned_heads import write_linear_head
from tiny_runs import tiny_bundle, tiny_data

from world_model.bundle import PARITY, Manifest, read_manifest, record_surprise, write_manifest
from world_model.heads.onnx_head import OnnxHead
from world_model.precision.conversion import Asked, as_plain, convert
from world_model.precision.inputs import opened_data, random_inputs, split, whole_episodes
from world_model.precision.running import opened
from world_model.precision.table import table
from world_model.precision.tolerance import doubts, measure
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.runtimes.choice import GraphChoice, RuntimeChoice
from world_model.surprise import SurpriseCalibration, SurpriseMonitor, run_scores, run_terms

THRESHOLD = 0.9


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def calibrated(session) -> Path:
    bundle = Path(shutil.copytree(tiny_bundle(session), session / "calibrated"))
    record_surprise(bundle, SurpriseCalibration((1.0, 1.5, 2.0), THRESHOLD).to_json(), [])
    return bundle


@pytest.fixture(scope="module")
def head(calibrated, session) -> OnnxHead:
    return OnnxHead(write_linear_head(session / "fence", calibrated, [0.5, -0.4, 0.3], 0.1), read_manifest(calibrated))


@pytest.fixture(scope="module")
def converted(calibrated, session) -> tuple[Path, dict]:
    out = session / "tolerated"
    return out, convert(calibrated, out, Asked(("int8_dynamic",), ("encoder", "rollout"), data=tiny_data(session), scenes=12, candidates=16))


class Mixed:
    """The bundle in int8_dynamic, put together by hand."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_manifest(folder)
        self.history, self.latent_dim, self.action_dim = self.manifest.history, self.manifest.latent_dim, self.manifest.action_dim
        self._encoder, self._rollout = (opened(folder / f"{name}.int8_dynamic.onnx") for name in ("encoder", "rollout"))

    def encode(self, frames: np.ndarray, joints: np.ndarray | None = None) -> np.ndarray:
        return self._encoder.run(None, {"frames": frames})[0]

    def rollout(self, context: Context, actions: np.ndarray) -> np.ndarray:
        return self._rollout.run(None, {"latents": context.latents, "past_actions": context.actions, "actions": actions})[0]


def whole_runs(model: OnnxModel, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Scores by the statistic that calibrates, which takes a run at once."""
    calibration = SurpriseCalibration((1.0, 1.5, 2.0), THRESHOLD)
    runs = zip(frames, actions, strict=True)
    scores = [run_scores(run_terms(model, model.encode(seen), driven, calibration.horizons), calibration) for seen, driven in runs]
    return np.concatenate([values[np.isfinite(values)] for values in scores])


def test_the_statement_is_what_a_node_would_have_said_frame_by_frame(converted, session, head, tmp_path):
    """Recomputed with the monitor that the planner node runs, one frame after another, and the head's own margins."""
    out, report = converted
    data, rng = opened_data(tiny_data(session)), np.random.default_rng(0)
    random_inputs(read_manifest(out), 16, rng)  # what the exporter draws first
    episodes = whole_episodes(data, read_manifest(out), split(data, rng)[1])
    frames, actions = episodes.frames, episodes.actions
    scores: dict[str, list[float]] = {"fp32": [], "int8_dynamic": []}
    margins: dict[str, list[np.ndarray]] = {"fp32": [], "int8_dynamic": []}
    for name, model in (("fp32", OnnxModel(out)), ("int8_dynamic", Mixed(out))):
        for pictures, driven in zip(frames, actions, strict=True):
            monitor = SurpriseMonitor(model, SurpriseCalibration((1.0, 1.5, 2.0), THRESHOLD), 0.2)
            place = np.concatenate([np.zeros((1, driven.shape[1])), np.cumsum(driven, axis=0)])
            latents = np.concatenate([model.encode(picture[None]) for picture in pictures])
            margins[name].append(head.margins(latents))
            for step, latent in enumerate(latents):
                reading = monitor.see(0.2 * step, latent, place[step])
                if reading is not None and step >= 3:
                    scores[name].append(reading.score)
    said = report["calibrations"]["int8_dynamic"]["surprise"]
    right, found = (np.array(values) for values in scores.values())
    assert said["frames"] == len(right) == len(frames) * (frames.shape[1] - 3)
    assert said["changed"] == pytest.approx(np.mean((right > THRESHOLD) != (found > THRESHOLD)), abs=1.5 / len(right))
    own = np.sort(right)[-int(np.floor(0.005 * (len(right) - 1))) - 1]
    assert said["own_threshold"] == pytest.approx(own, rel=1e-3)
    assert said["changed_at_own"] == pytest.approx(np.mean((right > own) != (found > own)), abs=1.5 / len(right))
    assert said["worst"] == pytest.approx(np.abs(right - found).max(), rel=0.02) and said["mean"] > 0
    assert said["flagged_fp32"] == pytest.approx(np.mean(whole_runs(OnnxModel(out), frames, actions) > THRESHOLD), abs=1.5 / said["frames"])
    right, found = (np.concatenate(values) for values in margins.values())
    plain = OnnxModel(as_plain(out, "int8_dynamic", tmp_path / "plain"))
    measured = measure(OnnxModel(out), plain, episodes, (head,))
    assert measured["surprise"] == said
    row = measured["heads"][head.card.graph_sha256]
    assert row["forbidden"] == (right < 0).sum() > 0 and row["frames"] == len(right)
    assert row["overlooked"] == pytest.approx(np.mean(found[right < 0] >= 0), abs=1e-9)
    assert row["worst"] == pytest.approx(np.abs(right - found).max(), rel=1e-4)
    shown = table(report | {"calibrations": {"int8_dynamic": measured}})
    assert "surprise in int8_dynamic: " in shown and "head 'fence' in int8_dynamic: " in shown


def choice(precision: str, *graphs: str) -> RuntimeChoice:
    return RuntimeChoice("auto", tuple(GraphChoice(graph, "cpu", precision) for graph in graphs), "the CPU", "")


def with_verdicts(folder: Path, surprise: float | None, overlooked: float, head: OnnxHead | None, own: float = 0.0) -> Manifest:
    """``folder`` with other figures in its parity.json."""
    content = json.loads((folder / PARITY).read_text())
    rows = content["calibrations"]["int8_dynamic"]
    if surprise is None:
        content["calibrations"] = {}
    else:
        rows["surprise"] |= {"changed": surprise, "changed_at_own": own}
        rows["heads"] = {head.card.graph_sha256: {"overlooked": overlooked, "threshold": head.card.threshold}}
    (folder / PARITY).write_text(json.dumps(content))
    manifest = json.loads((folder / "manifest.json").read_text())
    return write_manifest(
        folder, Manifest(**manifest | {key: tuple(manifest[key]) for key in ("tasks", "frame", "actor_steps", "joints", "further")})
    )


def test_who_runs_another_precision_is_warned_where_it_matters_and_only_there(converted, head, tmp_path):
    bundle = Path(shutil.copytree(converted[0], tmp_path / "bundle"))
    heads = (head,)
    fine = with_verdicts(bundle, 0.004, 0.09, head)
    assert doubts(bundle, fine, choice("int8_dynamic", "rollout"), heads) == []
    off = with_verdicts(bundle, 0.018, 0.2, head)
    said = doubts(bundle, off, choice("int8_dynamic", "rollout", "heads"), heads)
    assert [line.count("\n") for line in said] == [0, 0]
    assert "in int8_dynamic 1.8 % of recorded frames are judged otherwise, more than 0.5 %" in said[0]
    assert "head 'fence' is calibrated in fp32; in int8_dynamic 20.0 % of the recorded frames that it forbids pass, more than its miss" in said[1]
    assert len(doubts(bundle, off, choice("int8_dynamic", "encoder"))) == 1, "perception knows no heads"
    assert doubts(bundle, off, choice("fp32", "rollout"), heads) == []
    quiet = with_verdicts(bundle, 0.0, 0.0, head, own=0.006)
    stricter = copy(head)
    stricter.card = replace(head.card, threshold=head.card.threshold - 1.0)
    said = doubts(bundle, fine, choice("int8_dynamic", "rollout"), (stricter,))
    assert len(said) == 2 and "head 'fence' is calibrated in fp32, what int8_dynamic does to it was not measured" in said[1], "fitted again since"
    assert "0.6 % of recorded frames" in doubts(bundle, quiet, choice("int8_dynamic", "rollout"), heads)[0], "no frame was near the threshold"
    with_verdicts(bundle, 0.018, 0.2, head)
    off = read_manifest(bundle)
    assert doubts(bundle, off, choice("int8_dynamic", "heads", "actor"), heads) == [], "neither judges frames"


def test_what_was_never_measured_is_said(converted, calibrated, head, tmp_path):
    bundle = Path(shutil.copytree(converted[0], tmp_path / "bundle"))
    running = choice("int8_dynamic", "rollout")
    silent = with_verdicts(bundle, None, 0.0, None)
    said = doubts(bundle, silent, running, (head,))
    assert len(said) == 2 and all("was not measured: `latent-mpc export" in line for line in said)
    assert doubts(calibrated, read_manifest(calibrated), running) == said[:1], "a bundle without parity.json"
    again = Path(shutil.copytree(converted[0], tmp_path / "again"))
    record_surprise(again, SurpriseCalibration((1.0, 1.5, 2.0), 0.5).to_json(), [])
    assert doubts(again, read_manifest(again), running) == said[:1], "calibrated again since: the old statement says nothing"
    assert doubts(bundle, replace(silent, surprise={}), running) == [], "without a calibration nothing is flagged"
