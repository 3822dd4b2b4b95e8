"""Every kind of encoder, way of keeping tokens and kind of predictor as a graph: ONNX Runtime computes what torch computes."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from small_backbones import FAMILIES, SIZE, small_backbone

from world_model.encoders.proprioception import Proprioception
from world_model.encoders.registry import EncoderConfig, build_encoder
from world_model.graphs import encoder_graph
from world_model.jepa import Jepa
from world_model.lean.rollout import lean_rollout_graph
from world_model.predictors.registry import KINDS, PredictorConfig, build_predictor

FRAME, HISTORY, DIM, ACTIONS = (48, 40, 3), 3, 6, 2
CONVOLUTIONAL = [EncoderConfig(stem=stem) for stem in ("conv", "patch")]
VIT = [EncoderConfig(kind="vit", size=SIZE, width=24, depth=1, heads=2, tokens=tokens) for tokens in ("global", "pooled", "patches")]


def model(encoder: EncoderConfig, predictor: PredictorConfig, joints: int = 0) -> Jepa:
    """One with statistics of its own, as after training, and nothing left at its initial zeros."""
    torch.manual_seed(0)
    built = build_encoder(encoder, *FRAME[:2])
    proprioception = Proprioception(joints, DIM) if joints else None
    jepa = Jepa(built, build_predictor(predictor, HISTORY, built.tokens, DIM, ACTIONS), DIM, proprioception)
    with torch.no_grad():
        for parameter in jepa.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for buffer in jepa.projector[1].buffers():
            buffer += torch.rand_like(buffer, dtype=torch.float32).to(buffer.dtype)
    return jepa.eval()


def session(graph: object) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


def assert_encodes_alike(jepa: Jepa) -> None:
    runtime, rng = session(encoder_graph(jepa, FRAME)), np.random.default_rng(0)
    for count in (1, 5):
        feed = {"frames": rng.integers(0, 256, (count, *FRAME), dtype=np.uint8)}
        if jepa.proprioception is not None:
            feed["joints"] = rng.uniform(-2, 2, (count, jepa.proprioception.joints)).astype(np.float32)
            feed["joints"][1::2] = np.nan
        with torch.no_grad():
            expected = jepa.encode(*(torch.from_numpy(value) for value in feed.values())).numpy()
        assert expected.shape == (count, jepa.latent_dim)
        assert np.abs(runtime.run(None, feed)[0] - expected).max() < 1e-4


@pytest.mark.parametrize("encoder", CONVOLUTIONAL + VIT, ids=lambda config: f"{config.kind}-{config.stem}-{config.tokens}")
def test_an_encoder_built_here_becomes_a_graph(encoder):
    assert_encodes_alike(model(encoder, PredictorConfig(width=8, depth=1)))


@pytest.mark.parametrize("tokens", ["global", "pooled", "patches"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pretrained_encoder_becomes_a_graph(family, tokens, tmp_path_factory):
    source = str(small_backbone(tmp_path_factory.getbasetemp(), family))
    assert_encodes_alike(model(EncoderConfig(kind=family, source=source, size=SIZE, tokens=tokens), PredictorConfig(width=8, depth=1)))


@pytest.mark.parametrize("encoder", [CONVOLUTIONAL[0], VIT[1]], ids=["one token", "four tokens"])
def test_joints_are_a_second_input_of_the_graph(encoder):
    assert_encodes_alike(model(encoder, PredictorConfig(width=8, depth=1), joints=7))


@pytest.mark.parametrize("encoder", [CONVOLUTIONAL[0], VIT[1]], ids=["one token", "four tokens"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_predictor_becomes_one_graph_for_any_number_of_candidates_and_steps(kind, encoder):
    jepa = model(encoder, PredictorConfig(kind=kind, width=16, depth=2, heads=2, dropout=0.1, horizon=8))
    runtime, rng = session(lean_rollout_graph(jepa)), np.random.default_rng(0)
    for count, horizon in ((1, 1), (5, 1), (1, 8), (4, 7)):
        shapes = {
            "latents": (count, HISTORY, jepa.latent_dim),
            "past_actions": (count, HISTORY - 1, ACTIONS),
            "actions": (count, horizon, ACTIONS),
        }
        feed = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        with torch.no_grad():
            expected = jepa.rollout(*(torch.from_numpy(value) for value in feed.values())).numpy()
        assert np.abs(runtime.run(None, feed)[0] - expected).max() < 1e-4
        still = np.repeat(feed["latents"][:, -1:], horizon, 1)
        assert np.abs(expected - still).max() > 0.1, "the predictor predicts something"
