"""The exported rollout of a causal transformer: the same latents as the plain predictor's in torch, with less arithmetic, in every precision."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from test_lean import trained_alike
from tiny_runs import tiny_bundle, tiny_config

from world_model.bundle import read_manifest
from world_model.encoders.registry import EncoderConfig, build_encoder
from world_model.graphs import rollout_graph
from world_model.jepa import Jepa
from world_model.lean.rollout import lean_fixed_rollout, lean_rollout_graph, shared_rollout
from world_model.precision.half import to_half
from world_model.precision.integer import to_int8, to_int8_dynamic
from world_model.precision.rounded import as_rounded
from world_model.precision.running import opened
from world_model.predictors.registry import PredictorConfig, build_predictor
from world_model.predictors.transformer import TransformerPredictor
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.score import Score, ScoreSettings, fixed_score, score_parts
from world_model.training.learned import build
from world_model.untrained import export_untrained

WIDTH = 12


def jepa_with(predictor: TransformerPredictor) -> Jepa:
    encoder = build_encoder(EncoderConfig(kind="vit", size=64, depth=1, tokens="global" if predictor.tokens == 1 else "pooled"), 64, 64)
    return Jepa(encoder, predictor, WIDTH).eval()


@pytest.fixture(scope="module")
def predictor() -> TransformerPredictor:
    return trained_alike(3, 1, depth=2)


@pytest.fixture(scope="module")
def lean(predictor) -> onnx.ModelProto:
    return lean_rollout_graph(jepa_with(predictor))


@pytest.fixture(scope="module")
def plain(predictor) -> onnx.ModelProto:
    return rollout_graph(jepa_with(predictor))


def feed_of(predictor: TransformerPredictor, count: int, horizon: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Contexts that differ from candidate to candidate: whoever shares one among them computes something else."""
    rng = np.random.default_rng(seed)
    history, dim = predictor.history, predictor.tokens * WIDTH
    shapes = {"latents": (count, history, dim), "past_actions": (count, history - 1, 2), "actions": (count, horizon, 2)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def by_torch(predictor: TransformerPredictor, feed: dict[str, np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        return predictor(*(torch.from_numpy(values) for values in feed.values())).numpy()


def assert_alike(graph: onnx.ModelProto, predictor: TransformerPredictor, sizes: list[tuple[int, int]]) -> None:
    session = opened(graph)
    for count, horizon in sizes:
        feed = feed_of(predictor, count, horizon)
        expected = by_torch(predictor, feed)
        np.testing.assert_allclose(session.run(None, feed)[0], expected, atol=2e-5, rtol=1e-5)
        assert np.abs(expected - feed["latents"][:, -1:]).mean() > 0.2, "the predictor predicts something"


def test_the_graph_imagines_what_torch_does_for_any_number_of_candidates_and_steps(lean, predictor):
    """Four tokens a frame: tests/test_graphs.py."""
    assert_alike(lean, predictor, [(1, 1), (9, 6), (3, 13)])


def test_inputs_and_outputs_are_those_of_the_plain_graph(lean, plain):
    for values in ("input", "output"):
        ours, theirs = ({v.name: v.type for v in getattr(model.graph, values)} for model in (lean, plain))
        assert ours.keys() == theirs.keys()
        for name, kind in ours.items():
            shapes = [[entry.dim_value for entry in found.tensor_type.shape.dim] for found in (kind, theirs[name])]
            assert shapes[0] == shapes[1] and kind.tensor_type.elem_type == theirs[name].tensor_type.elem_type


def products(graph: onnx.GraphProto) -> int:
    """Multiplications per candidate of the products with constant matrices in the body of the rollout's loop, per step."""
    scan = next(node for node in graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    constants = {tensor.name: list(tensor.dims) for tensor in body.initializer}
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: [d.dim_value or 1 for d in value.type.tensor_type.shape.dim] for value in (*inferred.input, *inferred.value_info)}
    total = 0
    for node in body.node:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants:
            total += int(np.prod(constants[node.input[1]])) * int(np.prod(shapes[node.input[0]][:-1]))
    return total


def test_a_step_multiplies_less(lean, plain):
    """Counted in the graphs: of three frames, two need no modulation, the oldest has no query and key, the last layer is the newest's alone."""
    assert 0 < products(lean.graph) < 0.75 * products(plain.graph)


def test_a_fixed_graph_has_no_loop_and_imagines_the_same():
    grid = trained_alike(3, 4, depth=2)
    graph = lean_fixed_rollout(jepa_with(grid), 5, 2)
    assert {node.op_type for node in graph.graph.node}.isdisjoint({"Scan", "Loop", "If"})
    assert_alike(graph, grid, [(5, 2)])


@pytest.mark.parametrize("kind", ["int8", "int8_dynamic", "fp16"])
def test_other_precisions_imagine_nearly_the_same(lean, predictor, kind):
    """What goes into the loop is worked out before it: the calibrator of int8 has to work it out, too."""
    feed = feed_of(predictor, 32, 4)
    converters = {"int8": lambda: to_int8(lean, [feed]), "int8_dynamic": lambda: to_int8_dynamic(lean), "fp16": lambda: as_rounded(to_half(lean))}
    found, expected = opened(converters[kind]()).run(None, feed)[0], by_torch(predictor, feed)
    rows, others = found.reshape(-1, WIDTH), expected.reshape(-1, WIDTH)
    cosine = (rows * others).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(others, axis=1)
    assert cosine.mean() > (0.99999 if kind == "fp16" else 0.98)
    assert np.abs(found - expected).max() > (1e-5 if kind == "fp16" else 1e-3), "it is another precision"


def test_scores_rest_on_it_and_are_the_plain_ones():
    """Of any number of candidates, whose contexts are repeated, and of a fixed one, which share one context."""
    config = tiny_config(model={"latent_dim": 8, "predictor": {"kind": "transformer", "width": 16, "depth": 1, "heads": 2}})
    torch.manual_seed(0)
    learned = build(config, (64, 64, 3), 3)
    for module in learned.modules().values():
        module.eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    step = {"length_m": 0.04, "lower": [0.3, -0.3, 0.1], "upper": [0.7, 0.3, 0.5]}
    manifest = SimpleNamespace(tool_step=step, actor_steps=(1, 12), history=3, latent_dim=8, action_dim=3)
    settings, rng = ScoreSettings(), np.random.default_rng(0)
    feed = {
        "latents": rng.standard_normal((1, 3, 8)),
        "past_actions": rng.uniform(-1, 1, (1, 2, 3)),
        "actions": rng.uniform(-1, 1, (6, 3, 3)),
        "goal": rng.standard_normal(8),
        "steps_left": np.array(5.0),
        "tool": np.array([0.5, 0.0, 0.3]),
        "zones": np.array([[0.55, 0.05, 0.05, 0.05, 0.3, 0.01], [0.4, -0.1, 0.03, 0.05, 0.0, 0.0]]),
    }
    feed = {name: values.astype(np.float32) for name, values in feed.items()}
    with torch.inference_mode():
        expected = Score(learned, manifest, settings)(*(torch.from_numpy(values) for values in feed.values()))
    assert (expected[2] - torch.from_numpy(feed["latents"][:, -1:])).abs().mean() > 0.1, "the predictor predicts something"
    graphs = score_parts(learned, manifest, settings).whole(), fixed_score(learned, manifest, settings, 6, 3, 2)
    for graph in graphs:
        for found, right in zip(opened(graph).run(None, feed), expected, strict=True):
            np.testing.assert_allclose(found, right.numpy(), atol=1e-4)


def test_the_export_of_a_bundle_uses_it(tmp_path_factory, tmp_path):
    manifest = read_manifest(tiny_bundle(tmp_path_factory.getbasetemp()))
    config = tiny_config(model={"latent_dim": 8, "predictor": {"kind": "transformer", "width": 16, "depth": 1, "heads": 2}})
    frames = np.random.default_rng(3).integers(0, 256, (8, *manifest.frame), dtype=np.uint8)
    gaps = export_untrained(config, manifest, frames, tmp_path / "bundle")
    assert gaps["rollout"] < 1e-4
    scan = next(node for node in onnx.load(tmp_path / "bundle" / "rollout.onnx").graph.node if node.op_type == "Scan")
    assert len(scan.input) == 4, "newest frame, tokens and modulations of the older ones, and the actions"
    model = OnnxModel(tmp_path / "bundle")
    assert model.rollout(Context(np.ones((5, 3, 8), np.float32), np.zeros((5, 2, 3), np.float32)), np.zeros((5, 4, 3), np.float32)).shape == (5, 4, 8)


def test_another_predictor_shares_no_context():
    other = build_predictor(PredictorConfig(width=8, depth=1), 3, 1, WIDTH, 2)
    assert shared_rollout(SimpleNamespace(predictor=other), 3) is None
