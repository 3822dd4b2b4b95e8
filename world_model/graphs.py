"""Trained networks as ONNX graphs, with normalisation inside, the number of rows free, and the whole of a rollout in one graph."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.export import Dim

from world_model.actor import GoalActor
from world_model.jepa import Jepa
from world_model.predictors.action_prefix import ActionPrefixPredictor
from world_model.predictors.predictor import StepPredictor

_OPSET = 18


class _Step(nn.Module):
    """One step of imagination with its context, the body of the rollout's loop."""

    def __init__(self, predictor: StepPredictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, latents: Tensor, past_actions: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        window = torch.cat([past_actions, action[:, None]], dim=1)
        after = self.predictor.step(latents, window)
        return torch.cat([latents[:, 1:], after[:, None]], dim=1), window[:, 1:], after.clone()


class _OnePass(nn.Module):
    def __init__(self, predictor: ActionPrefixPredictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        return self.predictor.one_pass(latents, past_actions, actions)


class _Rollout(nn.Module):
    def __init__(self, jepa: Jepa) -> None:
        super().__init__()
        self.jepa = jepa

    def forward(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        return self.jepa.rollout(latents, past_actions, actions)


class _Encode(nn.Module):
    def __init__(self, jepa: Jepa) -> None:
        super().__init__()
        self.jepa = jepa

    def forward(self, frames: Tensor) -> Tensor:
        return self.jepa.encode(frames)


class _EncodeWithJoints(nn.Module):
    def __init__(self, jepa: Jepa) -> None:
        super().__init__()
        self.jepa = jepa

    def forward(self, frames: Tensor, joints: Tensor) -> Tensor:
        return self.jepa.encode(frames, joints)


class _Distance(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, latents: Tensor, goal: Tensor) -> Tensor:
        distance: Tensor = self.head(latents, goal[None])
        return distance


class _Propose(nn.Module):
    def __init__(self, actor: GoalActor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, latents: Tensor, goal: Tensor, steps_left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixture: tuple[Tensor, Tensor, Tensor] = self.actor(latents, goal[None].expand_as(latents), steps_left)
        return mixture


def encoder_graph(jepa: Jepa, frame: tuple[int, int, int]) -> onnx.ModelProto:
    """``frames (N, h, w, 3) uint8`` and, with proprioception, ``joints (N, J)`` to ``latents (N, D)``."""
    rows = Dim("N")
    pictures = torch.zeros(2, *frame, dtype=torch.uint8)
    if jepa.proprioception is None:
        return to_onnx(_Encode(jepa), (pictures,), {"frames": {0: rows}}, ["latents"])
    joints = torch.zeros(2, jepa.proprioception.joints)
    return to_onnx(_EncodeWithJoints(jepa), (pictures, joints), {"frames": {0: rows}, "joints": {0: rows}}, ["latents"])


def rollout_graph(jepa: Jepa) -> onnx.ModelProto:
    """``latents (N, L, D)``, ``past_actions (N, L-1, A)``, ``actions (N, H, A)`` to ``imagined (N, H, D)``.

    H is free for a predictor that goes step by step, and at most its horizon for one that does all steps in one pass.
    """
    rows, predictor = Dim("N"), jepa.predictor
    history, dim, action_dim = predictor.history, jepa.latent_dim, predictor.action_dim
    latents, past = torch.zeros(2, history, dim), torch.zeros(2, history - 1, action_dim)
    if isinstance(predictor, ActionPrefixPredictor):
        inputs = {"latents": {0: rows}, "past_actions": {0: rows}, "actions": {0: rows}}
        if predictor.horizon > 1:
            inputs["actions"][1] = Dim("H", max=predictor.horizon)
        return to_onnx(_OnePass(predictor), (latents, past, torch.zeros(2, predictor.horizon, action_dim)), inputs, ["imagined"])
    assert isinstance(predictor, StepPredictor)
    step = to_onnx(
        _Step(predictor),
        (latents, past, torch.zeros(2, action_dim)),
        {"step_latents": {0: rows}, "step_actions": {0: rows}, "step_action": {0: rows}},
        ["next_latents", "next_actions", "step_imagined"],
    )
    return _loop(step, history, dim, action_dim)


def fixed_rollout(jepa: Jepa, count: int, horizon: int) -> onnx.ModelProto:
    """The rollout of exactly N = ``count`` candidates over H = ``horizon`` steps, without a loop: every shape is known, as CUDA graphs need it."""
    predictor, dim = jepa.predictor, jepa.latent_dim
    latents, past = torch.zeros(count, predictor.history, dim), torch.zeros(count, predictor.history - 1, predictor.action_dim)
    inputs: dict[str, dict[int, Any]] = {"latents": {}, "past_actions": {}, "actions": {}}
    return to_onnx(_Rollout(jepa), (latents, past, torch.zeros(count, horizon, predictor.action_dim)), inputs, ["imagined"])


def distance_graph(head: nn.Module, latent_dim: int) -> onnx.ModelProto:
    """``latents (N, D)`` and ``goal (D,)`` to ``steps (N,)``."""
    return to_onnx(_Distance(head), (torch.zeros(2, latent_dim), torch.zeros(latent_dim)), {"latents": {0: Dim("N")}, "goal": {}}, ["steps"])


def actor_graph(actor: GoalActor, latent_dim: int) -> onnx.ModelProto:
    """``latents (N, D)``, ``goal (D,)`` and ``steps_left (N,)`` to ``logits``, ``mean`` and ``std`` of the mixture."""
    rows = Dim("N")
    inputs: dict[str, dict[int, Any]] = {"latents": {0: rows}, "goal": {}, "steps_left": {0: rows}}
    return to_onnx(_Propose(actor), (torch.zeros(2, latent_dim), torch.zeros(latent_dim), torch.ones(2)), inputs, ["logits", "mean", "std"])


def to_onnx(module: nn.Module, args: tuple[Tensor, ...], inputs: dict[str, dict[int, Any]], outputs: list[str]) -> onnx.ModelProto:
    """The graph of ``module``: named ``inputs`` with their free dimensions, and ``outputs``; it names no folder of this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # and what it says of torchvision, which nothing here needs
        program = torch.onnx.export(
            module.eval(),
            args,
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=tuple(inputs.values()),
            verbose=False,
        )
    assert program is not None
    return _without_traces(program.model_proto)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without the exporter's stack traces, which name the folders of the machine that it ran on."""
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def _loop(step: onnx.ModelProto, history: int, latent_dim: int, action_dim: int) -> onnx.ModelProto:
    """Wrap the one-step graph into a Scan over the action axis, so that N and H stay free and the whole rollout is one graph."""
    scan = helper.make_node(
        "Scan",
        ["latents", "past_actions", "actions"],
        ["last_latents", "last_actions", "imagined"],
        body=step.graph,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
    )
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [scan],
        "rollout",
        [
            helper.make_tensor_value_info("latents", floats, ["N", history, latent_dim]),
            helper.make_tensor_value_info("past_actions", floats, ["N", history - 1, action_dim]),
            helper.make_tensor_value_info("actions", floats, ["N", "H", action_dim]),
        ],
        [helper.make_tensor_value_info("imagined", floats, ["N", "H", latent_dim])],
    )
    model = helper.make_model(graph, opset_imports=step.opset_import, ir_version=step.ir_version, functions=list(step.functions))
    onnx.checker.check_model(model)
    return model
