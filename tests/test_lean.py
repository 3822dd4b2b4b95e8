"""Rollouts with less arithmetic give the same numbers: against the equations, written down once more in double precision."""

import dataclasses
import math

import numpy as np
import onnxruntime
import pytest
import torch

from world_model.graphs import to_onnx
from world_model.lean import LewmShape, LewmWeightsError, lewm_rollout, random_lewm_weights
from world_model.lean.exact_reuse import ExactLewmRollout
from world_model.lean.int8 import quantised
from world_model.lean.lewm import session_options
from world_model.lean.plain import PlainLewmRollout
from world_model.lean.transformer import ExactTransformerRollout, transformer_rollout_graph
from world_model.lean.vit import LeanDinoV2
from world_model.predictors.transformer import TransformerPredictor

SHAPE = LewmShape(width=32, depth=2, heads=2, head_width=16, mlp=64, projection=48, action_dim=4, smoothed=5, action_mlp=40)
SHORT = dataclasses.replace(SHAPE, frames=2)  # its window slides at the second step: small graphs are exported in less time


erf = np.vectorize(math.erf)


def expit(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def norm(x, eps, weight=1.0, bias=0.0):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def costs_by_the_book(weights, shape, context, past, actions, goal):
    """A LeWorldModel as its paper and stable-worldmodel describe it: whole windows, one candidate at a time, numpy, float64."""
    w = {name: value.double().numpy() for name, value in weights.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    costs = []
    for candidate in actions.astype(np.float64):
        acts = np.concatenate([past, candidate])
        smooth = acts @ w["action_encoder.patch_embed.weight"][:, :, 0].T + w["action_encoder.patch_embed.bias"]
        hidden = linear(smooth, "action_encoder.embed.0")
        conditions = linear(hidden * expit(hidden), "action_encoder.embed.2")
        latents = list(context.astype(np.float64))
        while len(latents) < len(acts) + 1:
            begin = max(0, len(latents) - shape.frames)
            x = np.stack(latents[begin:])
            c = conditions[begin : len(latents)]
            x = x + w["predictor.pos_embedding"][0, : len(x)]
            for layer in range(shape.depth):
                name = f"predictor.transformer.layers.{layer}"
                steer = np.split(linear(c * expit(c), f"{name}.adaLN_modulation.1"), 6, axis=-1)
                y = norm(norm(x, 1e-6) * (1 + steer[1]) + steer[0], 1e-5, w[f"{name}.attn.norm.weight"], w[f"{name}.attn.norm.bias"])
                q, k, v = (part.reshape(len(x), shape.heads, -1) for part in np.split(y @ w[f"{name}.attn.to_qkv.weight"].T, 3, axis=-1))
                scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(shape.head_width)
                scores[:, np.triu(np.ones((len(x), len(x)), bool), 1)] = -np.inf
                mixed = np.einsum("hij,jhd->ihd", softmax(scores), v).reshape(len(x), -1)
                x = x + steer[2] * linear(mixed, f"{name}.attn.to_out.0")
                y = norm(norm(x, 1e-6) * (1 + steer[4]) + steer[3], 1e-5, w[f"{name}.mlp.net.0.weight"], w[f"{name}.mlp.net.0.bias"])
                x = x + steer[5] * linear(gelu(linear(y, f"{name}.mlp.net.1")), f"{name}.mlp.net.4")
            x = norm(x[-1], 1e-5, w["predictor.transformer.norm.weight"], w["predictor.transformer.norm.bias"])
            b = "pred_proj.net.1"
            x = linear(x, "pred_proj.net.0")
            x = (x - w[f"{b}.running_mean"]) / np.sqrt(w[f"{b}.running_var"] + 1e-5) * w[f"{b}.weight"] + w[f"{b}.bias"]
            latents.append(linear(gelu(x), "pred_proj.net.3"))
        costs.append(((latents[-1] - goal) ** 2).sum())
    return np.array(costs)


def asked(seen, horizon, count=24, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((seen, shape.width), np.float32),
        rng.standard_normal((seen - 1, shape.action_dim), np.float32),
        rng.standard_normal((count, horizon, shape.action_dim), np.float32),
        rng.standard_normal(shape.width, np.float32),
    )


@pytest.fixture(scope="module")
def weights():
    return random_lewm_weights(SHAPE, 3)


@pytest.mark.parametrize("kind", [ExactLewmRollout, PlainLewmRollout])
@pytest.mark.parametrize(("seen", "horizon"), [(1, 5), (1, 1), (2, 4), (3, 3), (1, 2)])
def test_costs_are_those_of_the_equations(weights, kind, seen, horizon):
    feed = asked(seen, horizon)
    with torch.inference_mode():
        costs = kind(weights, horizon, 16)(*(torch.from_numpy(values) for values in feed)).numpy()
    np.testing.assert_allclose(costs, costs_by_the_book(weights, SHAPE, *feed), rtol=1e-5)


def test_every_part_of_the_weights_counts(weights):
    """Were a part of them left out, or its gate shut, parity would say nothing about it."""
    feed = [torch.from_numpy(values) for values in asked(1, 4)]
    with torch.inference_mode():
        before = ExactLewmRollout(weights, 4, 16)(*feed)
        for name, value in weights.items():
            if name.endswith("attn.norm.bias") or name == "predictor.transformer.layers.0.attn.to_qkv.weight":
                continue
            after = ExactLewmRollout(weights | {name: value + 0.2 * torch.randn_like(value).abs()}, 4, 16)(*feed)
            assert (after - before).abs().max() > 1e-3, name


@pytest.fixture(scope="module")
def graph():
    return lewm_rollout(random_lewm_weights(SHORT, 4), 3, head_width=16)


def test_the_graph_gives_the_same_costs_for_any_number_of_candidates(graph):
    for count in (1, 7, 64):
        feed = asked(1, 3, count)
        np.testing.assert_allclose(graph.costs(*feed), costs_by_the_book(random_lewm_weights(SHORT, 4), SHORT, *feed), rtol=1e-5)


def test_eight_bits_rank_candidates_alike(graph):
    feed = asked(1, 3, 256)
    exact = graph.costs(*feed)
    session = onnxruntime.InferenceSession(quantised(graph.model).SerializeToString(), session_options(1), providers=["CPUExecutionProvider"])
    small = session.run(None, _feed(session, feed))[0]
    assert 0 < np.abs(small - exact).max() < 0.1 * exact.mean()
    assert np.corrcoef(small, exact)[0, 1] > 0.99


def _feed(session, feed):
    named = dict(zip(("context", "past_actions", "actions", "goal"), feed, strict=True))
    return {value.name: named[value.name] for value in session.get_inputs()}


def test_inputs_of_another_shape_are_refused(graph):
    context, past, actions, goal = asked(1, 3)
    with pytest.raises(ValueError, match=r"actions must be \(24, 3, 4\) float32, not \(24, 2, 4\) float32"):
        graph.costs(context, past, actions[:, :2], goal)
    with pytest.raises(ValueError, match="goal must be"):
        graph.costs(context, past, actions, goal.astype(np.float64))


def test_weights_of_something_else_are_refused_in_one_line(weights):
    layer = "predictor.transformer.layers.1"

    def without(name):
        return {key: value for key, value in weights.items() if key != name}

    wrong = {
        "pos_embedding is missing": without("predictor.pos_embedding"),
        "layers.1.mlp.net.4.bias is missing": without(f"{layer}.mlp.net.4.bias"),
        r"layers.1.attn.to_qkv.weight is of shape \(90, 32\), must be of shape \(96, 32\)": weights
        | {f"{layer}.attn.to_qkv.weight": torch.zeros(90, 32)},
        "net.9.weight is of shape .*, must be missing": weights | {"pred_proj.net.9.weight": torch.zeros(3)},
        "not finite": weights | {f"{layer}.mlp.net.1.bias": torch.full((64,), torch.nan)},
    }
    for match, given in wrong.items():
        with pytest.raises(LewmWeightsError, match=match) as refused:
            ExactLewmRollout(given, 3, head_width=16)
        assert "\n" not in str(refused.value)
    with pytest.raises(LewmWeightsError, match="no multiple of head_width 24"):
        ExactLewmRollout(weights, 3, head_width=24)
    with pytest.raises(LewmWeightsError, match="sees 1 to 3"):
        lewm_rollout(weights, 3, seen=4, head_width=16)
    with pytest.raises(ValueError, match="must be one of exact, plain, int8"):
        lewm_rollout(weights, 3, arithmetic="fp4")


def test_an_encoder_among_the_weights_is_overlooked(weights):
    more = weights | {"encoder.embeddings.cls_token": torch.zeros(1, 1, 8), "projector.net.0.weight": torch.zeros(3, 3)}
    assert ExactLewmRollout(more, 2, head_width=16).shape == SHAPE


def trained_alike(history, tokens, depth=3):
    torch.manual_seed(5)
    predictor = TransformerPredictor(history, tokens, 12, 2, 32, depth, 4, 0.0).eval()
    with torch.no_grad():
        for parameter in predictor.parameters():  # gates are shut before training
            parameter.add_(0.1 * torch.randn_like(parameter))
    return predictor


@pytest.mark.parametrize("history", [1, 2, 3, 4])
@pytest.mark.parametrize("tokens", [1, 4])
def test_our_transformer_imagines_the_same(history, tokens):
    predictor = trained_alike(history, tokens)
    torch.manual_seed(1)
    latents, past, actions = torch.randn(1, history, 12 * tokens), torch.randn(1, history - 1, 2), torch.randn(9, 6, 2)
    with torch.inference_mode():
        expected = predictor(latents.expand(9, -1, -1), past.expand(9, -1, -1), actions)
        found = ExactTransformerRollout(predictor, 6)(latents, past, actions)
    assert (expected - latents[:, -1:]).abs().mean() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_our_transformers_graph_imagines_the_same():
    predictor = trained_alike(2, 4, depth=2)
    model = transformer_rollout_graph(predictor, 2)
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"])
    torch.manual_seed(2)
    latents, past, actions = torch.randn(1, 2, 48), torch.randn(1, 1, 2), torch.randn(5, 2, 2)
    with torch.inference_mode():
        expected = predictor(latents.expand(5, -1, -1), past.expand(5, -1, -1), actions).numpy()
    found = session.run(None, {"latents": latents.numpy(), "past_actions": past.numpy(), "actions": actions.numpy()})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def small_dinov2():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(image_size=70, patch_size=14, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=4)
    model = transformers.Dinov2Model(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


def test_a_folded_dinov2_sees_the_same_in_floats_and_nearly_in_eight_bits():
    model, mean, std = small_dinov2(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    frames = torch.randint(0, 256, (1, 42, 42, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    pictures = (frames.permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    folded = LeanDinoV2(model, 42, mean, std)
    with torch.inference_mode():
        expected = model(pixel_values=pictures).last_hidden_state
        torch.testing.assert_close(folded(frames), expected, atol=2e-5, rtol=1e-5)
    graph = to_onnx(folded, (frames,), {"frames": {}}, ["tokens"])
    cosines = {}
    for name, keep in (("all", ()), ("but pixels", ("enter.matrix",))):
        small = quantised(graph, attention=True, keep=keep)
        session = onnxruntime.InferenceSession(small.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"frames": frames.numpy()})[0])
        cosines[name] = torch.cosine_similarity(found, expected, dim=-1).min().item()
    assert 0.995 < cosines["but pixels"] < 1 - 1e-6
    assert cosines["all"] < cosines["but pixels"], "eight bits cost most where pixels go in"
