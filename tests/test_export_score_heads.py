"""Learned guardrails inside the score graph say what the planner's own objective says of the same heads, each run by itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from bundles import write_bundle
from latent_mpc.cli import run as command
from learned_heads import write_linear_head
from test_export_score import scene
from tiny_runs import tiny_bundle, tiny_data

from arm_model import ToolStep
from planner_node.guardrails.learned import LearnedGuardrail
from planner_node.guardrails.workspace import WorkspaceGuardrail
from planner_node.guardrails.zone import ZoneGuardrail
from planner_node.objective import Objective
from planner_node.plan import Candidates, Problem
from world_model.bundle import BundleError, bundle_sha256, read_manifest
from world_model.heads.card import HeadCard, HeadError
from world_model.heads.ensemble import Ensemble
from world_model.heads.graph import head_graph, write_head
from world_model.heads.onnx_head import OnnxHead
from world_model.networks import load_networks
from world_model.precision.conversion import Asked, Fixed, convert
from world_model.precision.gates import GateError
from world_model.precision.running import opened
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.score import ScoreSettings, fixed_score, score_parts
from world_model.score_heads import open_heads, with_heads


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def bundle(session) -> Path:
    return tiny_bundle(session)


def write_fitted_head(out: Path, bundle: Path, seed: int, threshold: float) -> Path:
    """A guardrail of the kind that `head fit` writes, with weights from a seed: margins of both signs, in cm's order of size."""
    manifest = read_manifest(bundle)
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(64, manifest.latent_dim, generator=generator)
    head = Ensemble(latents, 1, 16, 3, generator).eval()
    head.gain.fill_(0.05)
    sha256 = bundle_sha256(manifest)
    card = HeadCard(out.name, "guardrail", "tool_y > 9", sha256, manifest.latent_dim, "m", ("margin",), 1, threshold, 0.1, 9, 1.0)
    write_head(out, head_graph(head, latents), card)
    return out


@pytest.fixture(scope="module")
def heads(bundle, session) -> tuple[OnnxHead, ...]:
    """One as `head fit` writes it, and one by hand, in another opset."""
    folders = [write_fitted_head(session / "fitted", bundle, 0, -0.03), write_linear_head(session / "linear", bundle, [0.03, -0.02], 0.05)]
    return open_heads(folders, read_manifest(bundle))


@pytest.fixture(scope="module")
def plain(bundle) -> onnx.ModelProto:
    return score_parts(load_networks(bundle, read_manifest(bundle)), read_manifest(bundle), ScoreSettings()).whole()


def by_the_planner(model: OnnxModel, feed: dict, fences: list, heads: tuple[OnnxHead, ...]):
    """Margins of the planner's objective, on what the graph imagined itself."""
    step = ToolStep.from_json(model.manifest.tool_step)
    guardrails = [WorkspaceGuardrail(step), *(ZoneGuardrail(zone, 0.012) for zone in fences)]
    objective = Objective([], guardrails, [LearnedGuardrail(head) for head in heads])
    context, actions = Context(feed["latents"], feed["past_actions"]), feed["actions"]
    points = [np.repeat(feed["tool"][None].astype(np.float64), len(actions), 0)]
    for action in actions.transpose(1, 0, 2):
        points.append(step.advance(points[-1], action))
    imagined = model.rollout(context.repeated(len(actions)), actions)
    problem = Problem(context, feed["goal"], feed["tool"].astype(np.float64), float(feed["steps_left"]))
    return objective.score(problem, Candidates(actions, imagined, np.stack(points, axis=1)))


@pytest.mark.parametrize(("count", "horizon", "zones"), [(40, 8, 2), (1, 1, 0), (7, 5, 1)])
def test_the_margin_is_the_least_of_zones_and_heads(bundle, heads, plain, count, horizon, zones):
    model, session = OnnxModel(bundle), opened(with_heads(plain, heads))
    bare = opened(plain)
    whose = set()
    for seed in range(6):
        feed, fences = scene(model, count, horizon, zones, seed)
        cost, margin, imagined = session.run(None, feed)
        scores = by_the_planner(model, feed, fences, heads)
        assert np.allclose(margin, scores.margin, atol=1e-5), f"by {np.abs(margin - scores.margin).max()}"
        before = bare.run(None, feed)
        assert np.array_equal(cost, before[0]) and np.array_equal(imagined, before[2]), "cost and imagination are what they were"
        assert np.all(margin <= before[1] + 1e-7)
        whose |= set((margin < before[1] - 1e-6).tolist())
    assert count == 1 or whose == {True, False}, "sometimes a head is the strictest, sometimes the tool path is"


def test_inputs_and_outputs_are_those_of_a_graph_without_heads(heads, plain):
    whole = with_heads(plain, heads)
    for values in ("input", "output"):
        ours, theirs = ({v.name: v.type for v in getattr(graph.graph, values)} for graph in (whole, plain))
        assert list(ours) == list(theirs) and all(ours[name] == theirs[name] for name in ours)
    assert with_heads(plain, ()) is plain


def test_who_begins_where_a_head_forbids_may_leave_but_not_go_deeper(bundle, session, plain):
    """A head that forbids everything, everywhere as much: nothing becomes worse, so nothing is refused for it."""
    nowhere = open_heads([write_linear_head(session / "nowhere", bundle, [0.0], -0.2)], read_manifest(bundle))
    feed, _ = scene(OnnxModel(bundle), 5, 3, 0, 1)
    bare = opened(plain).run(None, feed)[1]
    assert np.allclose(opened(with_heads(plain, nowhere)).run(None, feed)[1], np.minimum(bare, 0.0), atol=1e-7)


def test_what_a_head_cannot_judge_is_infeasible(bundle, session, plain, heads):
    lost = open_heads([write_linear_head(session / "lost", bundle, [float("nan")], 0.0)], read_manifest(bundle))
    model = OnnxModel(bundle)
    feed, _ = scene(model, 4, 3, 1, 5)
    cost, margin, _ = opened(with_heads(plain, (*heads, *lost))).run(None, feed)
    assert np.isposinf(cost).all() and np.isneginf(margin).all()
    feed["actions"][2, 1, 0] = np.nan
    cost, margin, _ = opened(with_heads(plain, heads)).run(None, feed)
    assert np.isposinf(cost).tolist() == np.isneginf(margin).tolist() == [False, False, True, False]


def test_a_graph_of_fixed_shape_obeys_them_too(bundle, heads, plain):
    manifest = read_manifest(bundle)
    fixed = with_heads(fixed_score(load_networks(bundle, manifest), manifest, ScoreSettings(), 6, 3, 2), heads)
    assert {node.op_type for node in fixed.graph.node}.isdisjoint({"Scan", "Loop", "If"})
    assert all(dim.HasField("dim_value") for value in (*fixed.graph.input, *fixed.graph.output) for dim in value.type.tensor_type.shape.dim)
    feed, _ = scene(OnnxModel(bundle), 6, 3, 2, 9)
    for found, expected in zip(opened(fixed).run(None, feed), opened(with_heads(plain, heads)).run(None, feed), strict=True):
        assert np.allclose(found, expected, atol=2e-5)


# Through the command.


def test_export_writes_a_score_that_obeys_a_head_and_says_so(bundle, session, heads, tmp_path):
    options = [part for head in heads for part in ("--guardrail-head", str(head.folder))]
    out = tmp_path / "out"
    asked = ["export", "--model", str(bundle), "--out", str(out), "--score", "--fp16", "--calibrate", str(tiny_data(session))]
    assert command([*asked, "--scenes", "8", *options]) == 0
    manifest = read_manifest(out)
    assert [entry["name"] for entry in manifest.score["heads"]] == ["fitted", "linear"] and manifest.score["heads"][0]["threshold"] == -0.03
    assert ScoreSettings.from_json(manifest.score) == ScoreSettings() and bundle_sha256(manifest) == bundle_sha256(read_manifest(bundle))
    report = json.loads((out / "parity.json").read_text())
    assert report["graphs"]["score"]["fp32"]["recorded"]["worst"] < 1e-3
    assert [row["name"] for row in report["calibrations"]["fp16"]["heads"].values()] == ["fitted", "linear"]
    feed, fences = scene(OnnxModel(bundle), 6, 3, 2, 3)
    expected = by_the_planner(OnnxModel(bundle), feed, fences, heads).margin
    for precision, most in (("", 1e-5), (".fp16", 0.01)):
        assert np.allclose(opened(out / f"score{precision}.onnx").run(None, feed)[1], expected, atol=most)


def test_a_graph_that_overlooks_its_head_is_refused(bundle, session, heads, tmp_path, monkeypatch):
    """The gate compares with the heads run by themselves, not with the graph that they were put into."""
    monkeypatch.setattr("world_model.precision.conversion.with_heads", lambda graph, heads: graph)
    with pytest.raises(GateError, match=r"score.onnx: the \w+ difference from torch .* no bundle was written"):
        convert(bundle, tmp_path / "out", Asked(score=ScoreSettings(), heads=tuple(head.folder for head in heads)))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_baked_in_is_one_line(bundle, session, tmp_path, capsys):
    other = write_linear_head(tmp_path / "other", write_bundle(tmp_path / "another"), [0.0], 1.0)
    asked = ["export", "--model", str(bundle), "--out", str(tmp_path / "out")]
    assert command([*asked, "--score", "--guardrail-head", str(other)]) == 2
    said = capsys.readouterr().err
    assert "was fitted on another model than 'tiny'" in said and said.count("\n") == 1 and not (tmp_path / "out").exists()
    own = write_linear_head(tmp_path / "own", bundle, [0.0], 1.0)
    assert command([*asked, "--guardrail-head", str(own)]) == 2 and "add --score" in capsys.readouterr().err
    card = json.loads((own / "head.json").read_text())
    (own / "head.json").write_text(json.dumps(card | {"kind": "probe"}))
    with pytest.raises(HeadError, match=r"is a probe head: score.onnx takes calibrated guardrails only"):
        open_heads([own], read_manifest(bundle))
    with pytest.raises(BundleError, match="add --score"):
        Asked(fixed=(Fixed(2, 2),), heads=(own,))
