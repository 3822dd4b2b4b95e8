"""A LeWorldModel's weights as one ONNX graph that turns candidate actions into costs, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from world_model.graphs import to_onnx
from world_model.lean.exact_reuse import ExactLewmRollout
from world_model.lean.int8 import quantised
from world_model.lean.plain import PlainLewmRollout
from world_model.lean.weights import LewmShape, LewmWeightsError

F32 = NDArray[np.float32]
ARITHMETIC = ("exact", "plain", "int8")


class LewmRollout:
    """Costs of candidate actions under a LeWorldModel: ``rollout.costs(context, past_actions, actions, goal)``.

    ``shape`` is that of the model, ``horizon`` H the number of steps, ``model`` the ONNX graph.
    """

    def __init__(self, model: Any, shape: LewmShape, horizon: int, seen: int, threads: int = 1) -> None:
        self.model, self.shape, self.horizon, self.seen = model, shape, horizon, seen
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(threads), providers=["CPUExecutionProvider"])
        self._inputs = {value.name for value in self._session.get_inputs()}

    def costs(self, context: F32, past_actions: F32, actions: F32, goal: F32) -> F32:
        """Squared distance ``(N,)`` of the last imagined latent to ``goal (D,)``, summed over D; what stable-worldmodel's LeWM calls its cost.

        ``context (C, D)``: the latents that were seen, oldest first, the same for all candidates; ``past_actions (C-1, A)`` between them;
        ``actions (N, H, A)``, normalised as in training; all float32.

        Raises:
            ValueError: a shape is another one.
        """
        width, acts = self.shape.width, self.shape.action_dim
        expected = {
            "context": (self.seen, width),
            "past_actions": (self.seen - 1, acts),
            "actions": (len(actions), self.horizon, acts),
            "goal": (width,),
        }
        feed = {"context": context, "past_actions": past_actions, "actions": actions, "goal": goal}
        for name, shape in expected.items():
            if feed[name].shape != shape or feed[name].dtype != np.float32:
                raise ValueError(f"{name} must be {shape} float32, not {feed[name].shape} {feed[name].dtype}")
        result: F32 = self._session.run(None, {name: value for name, value in feed.items() if name in self._inputs})[0]
        return result

    def save(self, file: Path) -> None:
        """Write the graph to ``file``."""
        file.write_bytes(self.model.SerializeToString())


def lewm_rollout(
    weights: Mapping[str, Tensor], horizon: int = 5, seen: int = 1, arithmetic: str = "exact", head_width: int = 64, threads: int = 1
) -> LewmRollout:
    """The rollout of a LeWorldModel with these ``weights``: H = ``horizon`` steps after ``seen`` latents, as costs of N candidates.

    Args:
        weights: state dict of stable-worldmodel's or le-wm's ``LeWM`` (``torch.load`` and safetensors give one), its picture encoder overlooked; or
            ``random_lewm_weights(LewmShape(), seed)``.
        arithmetic: ``exact``, the same function with everything that can be reused reused; ``plain``, as its authors write it, for comparison;
            ``int8``, ``exact`` with 8-bit matrices, an approximation.
        horizon: H.
        seen: C latents of context, 1 in stable-worldmodel's planning.
        head_width: width of one head of attention, which weights do not tell; 64 in published models.
        threads: of ONNX Runtime.

    Raises:
        LewmWeightsError: the weights are not those of a LeWorldModel, or it cannot see as many latents.
    """
    if arithmetic not in ARITHMETIC:
        raise ValueError(f"arithmetic is '{arithmetic}', must be one of {', '.join(ARITHMETIC)}")
    module = lewm_module(weights, horizon, arithmetic, head_width)
    shape = module.shape
    if not 1 <= seen <= shape.frames or horizon < 1:
        raise LewmWeightsError(f"{seen} latents seen and {horizon} steps ahead: this model sees 1 to {shape.frames}, and steps must be at least 1")
    model = _graph(module, shape, horizon, seen)
    return LewmRollout(quantised(model) if arithmetic == "int8" else model, shape, horizon, seen, threads)


def lewm_module(weights: Mapping[str, Tensor], horizon: int, arithmetic: str, head_width: int = 64) -> PlainLewmRollout | ExactLewmRollout:
    """The same in torch, before it becomes a graph; ``int8`` begins as ``exact``."""
    return (PlainLewmRollout if arithmetic == "plain" else ExactLewmRollout)(weights, horizon, head_width)


def session_options(threads: int) -> Any:
    """All of ONNX Runtime's fusions, and no thread that spins while it waits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _graph(module: nn.Module, shape: LewmShape, horizon: int, seen: int) -> Any:
    args = (
        torch.zeros(seen, shape.width),
        torch.zeros(seen - 1, shape.action_dim),
        torch.zeros(7, horizon, shape.action_dim),
        torch.zeros(shape.width),
    )
    inputs: dict[str, dict[int, Any]] = {"context": {}, "past_actions": {}, "actions": {0: Dim("N")}, "goal": {}}
    return to_onnx(module, args, inputs, ["costs"])
