"""Predictors: what they may know, what they say untrained, and that each computes what its formula says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_runs import SETTINGS, tiny_config

from world_model.config import ConfigError, parse_config
from world_model.encoders.encoder import Encoder
from world_model.jepa import Jepa
from world_model.predictors.action_prefix import ActionPrefixPredictor
from world_model.predictors.attention import ModulatedBlock
from world_model.predictors.predictor import Predictor
from world_model.predictors.registry import KINDS, PredictorConfig, build_predictor
from world_model.predictors.transformer import TransformerPredictor
from world_model.training import build

HISTORY, TOKENS, DIM, ACTIONS = 3, 4, 5, 2
ATTENDING = ("transformer", "action_prefix")
HORIZON = 6


def predictor(kind: str, tokens: int = TOKENS, trained: bool = True, **changes: object) -> Predictor:
    """One whose weights are anything but zero, unless it is to be untrained."""
    torch.manual_seed(0)
    config = PredictorConfig(**({"kind": kind, "width": 16, "depth": 2, "heads": 2, "horizon": HORIZON} | changes))
    made = build_predictor(config, HISTORY, tokens, DIM, ACTIONS)
    if trained:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return made.eval()


def inputs(horizon: int, count: int = 3, tokens: int = TOKENS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = ((HISTORY, tokens * DIM), (HISTORY - 1, ACTIONS), (horizon, ACTIONS))
    return tuple(torch.randn(count, *shape, generator=rng) for shape in shapes)


def differs(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Whether ``(N, T, ...)`` differ, for each of T."""
    return ((a - b).abs() > 1e-5).transpose(0, 1).flatten(1).any(1)


# Causality.


@pytest.mark.parametrize("tokens", [1, TOKENS])
@pytest.mark.parametrize("changed", range(HISTORY))
@pytest.mark.parametrize("what", ["latents", "actions"])
def test_a_transformer_sees_no_later_frame_and_no_later_action(what, changed, tokens):
    model = predictor("transformer", tokens)
    assert isinstance(model, TransformerPredictor)
    latents, _, actions = inputs(HISTORY, tokens=tokens)
    other = {"latents": latents.clone(), "actions": actions.clone()}
    other[what][:, changed] += 1.0
    with torch.no_grad():
        moved = differs(model.places(latents, actions), model.places(**other))
    assert moved.tolist() == [place >= changed for place in range(HISTORY)]


def test_a_transformer_s_gradients_run_to_all_tokens_of_its_own_and_earlier_frames_and_to_no_others():
    model = predictor("transformer")
    latents, _, actions = inputs(HISTORY)
    for place in range(HISTORY):
        for token in range(TOKENS):
            given = latents.clone().requires_grad_()
            model.places(given, actions)[:, place, token * DIM : (token + 1) * DIM].sum().backward()
            reached = given.grad.abs().sum(0).view(HISTORY, TOKENS, DIM).sum(-1) > 0
            assert reached[: place + 1].all() and not reached[place + 1 :].any()


def test_the_step_of_a_transformer_is_the_last_of_its_places():
    model = predictor("transformer")
    latents, _, actions = inputs(HISTORY)
    with torch.no_grad():
        assert torch.allclose(model.step(latents, actions), model.places(latents, actions)[:, -1], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changed", [0, 2, 5, 8])
def test_a_prediction_depends_on_the_actions_up_to_it_only(kind, changed):
    """Also beyond the horizon of one pass."""
    model, (latents, past, actions) = predictor(kind), inputs(9)
    other = actions.clone()
    other[:, changed] += 1.0
    with torch.no_grad():
        moved = differs(model(latents, past, actions), model(latents, past, other))
    assert moved.tolist() == [step >= changed for step in range(9)]


def test_gradients_of_an_action_prefix_run_to_its_actions_and_to_the_whole_context():
    model, (latents, past, actions) = predictor("action_prefix"), inputs(HORIZON)
    for step in range(HORIZON):
        given = [value.clone().requires_grad_() for value in (latents, past, actions)]
        model(*given)[:, step].sum().backward()
        reached = given[2].grad.abs().sum((0, 2)) > 0
        assert reached.tolist() == [index <= step for index in range(HORIZON)]
        assert (given[0].grad.abs().sum((0, 2)) > 0).all() and (given[1].grad.abs().sum((0, 2)) > 0).all()


def test_a_longer_plan_begins_like_a_shorter_one_and_rolls_on_from_what_was_imagined():
    model, (latents, past, actions) = predictor("action_prefix"), inputs(HORIZON + 3)
    assert isinstance(model, ActionPrefixPredictor)
    with torch.no_grad():
        whole = model(latents, past, actions)
        assert torch.allclose(whole[:, :2], model(latents, past, actions[:, :2]), atol=1e-6)
        context, done = whole[:, HORIZON - HISTORY : HORIZON], actions[:, HORIZON - HISTORY + 1 : HORIZON]
        assert torch.allclose(whole[:, HORIZON:], model(context, done, actions[:, HORIZON:]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_imagined_depends_on_all_of_the_context(kind):
    model, (latents, past, actions) = predictor(kind), inputs(2)
    with torch.no_grad():
        before = model(latents, past, actions)
        for place in range(HISTORY):
            other = latents.clone()
            other[:, place] += 1.0
            assert differs(before, model(other, past, actions)).all()
        for place in range(HISTORY - 1):
            other = past.clone()
            other[:, place] += 1.0
            assert differs(before, model(latents, other, actions)).all()


# Formulas.


@pytest.mark.parametrize("tokens", [1, TOKENS])
@pytest.mark.parametrize("kind", ATTENDING)
def test_untrained_it_predicts_that_nothing_changes_and_it_can_learn_otherwise(kind, tokens):
    model, (latents, past, actions) = predictor(kind, tokens, trained=False), inputs(4, tokens=tokens)
    imagined = model(latents, past, actions)
    assert torch.equal(imagined, latents[:, -1:].expand_as(imagined))
    (imagined - torch.randn(imagined.shape, generator=torch.Generator().manual_seed(2))).square().sum().backward()
    assert model.readout.leave.weight.grad.abs().max() > 0
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    assert (model(latents, past, actions) - imagined).abs().max() > 1e-3


def layer_norm(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-5)


def gelu(values: np.ndarray) -> np.ndarray:
    return values * 0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2)))


def test_one_token_is_a_residual_network_on_the_concatenated_history():
    """Evaluated with NumPy in double precision."""
    model, (latents, past, actions) = predictor("one_token", 1), inputs(1, tokens=1)
    weights = {key: value.double().numpy() for key, value in model.state_dict().items()}

    def linear(name: str, values: np.ndarray) -> np.ndarray:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, values: np.ndarray) -> np.ndarray:
        return layer_norm(values) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    done = np.concatenate([past.numpy(), actions.numpy()], axis=1)
    hidden = linear("enter", np.concatenate([latents.numpy().reshape(3, -1), done.reshape(3, -1)], axis=1))
    for block in ("blocks.0", "blocks.1"):
        hidden = hidden + linear(f"{block}.3", gelu(linear(f"{block}.1", norm(f"{block}.0", hidden))))
    expected = latents.numpy()[:, -1] + linear("leave.1", norm("leave.0", hidden))
    with torch.no_grad():
        assert np.allclose(model(latents, past, actions)[:, 0].numpy(), expected, atol=1e-4)


def test_a_block_is_adaln_zero():
    """DiT, figure 3: y = x + gate1 * attention(norm(x) (1 + scale1) + shift1), then the same with the MLP; token by token with NumPy."""
    torch.manual_seed(0)
    frames, tokens, width, heads = 3, 2, 8, 2
    block = ModulatedBlock(width, heads, dropout=0.0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    weights = {key: value.double().numpy() for key, value in block.state_dict().items()}
    hidden, condition = torch.randn(1, frames, tokens, width), torch.randn(1, frames, width)
    sees = torch.tensor([[True, False, True], [True, True, False], [False, True, True]])
    with torch.no_grad():
        found = block(hidden, condition, sees)[0].numpy()

    def linear(name: str, values: np.ndarray) -> np.ndarray:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    x, c = hidden[0].double().numpy(), condition[0].double().numpy()
    steer = linear("modulation.1", c / (1 + np.exp(-c)))
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = (steer[:, None, i * width : (i + 1) * width] for i in range(6))
    normal = layer_norm(x) * (1 + scale) + shift
    query, pairs = linear("query", normal), linear("key_value", normal)
    part = width // heads
    for frame in range(frames):
        for token in range(tokens):
            mixed = []
            for head in range(heads):
                own = slice(head * part, (head + 1) * part)
                places = [(f, t) for f in range(frames) for t in range(tokens) if sees[frame, f]]
                scores = np.array([query[frame, token, own] @ pairs[f, t, own] / math.sqrt(part) for f, t in places])
                share = np.exp(scores) / np.exp(scores).sum()
                mixed.append(sum(s * pairs[f, t, width:][own] for s, (f, t) in zip(share, places, strict=True)))
            after = x[frame, token] + gate[frame, 0] * linear("mix.0", np.concatenate(mixed))
            inner = gelu(linear("mlp.0", layer_norm(after) * (1 + mlp_scale[frame, 0]) + mlp_shift[frame, 0]))
            after = after + mlp_gate[frame, 0] * linear("mlp.3", inner)
            assert np.allclose(found[frame, token], after, atol=1e-4)


def test_frames_that_are_only_looked_at_change_nothing_for_the_others():
    torch.manual_seed(0)
    block = ModulatedBlock(8, 2, dropout=0.0)
    torch.nn.init.normal_(block.modulation[1].weight)
    hidden, condition, sees = torch.randn(2, 4, 3, 8), torch.randn(2, 4, 8), torch.ones(4, 4, dtype=torch.bool).tril()
    with torch.no_grad():
        assert torch.allclose(block(hidden, condition, sees[2:], 2), block(hidden, condition, sees)[:, 2:], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_for_training_only(kind):
    model, given = predictor(kind, dropout=0.5), inputs(2)
    with torch.no_grad():
        assert torch.equal(model(*given), model(*given))
        model.train()
        assert not torch.equal(model(*given), model(*given))


# Windows.


class NoEncoder(Encoder):
    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens, self.feature_dim = tokens, 1

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_predicted_from_each_place_and_imagined_from_its_beginning(kind):
    jepa, length = Jepa(NoEncoder(TOKENS), predictor(kind), DIM), 8
    rng = torch.Generator().manual_seed(3)
    latents, actions = torch.randn(2, length, TOKENS * DIM, generator=rng), torch.randn(2, length - 1, ACTIONS, generator=rng)
    with torch.no_grad():
        predicted = jepa.predict_window(latents, actions)
        assert predicted.next.shape == (2, length - 1, TOKENS * DIM) and predicted.imagined.shape == (2, length - HISTORY, TOKENS * DIM)
        for place in range(length - 1):
            frames = [max(0, place - back) for back in range(HISTORY - 1, -1, -1)]
            done = [actions[:, place - back] if place >= back else torch.zeros(2, ACTIONS) for back in range(HISTORY - 1, -1, -1)]
            after = jepa.predictor(latents[:, frames], torch.stack(done[:-1], 1), done[-1][:, None])[:, 0]
            assert torch.allclose(predicted.next[:, place], after, atol=1e-5)
        imagined = jepa.predictor(latents[:, :HISTORY], actions[:, : HISTORY - 1], actions[:, HISTORY - 1 :])
        assert torch.allclose(predicted.imagined, imagined, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_rollout_reaches_its_beginning(kind):
    model, (latents, past, actions) = predictor(kind), inputs(9)
    latents.requires_grad_()
    model(latents, past, actions)[:, -1].sum().backward()
    assert (latents.grad.abs().sum((0, 2)) > 0).all()


# Configuration.


def test_an_unknown_predictor_lists_those_that_exist():
    with pytest.raises(ValueError, match="unknown predictor kind 'lstm'; choose one_token, transformer or action_prefix"):
        build_predictor(PredictorConfig(kind="lstm"), 3, 1, 8, 2)


def test_passes_longer_than_training_shows_are_refused():
    jepa = SETTINGS["jepa"]
    with pytest.raises(ConfigError, match=r"horizon is 8, but windows of 5 frames show 2 steps after the history; lower it or set jepa.window to 11"):
        parse_config(SETTINGS | {"model": {"predictor": {"kind": "action_prefix"}}}, "tiny")
    parse_config(SETTINGS | {"model": {"predictor": {"kind": "action_prefix"}}, "jepa": jepa | {"window": 11}}, "tiny")
    parse_config(SETTINGS | {"model": {"predictor": {"kind": "action_prefix", "horizon": 2}}}, "tiny")


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_chooses(kind):
    config = tiny_config(model={"predictor": {"kind": kind, "width": 8, "depth": 1, "heads": 2, "horizon": 2}})
    assert type(build(config, (64, 64, 3), 3).jepa.predictor) is type(predictor(kind))
